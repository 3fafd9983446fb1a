import type { Socket } from 'node:net';
import { AbstractMessageReader, type DataCallback, type Disposable } from 'vscode-jsonrpc/node';
import * as z from 'zod';

export const MOST_HEADER_BYTES = 1_024;
export const MOST_BODY_BYTES = 1_048_576;

/** Why a stream of messages was given up. */
export type ReadFault = 'bad-header' | 'too-large' | 'bad-json' | 'bad-message';

const id = z.union([z.int(), z.string().max(64)]);
/** JSON-RPC 2.0: a request or notification, or a response. Batches and cancellation are not spoken here. */
const envelope = z.union([
  z.object({
    jsonrpc: z.literal('2.0'),
    id: id.optional(),
    method: z.string().min(1).max(64).regex(/^[^$]/),
    params: z.unknown().optional(),
  }),
  z
    .strictObject({
      jsonrpc: z.literal('2.0'),
      id: id.nullable(),
      result: z.unknown().optional(),
      error: z.object({ code: z.int(), message: z.string(), data: z.unknown().optional() }).optional(),
    })
    .refine((response) => 'result' in response || 'error' in response),
]);

/**
 * Reads JSON-RPC messages with `Content-Length` headers from a socket, as vscode-jsonrpc's own reader does, but with bounds:
 * on header, body and on what waits (one message a turn of the event loop; the socket is paused meanwhile). At the first
 * fault it calls `onFault` and reads no further, since the frame's end is then unknown.
 */
export class BoundedMessageReader extends AbstractMessageReader {
  readonly #socket: Socket;
  readonly #onFault: (fault: ReadFault) => void;
  #waiting: Buffer = Buffer.alloc(0);
  #chunks: Buffer[] = [];
  #chunkBytes = 0;
  #bodyBytes: number | undefined;
  #callback: DataCallback = () => {};
  #scheduled = false;
  #ended = false;

  constructor(socket: Socket, onFault: (fault: ReadFault) => void) {
    super();
    this.#socket = socket;
    this.#onFault = onFault;
  }

  listen(callback: DataCallback): Disposable {
    this.#callback = callback;
    this.#socket.on('data', (chunk) => this.#take(chunk));
    this.#socket.on('error', (error) => this.fireError(error));
    this.#socket.on('close', () => this.fireClose());
    return { dispose: () => this.dispose() };
  }

  override dispose(): void {
    this.#ended = true;
    super.dispose();
  }

  #take(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#chunkBytes += chunk.byteLength;
    // A large body comes in many chunks: they are joined once it is whole.
    const wanted = this.#bodyBytes ?? 0;
    if (!this.#scheduled && this.#waiting.byteLength + this.#chunkBytes >= wanted) this.#step();
  }

  /** Delivers at most one message of what waits. */
  #step(): void {
    this.#scheduled = false;
    if (this.#ended) return;
    const body = this.#takeBody();
    if (body !== undefined) this.#deliver(body);
    if (body !== undefined && this.#waiting.byteLength > 0) {
      this.#scheduled = true;
      this.#socket.pause();
      setImmediate(() => this.#step());
    } else if (this.#socket.isPaused()) {
      this.#socket.resume();
    }
  }

  #takeBody(): Buffer | undefined {
    if (this.#chunks.length > 0) {
      this.#waiting = Buffer.concat([this.#waiting, ...this.#chunks]);
      this.#chunks = [];
      this.#chunkBytes = 0;
    }
    if (this.#bodyBytes === undefined && !this.#takeHeader()) return undefined;
    const bodyBytes = this.#bodyBytes ?? 0;
    if (this.#waiting.byteLength < bodyBytes) return undefined;
    const body = this.#waiting.subarray(0, bodyBytes);
    this.#waiting = this.#waiting.subarray(bodyBytes);
    this.#bodyBytes = undefined;
    return body;
  }

  /** @returns whether the length of the next body is known now */
  #takeHeader(): boolean {
    const end = this.#waiting.indexOf('\r\n\r\n');
    if (end > MOST_HEADER_BYTES || (end < 0 && this.#waiting.byteLength > MOST_HEADER_BYTES)) {
      this.#giveUp('bad-header');
      return false;
    }
    if (end < 0) return false;
    const header = this.#waiting.toString('latin1', 0, end);
    const length = /^content-length:[ \t]*([0-9]{1,15})[ \t]*$/im.exec(header)?.[1];
    if (length === undefined) {
      this.#giveUp('bad-header');
      return false;
    }
    if (Number(length) > MOST_BODY_BYTES) {
      this.#giveUp('too-large');
      return false;
    }
    this.#bodyBytes = Number(length);
    this.#waiting = this.#waiting.subarray(end + 4);
    return true;
  }

  #deliver(body: Buffer): void {
    let json: unknown;
    try {
      json = JSON.parse(body.toString('utf8'));
    } catch {
      this.#giveUp('bad-json');
      return;
    }
    const message = envelope.safeParse(json);
    if (message.success) this.#callback(message.data);
    else this.#giveUp('bad-message');
  }

  #giveUp(fault: ReadFault): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onFault(fault);
  }
}
