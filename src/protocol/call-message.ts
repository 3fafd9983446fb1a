import * as z from 'zod';
import { ID_PATTERN } from './topics.js';

/**
 * What crosses `up/call/{callId}` and `down/call/{callId}`. A station writes `to` and its own id as `from`; the switchboard
 * replaces `from` by the station id in the topic, which the broker has authenticated.
 *
 * The door, in mid-call: the panel asks (`door-request`), the door station makes a nonce for this call and this opening
 * (`door-challenge`), the panel returns it (`door-open`), the door station opens if the nonce is its own, unused and no
 * older than `ttlMs` by its own clock, and says what it did (`door-result`). The panel does not answer a challenge that
 * comes later than `ttlMs` after its press. So neither clock is ever compared with the other's, and a message that a
 * broker held back opens nothing.
 */
/** A station, or one of another site: `{station}@{site}`. */
const party = z
  .string()
  .max(160)
  .refine((text) => text.split('@', 3).length <= 2 && text.split('@').every((part) => ID_PATTERN.test(part)), 'no id');
const callId = z.string().regex(/^[a-z0-9-]{8,64}$/);
const reason = z.string().max(200);
/** 16 KiB: an SDP with every candidate of a board is under 2 KiB. */
const sdp = z.string().min(1).max(16_384);
const nonce = z.string().regex(/^[A-Za-z0-9_-]{22,64}$/);

const header = {
  v: z.literal(1),
  /** Of this message. */
  id: z.string().min(8).max(64),
  /** Counts up in one sender's messages of one call, from 0. */
  seq: z.int().min(0).max(0xffff_ffff),
  callId,
  from: party,
  /** A station's id; in what a station writes also a number or a name of the directory. */
  to: z.string().min(1).max(160),
};

export const DOOR_TTL_MOST_MS = 5_000;

export const callMessageSchema = z.discriminatedUnion('type', [
  z.object({
    ...header,
    type: z.literal('invite'),
    fromName: z.string().max(80),
    sdp,
    ringMs: z.int().min(1_000).max(600_000),
  }),
  z.object({ ...header, type: z.literal('ringing') }),
  z.object({ ...header, type: z.literal('answer'), sdp }),
  z.object({ ...header, type: z.literal('reject'), reason }),
  z.object({ ...header, type: z.literal('update'), sdp }),
  z.object({ ...header, type: z.literal('bye'), reason }),
  z.object({ ...header, type: z.literal('door-request'), request: z.string().min(8).max(64) }),
  z.object({
    ...header,
    type: z.literal('door-challenge'),
    request: z.string().min(8).max(64),
    nonce,
    ttlMs: z.int().min(100).max(DOOR_TTL_MOST_MS),
  }),
  z.object({ ...header, type: z.literal('door-open'), nonce }),
  z.object({ ...header, type: z.literal('door-result'), nonce, opened: z.boolean(), reason }),
]);

export type CallMessage = z.infer<typeof callMessageSchema>;
export type CallMessageType = CallMessage['type'];

/** How long, in s, a message that a switchboard passes on is worth delivering. Whoever opens a door must do it now; that a call ended is news for longer. */
export const ROUTED_EXPIRY_S: Readonly<Record<CallMessageType, number>> = {
  invite: 10,
  ringing: 10,
  answer: 10,
  reject: 30,
  update: 10,
  bye: 30,
  'door-request': 3,
  'door-challenge': 3,
  'door-open': 3,
  'door-result': 10,
};

export type CallMessageFault = 'retained' | 'oversized' | 'malformed' | 'call-id-mismatch';
const MOST_BODY_BYTES = 32_768;

/** Reads what a switchboard hears at a topic that ends with `call/{callId}`. Never throws. */
export function readCallMessage(message: {
  readonly topic: string;
  readonly body: Uint8Array;
  readonly retained: boolean;
}): { ok: true; value: CallMessage } | { ok: false; fault: CallMessageFault; why?: string } {
  if (message.retained) return { ok: false, fault: 'retained' };
  if (message.body.byteLength > MOST_BODY_BYTES) return { ok: false, fault: 'oversized' };
  const parsed = parseBody(callMessageSchema, message.body);
  if (!parsed.ok) return { ok: false, fault: 'malformed', why: parsed.fault };
  return message.topic.endsWith(`/call/${parsed.value.callId}`) ? parsed : { ok: false, fault: 'call-id-mismatch' };
}

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fault: string };

/** Parses a JSON body of at most 32 KiB. Never throws; the fault says what is wrong and where. */
export function parseBody<T>(schema: z.ZodType<T>, body: Uint8Array): Parsed<T> {
  if (body.byteLength > MOST_BODY_BYTES) {
    return { ok: false, fault: `body of ${body.byteLength} bytes; at most ${MOST_BODY_BYTES}` };
  }
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8'));
  } catch {
    return { ok: false, fault: 'not JSON' };
  }
  return parseJson(schema, json);
}

/** As `parseBody`, for what is JSON already. */
export function parseJson<T>(schema: z.ZodType<T>, json: unknown): Parsed<T> {
  const result = schema.safeParse(json);
  if (result.success) return { ok: true, value: result.data };
  const issue = result.error.issues[0];
  return { ok: false, fault: issue === undefined ? 'invalid' : `${issue.path.join('.') || 'body'}: ${issue.message}` };
}
