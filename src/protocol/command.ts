import { createPublicKey, type KeyObject, verify } from 'node:crypto';
import * as z from 'zod';
import { type Parsed, parseBody } from './call-message.js';
import { ID_PATTERN } from './topics.js';

/**
 * What a fleet manager may have a station do: `down/cmd/{verb}`, answered on `up/res/{client}`. Neither is retained.
 *
 * ```
 *   manager                                            station
 *     down/cmd/challenge  signed(challenge: null)   ──▶
 *                         ◀──  up/res/{client}  challenge: nonce, good once and for ttlMs by the station's own clock
 *     down/cmd/restart    signed(challenge: nonce)  ──▶
 *                         ◀──  up/res/{client}  answer, later log lines
 * ```
 *
 * So a command that was recorded, kept or held back does nothing, and no clock is compared with another. What is signed is
 * the text of the order as it stands in the message, byte for byte (Ed25519, RFC 8032): nothing depends on how JSON is
 * written. The broker's ACL lets nobody but the manager write there; the signature holds where the broker is somebody else's.
 */
export const COMMAND_VERBS = ['self-test', 'restart', 'logs'] as const;
export type CommandVerb = (typeof COMMAND_VERBS)[number];

/** Asks for the nonce that the next order of this manager must name. */
export const CHALLENGE_VERB = 'challenge';

/** What a station may be told to restart. */
export const RESTARTED = ['media', 'flows', 'station'] as const;
export type Restarted = (typeof RESTARTED)[number];

export const MOST_LOG_MINUTES = 10;
export const COMMAND_TTL_MS = 10_000;

const id = z.string().regex(ID_PATTERN);
const messageId = z.string().min(8).max(64);
const nonce = z.string().regex(/^[A-Za-z0-9_-]{22,64}$/);

const order = z.strictObject({
  purpose: z.literal('entryphone-command'),
  /** Of the message that it stands in. */
  id: messageId,
  site: id,
  station: id,
  /** Whose answers these are: the last part of `up/res/{client}`. */
  client: id,
  /** Who gave the order, for the log of the station. */
  by: z.string().min(1).max(64),
  challenge: nonce.nullable(),
  order: z.discriminatedUnion('verb', [
    z.strictObject({ verb: z.literal(CHALLENGE_VERB) }),
    z.strictObject({ verb: z.literal('self-test') }),
    z.strictObject({ verb: z.literal('restart'), service: z.enum(RESTARTED) }),
    z.strictObject({
      verb: z.literal('logs'),
      /** 0 ends them. */
      minutes: z.int().min(0).max(MOST_LOG_MINUTES),
      level: z.enum(['info', 'warn']),
    }),
  ]),
});
export type Order = z.infer<typeof order>;
export type CommandOrder = Exclude<Order['order'], { verb: typeof CHALLENGE_VERB }>;

const commandMessage = z.object({
  v: z.literal(1),
  id: messageId,
  seq: z.int().min(0),
  /** JSON of an order. */
  signed: z.string().min(2).max(2_048),
  /** The signer's public key: 32 bytes, in hex. */
  key: z.string().regex(/^[0-9a-f]{64}$/),
  signature: z.base64().length(88),
});

/** Why an order is none. */
export type CommandFault = 'malformed' | 'unknown-key' | 'too-many' | 'bad-signature';

/** What nobody takes for the signature of something else. */
const CONTEXT = 'entryphone command v1\n';
/** SPKI of an Ed25519 key before its 32 bytes (RFC 8410, clause 4). */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

/** The message of an order. @param sign gives 64 bytes of Ed25519 */
export function signedCommand(
  what: Omit<Order, 'purpose'>,
  signer: { readonly publicHex: string; sign(data: Uint8Array): Uint8Array },
  seq: number,
): string {
  const signed = JSON.stringify({ purpose: 'entryphone-command', ...what } satisfies Order);
  const signature = Buffer.from(signer.sign(Buffer.from(CONTEXT + signed))).toString('base64');
  return JSON.stringify({ v: 1, id: what.id, seq, signed, key: signer.publicHex, signature });
}

/**
 * Reads what came, from one of these keys (in hex). Never throws.
 * @param mayCheck asked before a signature is checked, which costs a board 0.3 ms
 */
export function readCommand(
  body: Uint8Array,
  keys: readonly string[],
  mayCheck: () => boolean = () => true,
):
  | { readonly ok: true; readonly order: Order; readonly key: string }
  | { readonly ok: false; readonly fault: CommandFault } {
  const message = parseBody(commandMessage, body);
  if (!message.ok) return { ok: false, fault: 'malformed' };
  const { signed, key, signature, id: outerId } = message.value;
  if (!keys.includes(key)) return { ok: false, fault: 'unknown-key' };
  if (!mayCheck()) return { ok: false, fault: 'too-many' };
  if (!isSigned(signed, key, signature)) return { ok: false, fault: 'bad-signature' };
  const inner = parseBody(order, Buffer.from(signed));
  if (!inner.ok || inner.value.id !== outerId) return { ok: false, fault: 'malformed' };
  return { ok: true, order: inner.value, key };
}

function isSigned(signed: string, key: string, signature: string): boolean {
  let publicKey: KeyObject;
  try {
    publicKey = createPublicKey({
      key: Buffer.concat([SPKI_HEAD, Buffer.from(key, 'hex')]),
      format: 'der',
      type: 'spki',
    });
    return verify(null, Buffer.from(CONTEXT + signed), publicKey, Buffer.from(signature, 'base64'));
  } catch {
    return false;
  }
}

const answerHeader = {
  v: z.literal(1),
  id: messageId,
  seq: z.int().min(0),
  /** The message that this answers. */
  to: messageId,
};

/** `up/res/{client}`. */
export const commandResponse = z.discriminatedUnion('type', [
  z.object({ ...answerHeader, type: z.literal('challenge'), nonce, ttlMs: z.int().min(100).max(60_000) }),
  z.object({
    ...answerHeader,
    type: z.literal('answer'),
    ok: z.boolean(),
    /** `done`, or a refusal's: `late`, `replayed`, `too-soon`, `line-busy`, … */
    code: z.string().max(64),
    text: z.string().max(500),
    remedy: z.string().max(500).nullable(),
    /** Of a self-test: what it found (`SelfTestResult`). */
    result: z.record(z.string(), z.unknown()).nullable(),
  }),
  z.object({
    ...answerHeader,
    type: z.literal('log'),
    lines: z.array(z.string().max(2_048)).max(200),
    /** Lines that were too many since the message before. */
    dropped: z.int().min(0),
    /** `time`, `size`, `stopped`, `replaced`; null while they go on. */
    ended: z.string().max(32).nullable(),
  }),
]);
export type CommandResponse = z.infer<typeof commandResponse>;

/** Never throws. */
export function readResponse(body: Uint8Array): Parsed<CommandResponse> {
  return parseBody(commandResponse, body);
}
