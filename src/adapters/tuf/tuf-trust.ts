import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { TargetFile } from '@tufjs/models';
import { Updater } from 'tuf-js';
import type { Clock } from '../../core/clock.js';
import { Counters } from '../../core/counters.js';
import { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { Manifest } from '../../fleet/manifest.js';
import { readManifest } from '../../protocol/release-manifest.js';
import { BoundedFetcher, METADATA_URL, missing, ROOTS_ARE_DONE } from './bounded-fetcher.js';
import { readMetadata } from './metadata.js';
import type { MetadataSource } from './metadata-source.js';
import { refusalOf, refused } from './refusal.js';
import { MOST_BYTES, MOST_TARGET_BYTES, RESCUE_FIELD, ROLES, type Role, roleOfTarget, targetOf } from './roles.js';
import { issuedMs, readRoot, readTrustState, type TrustState, writeTrustState } from './trust-state.js';

export interface TufTrustOptions {
  /** `state/trust`: outside the slots, so that no release changes what it is checked by. */
  readonly dir: string;
  /** Root metadata that the station was made with; what `dir` holds comes first. */
  readonly initialRoot: string;
  readonly source: MetadataSource;
  readonly clock: Clock;
  readonly logger: Logger;
  /** How long one file may take to come, in ms. */
  readonly mostFetchMs?: number;
}

/** A file that the repository's keys vouch for. */
export interface TrustedTarget {
  readonly path: string;
  readonly sizeBytes: number;
  /** In hex. */
  readonly sha256: string;
}

/** What is trusted, for people and figures. */
export interface TrustReport {
  readonly versions: Partial<Readonly<Record<Role, number>>>;
  /** When the first of it expires, in ms since 1970. */
  readonly expiresMs: number;
  readonly lastSeenMs: number;
}

const FETCH_MS = 60_000;
/** So many new roots in one go: a station that was away for years follows in several. */
const MOST_ROTATIONS = 64;
/** `targets` and `flows`. */
const MOST_DELEGATIONS = 4;
/** The time alone is written no more often than this: it wears the card. */
const LEAST_TIME_STEP_MS = 3_600_000;

const UPDATER_CONFIG = {
  maxRootRotations: MOST_ROTATIONS,
  maxDelegations: MOST_DELEGATIONS,
  rootMaxLength: MOST_BYTES.root,
  timestampMaxLength: MOST_BYTES.timestamp,
  snapshotMaxLength: MOST_BYTES.snapshot,
  targetsMaxLength: MOST_BYTES.targets,
};

/**
 * What a station believes of releases: the client of TUF 1.0 (clause 5), by tuf-js.
 *
 *   source ─▶ roots, each signed by the one before ─▶ kept ─▶ timestamp ─▶ snapshot ─▶ targets [─▶ flows] ─▶ kept
 *
 * A root is kept as soon as its own checks have passed, so that a key that was withdrawn stays so even if nothing else
 * comes; all other metadata only when the whole has passed, in one file with the time. "Now" is never before the time
 * at which something was trusted last, or before the signed time of a timestamp or of the root, and goes on from there
 * while the station runs: a clock of 1970 makes nothing fresh that has expired.
 */
export class TufTrust {
  readonly refused = new Counters<string>();
  readonly #options: TufTrustOptions;
  #state: TrustState;
  /** Of the monotonic clock, when the state's time was so. */
  #sinceMs: number;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(options: TufTrustOptions, state: TrustState) {
    this.#options = options;
    this.#state = state;
    this.#sinceMs = options.clock.nowMs();
  }

  /** @throws AppError `trust-root-invalid` */
  static async open(options: TufTrustOptions): Promise<TufTrust> {
    const { state, isDamaged } = await readTrustState(options.dir, options.initialRoot);
    if (isDamaged) {
      options.logger.warn({ dir: options.dir }, 'the trust state was damaged: trust begins anew, with the first root');
    }
    return new TufTrust(options, state);
  }

  /** Asks for newer metadata. @throws AppError of a `TrustRefusal` */
  async refresh(): Promise<TrustReport> {
    await this.#alone(() => this.#session());
    return this.report();
  }

  /** What the newest metadata says of a target. @throws AppError of a `TrustRefusal` */
  async target(path: string): Promise<TrustedTarget> {
    return this.#alone(async () => {
      roleOfTarget(path);
      const found = await this.#session(path);
      if (found !== undefined) return trustedTarget(found);
      throw refused('trust-target-unknown', `${path} is signed by nobody who may sign it`);
    });
  }

  /** The target's bytes, checked. @throws AppError of a `TrustRefusal` */
  async fetchTarget(target: TrustedTarget): Promise<Buffer> {
    return this.#alone(async () => {
      const bytes = await this.#fetcher().read(target.path, target.sizeBytes);
      if (bytes === undefined) throw missing(target.path);
      checkTarget(target, bytes);
      return bytes;
    });
  }

  /** Whether these bytes are a target that is signed. @throws AppError of a `TrustRefusal` */
  async check(path: string, bytes: Uint8Array): Promise<void> {
    checkTarget(await this.target(path), bytes);
  }

  /**
   * The manifest of a release that may be installed: signed by who may sign its kind, and of the path that it was asked for.
   * @throws AppError of a `TrustRefusal`
   */
  async manifest(path: string): Promise<Manifest> {
    return (await this.signedManifest(path)).manifest;
  }

  /** The same, with the bytes that were signed. @throws AppError of a `TrustRefusal` */
  async signedManifest(path: string): Promise<{ manifest: Manifest; bytes: Uint8Array }> {
    const bytes = await this.fetchTarget(await this.target(path));
    return this.#alone(async () => {
      const found = readManifest(bytes);
      if (!found.ok) throw refused('trust-malformed', `${path} is no manifest: ${found.why}`);
      checkPlace(path, found.value);
      return { manifest: found.value, bytes };
    });
  }

  /** Public keys (minisign's text form) that may sign a rescue, as the trusted root names them. */
  rescueKeys(): readonly string[] {
    const told = readRoot(this.#state.metadata.root).signed.unrecognizedFields[RESCUE_FIELD];
    return Array.isArray(told) ? told.filter((one) => typeof one === 'string').slice(0, 8) : [];
  }

  report(): TrustReport {
    const { metadata, lastSeenMs } = this.#state;
    const all = ROLES.flatMap((role) => {
      const text = metadata[role];
      return text === undefined ? [] : [{ role, signed: readMetadata(role, text).signed }];
    });
    return {
      versions: Object.fromEntries(all.map(({ role, signed }) => [role, signed.version])),
      expiresMs: Math.min(...all.map(({ signed }) => Date.parse(signed.expires))),
      lastSeenMs,
    };
  }

  /** "Now", in ms since 1970: never before what we know. */
  nowMs(): number {
    return Math.max(this.#options.clock.wallMs(), this.#leastNowMs());
  }

  /** By our own count alone: no time server has a word in it. */
  #leastNowMs(): number {
    return this.#state.lastSeenMs + this.#options.clock.nowMs() - this.#sinceMs;
  }

  /** One after the other, since each begins with what the one before has kept; what is refused is counted. */
  #alone<T>(action: () => Promise<T>): Promise<T> {
    const done = this.#last.then(action).catch((error: unknown) => {
      this.refused.count(error instanceof AppError ? error.code : 'trust-refused');
      throw error;
    });
    this.#last = done.catch(() => {});
    return done;
  }

  #fetcher(): BoundedFetcher {
    const { source, clock, mostFetchMs = FETCH_MS } = this.#options;
    return new BoundedFetcher({ source, clock, mostMs: mostFetchMs });
  }

  async #session(path?: string): Promise<TargetFile | undefined> {
    const work = await mkdtemp(join(tmpdir(), 'entryphone-trust-'));
    const fetcher = this.#fetcher();
    try {
      await this.#followRoots(work, fetcher);
      return await this.#followRest(work, fetcher, path);
    } catch (error) {
      const lastSeenMs = this.#leastNowMs();
      if (lastSeenMs - this.#state.lastSeenMs >= LEAST_TIME_STEP_MS) await this.#keep({ ...this.#state, lastSeenMs });
      throw refusalOf(error, fetcher.fault);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  /** The chain of roots (clause 5.3); tuf-js would take it in one go with the rest. */
  async #followRoots(work: string, fetcher: BoundedFetcher): Promise<void> {
    const { metadata } = this.#state;
    await writeFile(fileOf(work, 'root'), metadata.root);
    const updater = new Updater({ metadataDir: work, metadataBaseUrl: METADATA_URL, fetcher, config: UPDATER_CONFIG });
    try {
      await updater.refresh();
    } catch (error) {
      if (error !== ROOTS_ARE_DONE) throw error;
    } finally {
      const root = await readFile(fileOf(work, 'root'), 'utf8');
      if (root !== metadata.root) await this.#keep(afterRotation({ metadata, lastSeenMs: this.#leastNowMs() }, root));
    }
    fetcher.isRootsOnly = false;
  }

  /** Timestamp, snapshot, targets, and what they say of `path` (clauses 5.4 to 5.6). */
  async #followRest(work: string, fetcher: BoundedFetcher, path?: string): Promise<TargetFile | undefined> {
    for (const role of ROLES) {
      const text = this.#state.metadata[role];
      if (text !== undefined) await writeFile(fileOf(work, role), text);
    }
    const updater = new Updater({ metadataDir: work, metadataBaseUrl: METADATA_URL, fetcher, config: UPDATER_CONFIG });
    const nowMs = this.nowMs();
    setTime(updater, nowMs);
    await updater.refresh();
    const target = path === undefined ? undefined : await updater.getTargetInfo(path);
    const metadata = { ...this.#state.metadata };
    for (const role of ROLES) {
      const text = await readFile(fileOf(work, role), 'utf8').catch(() => undefined);
      if (text !== undefined) metadata[role] = text;
    }
    const lastSeenMs = Math.max(nowMs, timestampIssuedMs(metadata.timestamp));
    checkExpiry(metadata, lastSeenMs);
    const isSame = isDeepStrictEqual(metadata, this.#state.metadata);
    if (!isSame || lastSeenMs - this.#state.lastSeenMs >= LEAST_TIME_STEP_MS)
      await this.#keep({ metadata, lastSeenMs });
    return target;
  }

  async #keep(state: TrustState): Promise<void> {
    await writeTrustState(this.#options.dir, state);
    this.#state = state;
    this.#sinceMs = this.#options.clock.nowMs();
  }
}

/** @throws AppError `trust-wrong-target` for other bytes than the ones that were signed */
export function checkTarget(target: TrustedTarget, bytes: Uint8Array): void {
  const { path, sizeBytes, sha256 } = target;
  if (bytes.length === sizeBytes && createHash('sha256').update(bytes).digest('hex') === sha256) return;
  throw refused('trust-wrong-target', `${path} is not the file that was signed`);
}

/** Whoever holds the key of flows could else sign a firmware as `flows/…`, and anybody an old release as a new one. */
function checkPlace(path: string, manifest: Manifest): void {
  const own = targetOf(manifest);
  if (own === path) return;
  const { role, other } = { role: roleOfTarget(path), other: roleOfTarget(own) };
  if (role !== other) throw refused('trust-wrong-role', `${path} is a ${manifest.kind}, which ${role} may not sign`);
  throw refused('trust-wrong-target', `${path} is the manifest of ${own}`);
}

function fileOf(work: string, role: Role): string {
  return join(work, `${role}.json`);
}

/**
 * Fast-forward recovery (clause 5.3.11): whoever had the old keys of timestamp or snapshot may have signed any version, and
 * any time; what was trusted by them is forgotten.
 */
function afterRotation({ metadata, lastSeenMs }: TrustState, root: string): TrustState {
  const before = readRoot(metadata.root).signed;
  const { signed: now } = readRoot(root);
  const isSame = (['timestamp', 'snapshot'] as const).every((role) =>
    isDeepStrictEqual([...(before.roles[role]?.keyIDs ?? [])].sort(), [...(now.roles[role]?.keyIDs ?? [])].sort()),
  );
  if (isSame) return { metadata: { ...metadata, root }, lastSeenMs };
  const { timestamp: _, snapshot: __, ...rest } = metadata;
  return { metadata: { ...rest, root }, lastSeenMs: issuedMs(now.unrecognizedFields) };
}

/** tuf-js takes the time of the machine when it is made, and no other by its interface: it is put in its place, or we stop. */
function setTime(updater: Updater, nowMs: number): void {
  const { trustedSet } = updater as unknown as { trustedSet?: { referenceTime?: unknown } };
  if (trustedSet === undefined || !(trustedSet.referenceTime instanceof Date)) {
    throw new AppError('trust-refused', 'tuf-js is not the version that this was made for', {
      remedy: 'Install the version that package-lock.json pins',
    });
  }
  trustedSet.referenceTime = new Date(nowMs);
}

/** What the machine's clock called fresh may have expired by the time that the timestamp itself tells. */
function checkExpiry(metadata: TrustState['metadata'], nowMs: number): void {
  for (const role of ROLES) {
    const text = metadata[role];
    // Flows of old may lie here, unasked for: they are checked when they are.
    if (text === undefined || role === 'flows') continue;
    if (Date.parse(readMetadata(role, text).signed.expires) <= nowMs)
      throw refusalOf(`${role}.json is expired`, undefined);
  }
}

function timestampIssuedMs(text: string | undefined): number {
  return text === undefined ? 0 : issuedMs(readMetadata('timestamp', text).signed.unrecognizedFields);
}

const SHA256 = /^[0-9a-f]{64}$/;

function trustedTarget({ path, length, hashes }: TargetFile): TrustedTarget {
  const sha256 = hashes.sha256 ?? '';
  if (!SHA256.test(sha256) || !Number.isSafeInteger(length)) {
    throw refused('trust-malformed', `${path} is signed without length or SHA-256`);
  }
  if (length > MOST_TARGET_BYTES) {
    throw refused('trust-too-large', `${path} has ${length} bytes, more than the ${MOST_TARGET_BYTES} of a manifest`);
  }
  return { path, sizeBytes: length, sha256 };
}
