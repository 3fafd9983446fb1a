import { basename } from 'node:path';
import Table from 'cli-table3';
import { Argument, type Command } from 'commander';
import { writeMinisignKey } from '../../adapters/minisign/minisign.js';
import {
  createKey,
  KEY_ROLES,
  type KeyRole,
  openSigningKey,
  readKeyFolder,
  roleKeys,
  type StoredKey,
} from '../../adapters/tuf/key-folder.js';
import { type SignOutcome, TufRepository } from '../../adapters/tuf/repository.js';
import { ROLES, type Role } from '../../adapters/tuf/roles.js';
import type { SigningKey } from '../../adapters/tuf/signing-key.js';
import { systemClock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import { CLOSE_ROWS, note, PLAIN, printJson } from './output.js';
import { newPassphraseFor, passphraseFor } from './passphrase.js';

interface Json {
  readonly json?: boolean;
}

interface Places extends Json {
  readonly repository: string;
  readonly keys: string;
}

const DAY_MS = 86_400_000;
/** What has less than this to live is signed anew by `keys sign --renew`, and told of before. */
const RENEW_WITHIN_MS = 90 * DAY_MS;

export function addKeysCommands(program: Command): void {
  const keys = program.command('keys').description('who may sign releases (docs/updates.md)');
  keys
    .command('create')
    .description(
      'makes a key; its passphrase is asked, or comes by ENTRYPHONE_PASSPHRASE_FILE or ENTRYPHONE_PASSPHRASE',
    )
    .addArgument(new Argument('<role>', 'what it signs').choices(KEY_ROLES))
    .option('--out <folder>', 'where its two files go', 'keys')
    .option('--json', 'one JSON object')
    .action(create);
  keys
    .command('show [folder]')
    .description('the keys of a folder, the public part')
    .option('--json', 'one JSON object')
    .action(show);
  keys
    .command('init-repository <folder>')
    .description('makes a repository that the keys of a folder may sign: its first root, empty targets and flows')
    .requiredOption('--keys <folder>', 'public keys of all roles, and the private ones that are here')
    .option('--json', 'one JSON object')
    .action(initRepository);
  withPlaces(keys.command('sign'))
    .description('signs what waits, with the keys that are here; publishes it when enough have')
    .option('--renew', 'first stages anew what has less than 90 days to live')
    .action(sign);
  withPlaces(keys.command('refresh'))
    .description(
      'makes a new timestamp, and a snapshot where one is due: to be run daily where the repository is served',
    )
    .action(refresh);
  withPlaces(keys.command('rotate'))
    .description('makes a new key for a role in the place of another, and signs what that takes')
    .addArgument(new Argument('<role>', 'whose').choices(ROLES))
    .option('--remove <key>', 'the one that goes, by its first digits; needed where the role has several')
    .action(rotate);
}

function withPlaces(command: Command): Command {
  return command
    .requiredOption('--repository <folder>', 'the repository')
    .requiredOption('--keys <folder>', 'the keys that are here')
    .option('--json', 'one JSON object');
}

async function create(role: KeyRole, options: Json & { readonly out: string }): Promise<void> {
  const key = await createKey(options.out, role, await newPassphraseFor(`the new key of ${role}`));
  tell(options, { keys: [shown(key)] }, () => {
    note(`made: ${key.path}.pem (keep it off the network where the role is root, targets or flows), ${key.path}.pub`);
  });
}

async function show(folder = 'keys', options: Json = {}): Promise<void> {
  const keys = await readKeyFolder(folder);
  tell(options, { keys: keys.map(shown) }, () => {
    const table = new Table({ head: ['role', 'key', 'private half', 'files'], style: PLAIN, chars: CLOSE_ROWS });
    for (const { role, keyId, hasPrivate, path } of keys) {
      table.push([role, keyId.slice(0, 16), hasPrivate ? 'here' : '-', basename(path)]);
    }
    process.stdout.write(`${table.toString()}\n`);
  });
}

async function initRepository(folder: string, options: Json & { readonly keys: string }): Promise<void> {
  const keys = await readKeyFolder(options.keys);
  const repository = new TufRepository({ dir: folder, clock: systemClock });
  const rescue = keys.filter(({ role }) => role === 'rescue');
  await repository.init(
    roleKeys(keys),
    rescue.map(({ publicHex }) => writeMinisignKey(Buffer.from(publicHex, 'hex'))),
  );
  await signAndTell(repository, { ...options, repository: folder });
}

async function sign(options: Places & { readonly renew?: boolean }): Promise<void> {
  const repository = repositoryOf(options);
  if (options.renew === true) await repository.renew(RENEW_WITHIN_MS);
  await signAndTell(repository, options);
}

async function refresh(options: Places): Promise<void> {
  const repository = repositoryOf(options);
  const outcome = await repository.sign(await openKeys(options.keys, await repository.online()));
  if (!outcome.published.includes('timestamp')) {
    throw new AppError('keys-too-few', `${options.keys} has not the keys of timestamp and snapshot`, {
      remedy: 'They are where the repository is served',
    });
  }
  await report(repository, options, outcome);
}

async function rotate(role: Role, options: Places & { readonly remove?: string }): Promise<void> {
  const repository = repositoryOf(options);
  const before = (await repository.keys())[role];
  const chosen = before.filter(({ keyId }) => keyId.startsWith(options.remove ?? ''));
  const [removed] = chosen;
  if (removed === undefined || chosen.length > 1) {
    throw new AppError('usage', `which key of ${role} goes?`, {
      remedy: `--remove, one of: ${before.map(({ keyId }) => keyId.slice(0, 16)).join(', ')}`,
    });
  }
  const added = await createKey(options.keys, role, await newPassphraseFor(`the new key of ${role}`));
  await repository.rotate(role, { removed: removed.keyId, added });
  note(`new: ${added.path}.pem; the one that goes: ${removed.keyId.slice(0, 16)}`);
  await signAndTell(repository, options);
}

/** Signs what waits, and says what still does. */
export async function signAndTell(repository: TufRepository, options: Places, more: object = {}): Promise<void> {
  const outcome = await repository.sign(await openKeys(options.keys, await repository.wanted()));
  await report(repository, options, outcome, more);
}

async function report(
  repository: TufRepository,
  options: Json,
  outcome: SignOutcome,
  more: object = {},
): Promise<void> {
  const expires = Object.entries(await repository.expiries()).map(([role, ms]) => [role, new Date(ms).toISOString()]);
  tell(options, { ...more, ...outcome, expires: Object.fromEntries(expires) }, () => {
    for (const role of outcome.published) note(`published: ${role}`);
    for (const { role, signatures, threshold } of outcome.waiting) {
      note(`waits: ${role} has ${signatures} of ${threshold} signatures; the others sign with: entryphone keys sign`);
    }
    for (const [role, when] of expires) note(`expires: ${role} ${when}`);
    if (outcome.published.length > 0 && !outcome.published.includes('timestamp')) {
      note('no station sees this yet: run entryphone keys refresh where the keys of snapshot and timestamp are');
    }
  });
}

export function repositoryOf({ repository }: { readonly repository: string }): TufRepository {
  return new TufRepository({ dir: repository, clock: systemClock });
}

/** The private keys of a folder that are wanted; nobody is asked for the passphrase of another. */
async function openKeys(folder: string, wanted: ReadonlySet<string>): Promise<SigningKey[]> {
  const opened: SigningKey[] = [];
  for (const key of await readKeyFolder(folder)) {
    if (!key.hasPrivate || !wanted.has(key.keyId)) continue;
    opened.push(await openNamed(key, openSigningKey));
  }
  return opened;
}

/** Asks for a key's passphrase, and names the key where that is wrong. @throws AppError `key-locked`, `key-invalid` */
export async function openNamed<T>(
  key: StoredKey,
  open: (key: StoredKey, passphrase: string) => Promise<T>,
): Promise<T> {
  const name = basename(key.path);
  try {
    return await open(key, await passphraseFor(name));
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'key-locked') throw error;
    throw new AppError('key-locked', `${name}: ${error.message}`, {
      ...(error.remedy === undefined ? {} : { remedy: error.remedy }),
    });
  }
}

function shown({ role, keyId, publicHex, hasPrivate, path }: StoredKey): object {
  return { role, keyId, public: publicHex, hasPrivate, path };
}

function tell(options: Json, outcome: object, words: () => void): void {
  if (options.json === true) printJson({ ok: true, failed: [], ...outcome });
  else words();
}
