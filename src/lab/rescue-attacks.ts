import type { KeyObject } from 'node:crypto';
import { signMinisign, writeMinisignKey } from '../adapters/minisign/minisign.js';
import { type Rescue, readRescue, rescueComment } from '../adapters/minisign/rescue.js';
import { newPrivateKey, publicBytes } from '../adapters/tuf/signing-key.js';
import { firstState } from '../fleet/slots.js';
import { readManifest } from '../protocol/release-manifest.js';
import type { Attack } from './attack.js';
import { manifest } from './trust-bench.js';

/** The version that the station runs. */
const FLOOR = '1.1.0';

/** A stick in the hand of somebody who stands before the station. */
export const RESCUE_ATTACKS: readonly Attack[] = [
  {
    name: 'rescue-older',
    does: 'brings a release of the maker, signed for a rescue, with a hole that was mended since',
    code: 'rescue-older',
    prepare: async () => striking((stick) => stick.with(manifest('firmware', '1.0.9'))),
  },
  {
    name: 'rescue-by-another-key',
    does: 'brings a release that another key has signed',
    code: 'minisign-refused',
    prepare: async () => striking((stick) => ({ ...stick.good, signature: stick.signature(newPrivateKey()) })),
  },
  {
    name: 'rescue-by-another-key-under-the-same-id',
    does: "signs with a key of its own, and writes the maker's id into the signature",
    code: 'minisign-refused',
    prepare: async () => striking((stick) => ({ ...stick.good, signature: underTheIdOf(stick) })),
  },
  {
    name: 'rescue-changed',
    does: 'changes a release after it was signed',
    code: 'minisign-refused',
    prepare: async () => striking((stick) => ({ ...stick.good, manifest: manifest('firmware', '6.6.6') })),
  },
  {
    name: 'rescue-comment-changed',
    does: 'changes what the signature says that it is for',
    code: 'minisign-refused',
    prepare: async () =>
      striking((stick) => ({ ...stick.good, signature: stick.good.signature.replace('1.2.0', '6.6.6') })),
  },
  {
    name: 'rescue-of-another-purpose',
    does: "brings something that the maker's key signed for another purpose",
    code: 'rescue-invalid',
    prepare: async () => striking((stick) => ({ ...stick.good, signature: stick.signature(stick.key, 'a file') })),
  },
];

interface Stick {
  readonly key: KeyObject;
  readonly good: Rescue;
  with(content: Buffer): Rescue;
  /** Of the good release. */
  signature(key: KeyObject, comment?: string): string;
}

/** What is good is taken first. */
function striking(change: (stick: Stick) => Rescue): () => Promise<unknown> {
  const key = newPrivateKey();
  const slots = firstState({ version: FLOOR, hash: '0'.repeat(64) });
  const keys = [writeMinisignKey(publicBytes(key))];
  const signed = (content: Buffer, by: KeyObject, comment?: string) =>
    signMinisign(content, {
      privateKey: by,
      publicBytes: publicBytes(by),
      trustedComment: comment ?? commentOf(content),
    });
  const withContent = (content: Buffer) => ({ manifest: content, signature: signed(content, key), keys, slots });
  const good = withContent(manifest('firmware'));
  readRescue(good);
  const changed = change({
    key,
    good,
    with: withContent,
    signature: (by, comment) => signed(manifest('firmware'), by, comment),
  });
  return async () => readRescue(changed);
}

function commentOf(content: Buffer): string {
  const found = readManifest(content);
  return found.ok ? rescueComment(found.value) : 'nothing';
}

/** Bytes 2 to 10 of the second line are the id. */
function underTheIdOf({ good, signature }: Stick): string {
  const [untrusted, forged = '', ...rest] = signature(newPrivateKey()).split('\n');
  const bytes = Buffer.from(forged, 'base64');
  Buffer.from(good.signature.split('\n')[1] ?? '', 'base64').copy(bytes, 2, 2, 10);
  return [untrusted, bytes.toString('base64'), ...rest].join('\n');
}
