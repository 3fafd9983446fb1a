import { BadVersionError, ExpiredMetadataError } from 'tuf-js/dist/error.js';
import { AppError } from '../../core/errors.js';

/** Why metadata, or what it is about, was not taken. */
export type TrustRefusal =
  | 'trust-rollback'
  | 'trust-expired'
  | 'trust-mixed'
  | 'trust-unsigned'
  | 'trust-threshold'
  | 'trust-wrong-role'
  | 'trust-wrong-target'
  | 'trust-target-unknown'
  | 'trust-too-large'
  | 'trust-too-slow'
  | 'trust-malformed'
  | 'trust-missing'
  | 'trust-unreachable'
  | 'trust-refused';

interface Rule {
  readonly says: RegExp;
  readonly code: TrustRefusal;
  readonly words: (match: RegExpExecArray) => string;
}

/**
 * What tuf-js 6.0.2 says, in our words. It makes a text of most errors, so that their classes are lost: the text tells which
 * it was. What no rule knows is refused all the same, as `trust-refused`.
 */
const RULES: readonly Rule[] = [
  {
    says: /(\w+) was signed by 0\/\d+ keys/,
    code: 'trust-unsigned',
    words: ([, role]) => `the ${role} metadata is not signed by a key that may sign it`,
  },
  {
    says: /(\w+) was signed by (\d+)\/(\d+) keys/,
    code: 'trust-threshold',
    words: ([, role, had, needs]) => `the ${role} metadata is signed by ${had} of the ${needs} keys that must sign it`,
  },
  {
    says: /(?:Final )?([\w-]+)\.json is expired/,
    code: 'trust-expired',
    words: ([, role]) => `the ${role} metadata has expired: somebody keeps newer from us, or nobody has made any`,
  },
  {
    says: /New (timestamp |snapshot |)version (\d+)(?: of ([\w-]+)\.json)? is less than current version (\d+)/,
    code: 'trust-rollback',
    words: ([, role, had, file, trusted]) =>
      `the ${(role ?? '').trim() || file} metadata is version ${had}, older than the ${trusted} that is trusted`,
  },
  {
    says: /Missing file ([\w-]+)\.json in new snapshot/,
    code: 'trust-rollback',
    words: ([, role]) => `the snapshot has no ${role} metadata any more`,
  },
  {
    says: /Expected version (\d+), got (\d+)/,
    code: 'trust-rollback',
    words: ([, wanted, had]) => `the root metadata is version ${had} where ${wanted} comes next`,
  },
  {
    says: /Snapshot version doesn't match timestamp/,
    code: 'trust-mixed',
    words: () => 'the snapshot is not the one that the timestamp names',
  },
  {
    says: /Version \d+ of (\w+) does not match snapshot version|Expected (?:hash|length) .* but got/,
    code: 'trust-mixed',
    words: ([, role]) =>
      `the ${role ?? 'file'} is not the one that the metadata above it names: files of several states are mixed`,
  },
  {
    says: /SyntaxError|JSON/,
    code: 'trust-malformed',
    words: () => 'the metadata is no JSON',
  },
  {
    says: /expected '(\w+)', got|Expected '(\w+)', got/,
    code: 'trust-wrong-role',
    words: ([, role, other]) => `what stands in the place of the ${role ?? other} metadata is of another role`,
  },
  {
    says: /TypeError|ValueError|must be|is not defined|malformed|missing|Unsupported|Failed to parse|duplicate|multiple signatures/,
    code: 'trust-malformed',
    words: () => 'the metadata is not of the form that TUF gives it',
  },
];

const REMEDIES: Partial<Record<TrustRefusal, string>> = {
  'trust-target-unknown':
    'Sign it with: entryphone release sign; then entryphone keys refresh, where the keys of snapshot and timestamp are',
  'trust-expired': 'entryphone keys refresh renews it where the repository is; and see that the clock is right',
  'trust-unsigned': 'Sign it with the keys of this repository; after a rotation, with the new ones',
  'trust-threshold': 'Each holder of a key signs: entryphone keys sign',
  'trust-rollback': 'Serve the newest state of the repository; what is installed stays',
  'trust-mixed': 'Publish the repository whole: timestamp.json last',
};

/** What was thrown while an update was looked for, as the one error that callers see. */
export function refusalOf(thrown: unknown, fetchFault: AppError | undefined): AppError {
  if (thrown instanceof AppError) return thrown;
  const text = String(thrown);
  const rule = RULES.find(({ says }) => says.test(text));
  // tuf-js hands on a fault of the fetch as text, or as itself.
  if (fetchFault !== undefined && text.includes(fetchFault.message)) return fetchFault;
  const match = rule?.says.exec(text);
  if (rule !== undefined && match) return refused(rule.code, rule.words(match), thrown);
  if (thrown instanceof ExpiredMetadataError) return refused('trust-expired', 'the metadata has expired', thrown);
  if (thrown instanceof BadVersionError) return refused('trust-rollback', 'the metadata has a version of old', thrown);
  return refused('trust-refused', `the metadata was refused: ${text.slice(0, 200)}`, thrown);
}

export function refused(code: TrustRefusal, words: string, cause?: unknown): AppError {
  const remedy = REMEDIES[code];
  return new AppError(code, words, { ...(remedy === undefined ? {} : { remedy }), cause });
}
