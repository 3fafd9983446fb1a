import { z } from 'zod';
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
const id = z.string().regex(ID_PATTERN);
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
  from: id,
  /** A station's id; in what a station writes also a number or a name of the directory. */
  to: z.string().min(1).max(80),
};

export const DOOR_TTL_MOST_MS = 5_000;

export const callMessageSchema = z.discriminatedUnion('type', [
  z.object({
    ...header,
    type: z.literal('invite'),
    /** From the caller: an id, a number or a name of the directory; to the callee: its id. */
    to: z.string().min(1).max(80),
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

export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fault: string };

/** Parses a JSON body of at most 32 KiB. Never throws; the fault says what is wrong and where. */
export function parseBody<T>(schema: z.ZodType<T>, body: Uint8Array): Parsed<T> {
  if (body.byteLength > 32_768) return { ok: false, fault: `body of ${body.byteLength} bytes; at most 32768` };
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
