import { Signature } from '@tufjs/models';
import type { Clock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import {
  contentOf,
  delegationsJson,
  type RoleJson,
  type RoleKeys,
  type RootJson,
  readMetadata,
  rootJson,
  signedOf,
  type TargetsJson,
  textOf,
  withFrame,
} from './metadata.js';
import { RepositoryFiles, sha256Of } from './repository-files.js';
import { LIFETIME_MS, OFFLINE_ROLES, type OfflineRole, RESCUE_FIELD, ROLES, type Role, roleOfTarget } from './roles.js';
import type { PublicKey, SigningKey } from './signing-key.js';

/** A file that is to be vouched for. */
export interface NewTarget {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Metadata that waits: how many of its keys have signed, and how many must. */
export interface Waiting {
  readonly role: OfflineRole;
  readonly signatures: number;
  readonly threshold: number;
}

export interface SignOutcome {
  readonly published: readonly Role[];
  readonly waiting: readonly Waiting[];
}

/**
 * The repository's side of TUF 1.0: what is to be said is staged, the holders of keys sign it, each where their keys are, and
 * when enough have, all of it is published at once: no station ever sees a root without what it vouches for. Snapshot and
 * timestamp are made last, where their keys are.
 *
 *   addTargets, rotate, renew ─▶ pending/ ─▶ sign, sign ─▶ metadata/ ─▶ snapshot ─▶ timestamp
 */
export class TufRepository {
  readonly #files: RepositoryFiles;
  readonly #clock: Clock;

  constructor(options: { dir: string; clock: Clock }) {
    this.#files = new RepositoryFiles(options.dir);
    this.#clock = options.clock;
  }

  /**
   * Stages the first root, and empty targets and flows.
   * @throws AppError `repository-exists`, `keys-too-few`
   */
  async init(keys: RoleKeys, rescueKeys: readonly string[] = []): Promise<void> {
    if (!(await this.#files.isEmpty())) {
      throw new AppError('repository-exists', `${this.#files.dir} is a repository already`, {
        remedy: 'Change it with: entryphone keys rotate',
      });
    }
    await this.#stage('root', rootJson(keys, rescueKeys));
    await this.#stage('targets', { targets: {}, delegations: delegationsJson(keys.flows) });
    await this.#stage('flows', { targets: {} });
  }

  /** Stages files, each for the role of its folder. @throws AppError `trust-target-unknown`, `target-changed` */
  async addTargets(added: readonly NewTarget[]): Promise<void> {
    for (const role of ['targets', 'flows'] as const) {
      const own = added.filter(({ path }) => roleOfTarget(path) === role);
      if (own.length === 0) continue;
      const { version: _, ...signed } = await this.#newest<TargetsJson>(role);
      const targets = { ...signed.targets };
      for (const { path, bytes } of own) {
        const entry = { length: bytes.length, hashes: { sha256: sha256Of(bytes) } };
        const before = Object.hasOwn(targets, path) ? targets[path] : undefined;
        if (before !== undefined && before.hashes.sha256 !== entry.hashes.sha256) {
          throw new AppError('target-changed', `${path} has been signed with another content`, {
            remedy: 'A version is never made twice: give the release a new one',
          });
        }
        targets[path] = entry;
      }
      await this.#stage(role, { ...signed, targets });
    }
  }

  /**
   * Stages the exchange of a role's key: the root that says so, and what the key has signed.
   * @throws AppError `key-unknown` where `removed` is none of the role's
   */
  async rotate(role: Role, change: { readonly removed?: string; readonly added?: PublicKey }): Promise<void> {
    const keys = await this.keys();
    if (change.removed !== undefined && !keys[role].some(({ keyId }) => keyId === change.removed)) {
      throw new AppError('key-unknown', `${role} has no key ${change.removed.slice(0, 12)}`, {
        remedy: `It has: ${keys[role].map(({ keyId }) => keyId.slice(0, 12)).join(', ')}`,
      });
    }
    const own = keys[role].filter(({ keyId }) => keyId !== change.removed);
    const next = { ...keys, [role]: change.added === undefined ? own : [...own, change.added] };
    if (role !== 'flows') {
      const root = await this.#newest<RootJson>('root');
      await this.#stage('root', rootJson(next, root[RESCUE_FIELD] ?? []));
    }
    if (role === 'targets' || role === 'flows') {
      const { version: _, delegations: __, ...targets } = await this.#newest<TargetsJson>('targets');
      await this.#stage('targets', { ...targets, delegations: delegationsJson(next.flows) });
    }
    if (role === 'flows') await this.#restage('flows');
  }

  /** Stages whichever of root, targets and flows has less than `withinMs` to live, to be signed anew. */
  async renew(withinMs: number): Promise<void> {
    for (const role of OFFLINE_ROLES) {
      const published = await this.#files.published(role);
      const expiresMs = published === undefined ? 0 : Date.parse(signedOf(published.text).expires as string);
      if (expiresMs - this.#clock.wallMs() < withinMs) await this.#restage(role);
    }
  }

  /**
   * Signs what waits, with those of `keys` that may; publishes it when all has its signatures, and then makes snapshot and
   * timestamp anew, where their keys are among `keys`.
   */
  async sign(keys: readonly SigningKey[]): Promise<SignOutcome> {
    const waiting: Waiting[] = [];
    const complete: OfflineRole[] = [];
    for (const role of OFFLINE_ROLES) {
      const text = (await this.#files.pending(role))?.text;
      if (text === undefined) continue;
      const metadata = readMetadata(role, text);
      for (const key of keys) {
        if (!(await this.#signers(role)).has(key.keyId)) continue;
        metadata.sign((data) => new Signature({ keyID: key.keyId, sig: key.sign(data).toString('hex') }));
      }
      await this.#files.stage(role, textOf(metadata));
      const [left] = await this.#missing(role, metadata);
      if (left === undefined) complete.push(role);
      else waiting.push(left);
    }
    const published: Role[] = [];
    if (waiting.length === 0) {
      for (const role of complete) {
        const { text, version } = (await this.#files.pending(role)) ?? { text: '', version: 0 };
        await this.#files.publish(role, text, version);
        published.push(role);
      }
      for (const role of complete) await this.#files.unstage(role);
    }
    // What waits does not keep a timestamp from being renewed.
    published.push(...(await this.#signOnline(keys)));
    return { published, waiting };
  }

  /** Ids of the keys that have something to sign: what waits, and snapshot and timestamp. */
  async wanted(): Promise<ReadonlySet<string>> {
    const wanted = new Set(await this.online());
    for (const role of OFFLINE_ROLES) {
      if ((await this.#files.pending(role)) === undefined) continue;
      for (const keyId of await this.#signers(role)) wanted.add(keyId);
    }
    return wanted;
  }

  /** Ids of the keys of snapshot and timestamp. */
  async online(): Promise<ReadonlySet<string>> {
    const { snapshot, timestamp } = await this.keys();
    return new Set([...snapshot, ...timestamp].map(({ keyId }) => keyId));
  }

  /** When what is published expires, by role, in ms since 1970. */
  async expiries(): Promise<Partial<Record<Role, number>>> {
    const all = await Promise.all(ROLES.map(async (role) => [role, await this.#files.published(role)] as const));
    return Object.fromEntries(
      all.flatMap(([role, file]) =>
        file === undefined ? [] : [[role, Date.parse(signedOf(file.text).expires as string)]],
      ),
    );
  }

  /** The public keys of each role, as the newest metadata names them, published or not. */
  async keys(): Promise<RoleKeys> {
    const root = await this.#newest<RootJson>('root');
    const targets = await this.#newest<TargetsJson>('targets');
    const of = (role: RoleJson | undefined, all: Readonly<Record<string, object>>): PublicKey[] =>
      (role?.keyids ?? []).map((keyId) => ({
        keyId,
        publicHex: (all[keyId] as { keyval: { public: string } }).keyval.public,
      }));
    const { delegations } = targets;
    return {
      root: of(root.roles.root, root.keys),
      targets: of(root.roles.targets, root.keys),
      snapshot: of(root.roles.snapshot, root.keys),
      timestamp: of(root.roles.timestamp, root.keys),
      flows: of(delegations?.roles[0], delegations?.keys ?? {}),
    };
  }

  /** Snapshot, where it says something new or has half its life behind it, and timestamp, each time. */
  async #signOnline(keys: readonly SigningKey[]): Promise<Role[]> {
    const rootFile = await this.#files.published('root');
    if (rootFile === undefined) return [];
    const { roles } = signedOf(rootFile.text) as unknown as RootJson;
    const keyOf = (role: 'snapshot' | 'timestamp') => keys.find(({ keyId }) => roles[role].keyids.includes(keyId));
    const [snapshotKey, timestampKey] = [keyOf('snapshot'), keyOf('timestamp')];
    const targets = await this.#files.published('targets');
    const flows = await this.#files.published('flows');
    if (targets === undefined || flows === undefined) return [];
    const meta = { 'targets.json': metaOf(targets), 'flows.json': metaOf(flows) };
    const before = await this.#files.published('snapshot');
    const isDue = before === undefined || !(await this.#isGood('snapshot', before.text, meta));
    if (timestampKey === undefined || (isDue && snapshotKey === undefined)) return [];
    const made: Role[] = [];
    let snapshot = before;
    if (isDue && snapshotKey !== undefined) {
      const version = (before?.version ?? 0) + 1;
      snapshot = { version, text: this.#signed('snapshot', { version, meta }, snapshotKey) };
      await this.#files.publish('snapshot', snapshot.text, version);
      made.push('snapshot');
    }
    if (snapshot === undefined) return made;
    const version = ((await this.#files.published('timestamp'))?.version ?? 0) + 1;
    const text = this.#signed('timestamp', { version, meta: { 'snapshot.json': metaOf(snapshot) } }, timestampKey);
    await this.#files.publish('timestamp', text, version);
    return [...made, 'timestamp'];
  }

  async #isGood(role: 'snapshot', text: string, meta: object): Promise<boolean> {
    const root = await this.#files.published('root');
    const signed = signedOf(text);
    if (root === undefined || JSON.stringify(sorted(signed.meta as object)) !== JSON.stringify(sorted(meta)))
      return false;
    if (Date.parse(signed.expires as string) - this.#clock.wallMs() < LIFETIME_MS[role] / 2) return false;
    return isVerified(() => readMetadata('root', root.text).verifyDelegate(role, readMetadata(role, text)));
  }

  #signed(role: 'snapshot' | 'timestamp', content: object, key: SigningKey): string {
    const metadata = readMetadata(
      role,
      JSON.stringify({ signed: withFrame(role, this.#clock.wallMs(), content), signatures: [] }),
    );
    metadata.sign((data) => new Signature({ keyID: key.keyId, sig: key.sign(data).toString('hex') }));
    return textOf(metadata);
  }

  /** Keys that may sign what waits for a role: a new root is signed by the old one's too (clause 5.3.4). */
  async #signers(role: OfflineRole): Promise<ReadonlySet<string>> {
    const allowed = (await this.keys())[role].map(({ keyId }) => keyId);
    const before = role === 'root' ? await this.#files.published('root') : undefined;
    const old = before === undefined ? [] : (signedOf(before.text) as unknown as RootJson).roles.root.keyids;
    return new Set([...allowed, ...old]);
  }

  /** What a role's pending metadata still lacks; empty where it is complete. */
  async #missing(role: OfflineRole, metadata: ReturnType<typeof readMetadata>): Promise<Waiting[]> {
    const above = role === 'flows' ? 'targets' : 'root';
    const judges = [(await this.#files.pending(above)) ?? (await this.#files.published(above))];
    if (role === 'root') judges.push(await this.#files.published('root'));
    return judges.flatMap((judge) => {
      if (judge === undefined) return [];
      try {
        readMetadata(above, judge.text).verifyDelegate(role, metadata);
        return [];
      } catch (error) {
        const [, had, needs] = /signed by (\d+)\/(\d+) keys/.exec(String(error)) ?? [];
        return [{ role, signatures: Number(had ?? 0), threshold: Number(needs ?? 1) }];
      }
    });
  }

  async #newest<T>(role: OfflineRole): Promise<T> {
    const file = (await this.#files.pending(role)) ?? (await this.#files.published(role));
    if (file === undefined) {
      throw new AppError('repository-missing', `${this.#files.dir} is no repository`, {
        remedy: 'Make one with: entryphone keys init-repository',
      });
    }
    return contentOf(signedOf(file.text)) as T;
  }

  async #restage(role: OfflineRole): Promise<void> {
    const { version: _, ...content } = await this.#newest<{ readonly version: number }>(role);
    await this.#stage(role, content);
  }

  /** Whatever had been signed of it is signed anew: it says something else now. */
  async #stage(role: OfflineRole, content: object): Promise<void> {
    const version = ((await this.#files.published(role))?.version ?? 0) + 1;
    const signed = withFrame(role, this.#clock.wallMs(), { version, ...content });
    await this.#files.stage(role, textOf(readMetadata(role, JSON.stringify({ signed, signatures: [] }))));
  }
}

function metaOf({ text, version }: { readonly text: string; readonly version: number }): object {
  return { version, length: Buffer.byteLength(text), hashes: { sha256: sha256Of(text) } };
}

function sorted(value: object): unknown {
  return Object.entries(value)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, one]) => [key, typeof one === 'object' && one !== null ? sorted(one) : one]);
}

function isVerified(check: () => void): boolean {
  try {
    check();
    return true;
  } catch {
    return false;
  }
}
