import * as z from 'zod';
import { type Parsed, parseBody } from './call-message.js';
import { ID_PATTERN } from './topics.js';

/**
 * Pieces of a repository's files over MQTT, where a station reaches no web server: `up/chunk-req/{job}` (JSON, QoS 1) asks for one
 * range of one file, `down/chunk/{job}` (QoS 0) has it. Who serves keeps nothing between two requests: a station asks for a lost
 * one again, and goes on by its offset after any cut.
 *
 *   0       1        2        4      12     16       20          24     32
 *   │ v (1) │ status │ 0    0 │  id  │ seq  │ offset │ fileBytes │ tag  │ data …       big-endian
 */
export const MOST_MESSAGE_BYTES = 65_536;
const HEADER_BYTES = 32;
/** Data of one message. */
export const MOST_PIECE_BYTES = MOST_MESSAGE_BYTES - HEADER_BYTES;

export const pieceRequestSchema = z.object({
  v: z.literal(1),
  /** Of this request: the answer has it. */
  id: z.string().regex(/^[0-9a-f]{16}$/),
  /** Counts how often it was said. */
  seq: z.int().min(0).max(0xffff_ffff),
  path: z.string().max(256).refine(isRepositoryPath, 'no file of a repository'),
  offset: z.int().min(0).max(0xffff_ffff),
  lengthBytes: z.int().min(1).max(MOST_PIECE_BYTES),
});
export type PieceRequest = z.infer<typeof pieceRequestSchema>;

/** `missing`: there is no such file; `unreadable`: there is one that can't be read now. */
export const PIECE_STATUSES = ['data', 'missing', 'unreadable'] as const;
export type PieceStatus = (typeof PIECE_STATUSES)[number];

export interface PieceMessage {
  readonly status: PieceStatus;
  readonly id: string;
  readonly seq: number;
  readonly offset: number;
  /** Of the whole file. */
  readonly fileBytes: number;
  /** 16 hexadecimal digits: another when the file is another one. */
  readonly tag: string;
  readonly data: Uint8Array;
}

export const chunkRequestPath = (job: string): string => `chunk-req/${job}`;
export const chunkPath = (job: string): string => `chunk/${job}`;

/**
 * What of a repository is served: metadata of TUF, manifests, chunks. Neither what waits for signatures nor anything else that may
 * lie in its folder.
 */
const SERVED = [
  /^metadata\/(?:[1-9]\d{0,14}\.(?:root|targets|flows|snapshot)|timestamp)\.json$/,
  /^(?:releases|models|flows|config)\/[0-9][0-9a-z.-]{0,63}\/(?:x64|arm64|any)\/manifest\.json(?:\.zst)?$/,
];
const CHUNK = /^chunks\/([0-9a-f]{2})\/([0-9a-f]{64})\.zst$/;

/** Whether `path` names a file that a repository serves; what passes leads nowhere else. */
export function isRepositoryPath(path: string): boolean {
  const chunk = CHUNK.exec(path);
  if (chunk !== null) return chunk[2]?.startsWith(chunk[1] ?? ' ') === true;
  return SERVED.some((pattern) => pattern.test(path)) && !path.includes('..');
}

/** Of `chunk-req/{job}` or `chunk/{job}`. @returns undefined for another path, or an id that is none */
export function jobOfChunkPath(path: string): string | undefined {
  const [, job = ''] = /^chunk(?:-req)?\/([^/]+)$/.exec(path) ?? [];
  return ID_PATTERN.test(job) ? job : undefined;
}

/** Never throws. */
export function readPieceRequest(body: Uint8Array): Parsed<PieceRequest> {
  if (body.byteLength > 1_024) return { ok: false, fault: 'oversized' };
  return parseBody(pieceRequestSchema, body);
}

/** @throws RangeError for more than `MOST_PIECE_BYTES`, and for what does not fit into its field */
export function writePiece({ status, id, seq, offset, fileBytes, tag, data }: PieceMessage): Uint8Array {
  if (data.byteLength > MOST_PIECE_BYTES) throw new RangeError(`a piece of ${data.byteLength} bytes`);
  const message = Buffer.alloc(HEADER_BYTES + data.byteLength);
  message.writeUInt8(1, 0);
  message.writeUInt8(PIECE_STATUSES.indexOf(status), 1);
  message.write(id, 4, 8, 'hex');
  message.writeUInt32BE(seq, 12);
  message.writeUInt32BE(offset, 16);
  message.writeUInt32BE(fileBytes, 20);
  message.write(tag, 24, 8, 'hex');
  message.set(data, HEADER_BYTES);
  return message;
}

/** Never throws; the data are a view of `body`. */
export function readPiece(body: Uint8Array): Parsed<PieceMessage> {
  if (body.byteLength < HEADER_BYTES) return { ok: false, fault: 'truncated' };
  if (body.byteLength > MOST_MESSAGE_BYTES) return { ok: false, fault: 'oversized' };
  const message = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (message.readUInt8(0) !== 1) return { ok: false, fault: 'another version' };
  const status = PIECE_STATUSES[message.readUInt8(1)];
  if (status === undefined) return { ok: false, fault: 'unknown status' };
  const offset = message.readUInt32BE(16);
  const fileBytes = message.readUInt32BE(20);
  const data = message.subarray(HEADER_BYTES);
  const isBeyond = offset + data.byteLength > fileBytes;
  if (data.byteLength > 0 && (status !== 'data' || isBeyond)) return { ok: false, fault: 'data where none can be' };
  const value = {
    ...{ status, offset, fileBytes, data },
    id: message.toString('hex', 4, 12),
    seq: message.readUInt32BE(12),
    tag: message.toString('hex', 24, 32),
  };
  return { ok: true, value };
}
