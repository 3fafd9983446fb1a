import { Metadata, MetadataKind } from '@tufjs/models';
import { AppError } from '../../core/errors.js';
import { FLOWS_PATTERNS, ISSUED_FIELD, LIFETIME_MS, RESCUE_FIELD, ROLES, ROOT_THRESHOLD, type Role } from './roles.js';
import type { PublicKey } from './signing-key.js';

/** Which public keys each role has. */
export type RoleKeys = Readonly<Record<Role, readonly PublicKey[]>>;

export interface RoleJson {
  readonly keyids: readonly string[];
  readonly threshold: number;
}

export interface RootJson {
  readonly version: number;
  readonly keys: Readonly<Record<string, object>>;
  readonly roles: Readonly<Record<'root' | 'targets' | 'snapshot' | 'timestamp', RoleJson>>;
  readonly [RESCUE_FIELD]?: readonly string[];
}

export interface TargetsJson {
  readonly version: number;
  readonly targets: Readonly<Record<string, { readonly length: number; readonly hashes: { readonly sha256: string } }>>;
  readonly delegations?: {
    readonly keys: Readonly<Record<string, object>>;
    readonly roles: readonly (RoleJson & { readonly name: string })[];
  };
}

const SPEC_VERSION = '1.0.31';

/** Reads metadata of a role. @throws whatever is wrong with it */
export function readMetadata(role: Role, text: string) {
  const data = JSON.parse(text);
  switch (role) {
    case 'root':
      return Metadata.fromJSON(MetadataKind.Root, data);
    case 'snapshot':
      return Metadata.fromJSON(MetadataKind.Snapshot, data);
    case 'timestamp':
      return Metadata.fromJSON(MetadataKind.Timestamp, data);
    default:
      return Metadata.fromJSON(MetadataKind.Targets, data);
  }
}

export function textOf(metadata: ReturnType<typeof readMetadata>): string {
  return JSON.stringify(metadata.toJSON());
}

export function signedOf(text: string): Readonly<Record<string, unknown>> {
  return JSON.parse(text).signed;
}

/** Without what a frame is put around anew. */
export function contentOf(signed: Readonly<Record<string, unknown>>): object {
  const { _type: _, spec_version: __, expires: ___, [ISSUED_FIELD]: ____, ...content } = signed;
  return content;
}

/** The fields that metadata of every role has; `content` may bring its own. */
export function withFrame(role: Role, nowMs: number, content: object): object {
  const told = role === 'root' || role === 'timestamp' ? { [ISSUED_FIELD]: isoTime(nowMs) } : {};
  return {
    _type: role === 'flows' ? 'targets' : role,
    spec_version: SPEC_VERSION,
    expires: isoTime(nowMs + LIFETIME_MS[role]),
    ...told,
    ...content,
  };
}

/** @throws AppError `keys-too-few` */
export function rootJson(keys: RoleKeys, rescueKeys: readonly string[]): object {
  for (const role of ROLES) {
    const needs = role === 'root' ? ROOT_THRESHOLD : 1;
    if (keys[role].length >= needs) continue;
    throw new AppError('keys-too-few', `${role} has ${keys[role].length} keys, and needs ${needs}`, {
      remedy: role === 'root' ? 'Three are best: one may be lost' : `Make one with: entryphone keys create ${role}`,
    });
  }
  const topLevel = ['root', 'targets', 'snapshot', 'timestamp'] as const;
  const roleJson = (role: (typeof topLevel)[number]): RoleJson => ({
    keyids: keys[role].map(({ keyId }) => keyId),
    threshold: role === 'root' ? ROOT_THRESHOLD : 1,
  });
  return {
    consistent_snapshot: true,
    keys: Object.assign({}, ...topLevel.map((role) => keysJson(keys[role]))),
    roles: Object.fromEntries(topLevel.map((role) => [role, roleJson(role)])),
    ...(rescueKeys.length === 0 ? {} : { [RESCUE_FIELD]: rescueKeys }),
  };
}

/** Flows and configuration are signed by `flows` alone; nobody else is asked for them. */
export function delegationsJson(keys: readonly PublicKey[]): object {
  const role = {
    name: 'flows',
    keyids: keys.map(({ keyId }) => keyId),
    threshold: 1,
    terminating: true,
    paths: FLOWS_PATTERNS,
  };
  return { keys: keysJson(keys), roles: [role] };
}

export function keysJson(keys: readonly PublicKey[]): object {
  return Object.fromEntries(
    keys.map(({ keyId, publicHex }) => [
      keyId,
      { keytype: 'ed25519', scheme: 'ed25519', keyval: { public: publicHex } },
    ]),
  );
}

/** Whole seconds, as TUF writes times (clause 4.2.1). */
function isoTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d{3}Z$/, 'Z');
}
