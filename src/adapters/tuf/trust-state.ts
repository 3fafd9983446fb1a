import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Metadata, MetadataKind } from '@tufjs/models';
import { z } from 'zod';
import { writeDurably } from '../../core/durable-file.js';
import { AppError } from '../../core/errors.js';
import { ISSUED_FIELD, MOST_BYTES, ROLES, type Role } from './roles.js';

/** What a station trusts, and since when it knows the time; one file, `trust.json`, so that it is never of two states. */
export interface TrustState {
  /** The metadata of each role, as it was signed; root is always there. */
  readonly metadata: { readonly root: string } & Partial<Readonly<Record<Role, string>>>;
  /** Milliseconds since 1970: it was at least then when we last trusted something. */
  readonly lastSeenMs: number;
}

const FILE = 'trust.json';
const MOST_STATE_BYTES = 8 * 1024 * 1024;

const stateSchema = z.object({
  v: z.literal(1),
  lastSeenMs: z.number().int().nonnegative(),
  metadata: z.object({
    root: z.string().max(MOST_BYTES.root),
    targets: z.string().max(MOST_BYTES.targets).optional(),
    flows: z.string().max(MOST_BYTES.flows).optional(),
    snapshot: z.string().max(MOST_BYTES.snapshot).optional(),
    timestamp: z.string().max(MOST_BYTES.timestamp).optional(),
  }),
});

export interface ReadState {
  readonly state: TrustState;
  /** The file was there and could not be read: trust begins anew with the root that the station was made with. */
  readonly isDamaged: boolean;
}

/**
 * Reads `dir`/trust.json, or begins with the root that the station was made with.
 * @throws AppError `trust-root-invalid` where that is none
 */
export async function readTrustState(dir: string, initialRoot: string): Promise<ReadState> {
  const path = join(dir, FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return { state: beginning(initialRoot), isDamaged: false };
  }
  const state = parsed(text);
  if (state !== undefined) return { state, isDamaged: false };
  await rename(path, `${path}.damaged`);
  return { state: beginning(initialRoot), isDamaged: true };
}

export async function writeTrustState(dir: string, { metadata, lastSeenMs }: TrustState): Promise<void> {
  await writeDurably(join(dir, FILE), JSON.stringify({ v: 1, lastSeenMs: Math.round(lastSeenMs), metadata }));
}

function parsed(text: string): TrustState | undefined {
  if (text.length > MOST_STATE_BYTES) return undefined;
  try {
    const { lastSeenMs, metadata } = stateSchema.parse(JSON.parse(text));
    readRoot(metadata.root);
    const present = ROLES.flatMap((role) => (metadata[role] === undefined ? [] : [[role, metadata[role]]]));
    return { lastSeenMs, metadata: { root: metadata.root, ...Object.fromEntries(present) } };
  } catch {
    return undefined;
  }
}

function beginning(initialRoot: string): TrustState {
  try {
    return { metadata: { root: initialRoot }, lastSeenMs: issuedMs(readRoot(initialRoot).signed.unrecognizedFields) };
  } catch (cause) {
    throw new AppError('trust-root-invalid', 'the root of trust that this station was made with is none', {
      remedy: "Give it the repository's metadata/1.root.json",
      cause,
    });
  }
}

/** Reads root metadata, which must be signed by itself. @throws whatever is wrong with it */
export function readRoot(text: string) {
  const root = Metadata.fromJSON(MetadataKind.Root, JSON.parse(text));
  root.verifyDelegate(MetadataKind.Root, root);
  return root;
}

/** When metadata says that it was signed, in ms since 1970; 0 where it says nothing that is a time. */
export function issuedMs(fields: Readonly<Record<string, unknown>>): number {
  const told = fields[ISSUED_FIELD];
  const ms = typeof told === 'string' ? Date.parse(told) : Number.NaN;
  return Number.isFinite(ms) && ms > 0 ? ms : 0;
}
