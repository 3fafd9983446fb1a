import type { RateHz } from '../../src/audio/frame.js';
import type { AudioDecoder } from '../../src/codec/codec.js';
import { AppError } from '../../src/core/errors.js';
import type { InsertResult } from '../../src/playout/packet-buffer.js';
import { Playout, type PlayoutOptions } from '../../src/playout/playout.js';
import type { PlayoutFigures } from '../../src/playout/playout-figures.js';
import type { RtpPacket } from '../../src/rtp/rtp-packet.js';

export const RATE_HZ = 16_000;

export const sine = (seconds: number, hz = 200, rateHz = RATE_HZ) =>
  Int16Array.from({ length: seconds * rateHz }, (_, i) => 8_000 * Math.sin((2 * Math.PI * hz * i) / rateHz));

export interface Sent {
  readonly packet: RtpPacket;
  readonly arrivalMs: number;
  readonly isRedundant?: boolean;
}

/** 16-bit samples, native order, as they are. It conceals by saying that it can't. */
export class PlainDecoder implements AudioDecoder {
  decoded = 0;

  decode(payload: Uint8Array): Int16Array {
    if (payload.length % 2 !== 0) throw new AppError('payload-invalid', 'Half a sample');
    this.decoded += 1;
    return new Int16Array(payload.slice().buffer);
  }

  decodeFec(nextPayload: Uint8Array): Int16Array {
    return this.decode(nextPayload);
  }

  conceal(): Int16Array {
    return new Int16Array(0);
  }

  free(): void {}
}

export interface StreamOptions {
  readonly signal: Int16Array;
  readonly rateHz: RateHz;
  readonly packetMs?: number | ((index: number) => number);
  readonly sequence?: number;
  readonly timestamp?: number;
  readonly ssrc?: number;
  /** Milliseconds under way of the n-th packet, several for several copies; none where it is lost. */
  way?(index: number, sentMs: number): number | readonly number[] | null;
  /** Of the sender's clock against the receiver's. */
  readonly senderPpm?: number;
  readonly startMs?: number;
}

/** Cuts a signal into packets, in the order of their arrival. */
export function stream(options: StreamOptions): Sent[] {
  const { signal, rateHz, way = () => 10, startMs = 0, senderPpm = 0 } = options;
  const sent: Sent[] = [];
  let at = 0;
  for (let index = 0; ; index++) {
    const packetMs = typeof options.packetMs === 'function' ? options.packetMs(index) : (options.packetMs ?? 20);
    const samples = (packetMs * rateHz) / 1000;
    if (at + samples > signal.length) break;
    const mediaMs = ((at + samples) * 1000) / rateHz;
    const sentMs = startMs + mediaMs / (1 + senderPpm / 1e6);
    const packet: RtpPacket = {
      payloadType: 96,
      marker: index === 0,
      sequence: ((options.sequence ?? 0) + index) & 0xffff,
      timestamp: ((options.timestamp ?? 0) + at) >>> 0,
      ssrc: options.ssrc ?? 1,
      csrcs: [],
      extension: null,
      payload: new Uint8Array(signal.slice(at, at + samples).buffer),
    };
    for (const ms of [way(index, sentMs) ?? []].flat()) sent.push({ packet, arrivalMs: sentMs + ms });
    at += samples;
  }
  return sent.sort((a, b) => a.arrivalMs - b.arrivalMs);
}

export interface Heard {
  readonly samples: Int16Array;
  readonly inserted: InsertResult[];
  readonly figures: PlayoutFigures;
  /** Once a second: the delay that playout adds, ms. */
  readonly delaysMs: number[];
  readonly silentFrames: number;
}

/** Plays what arrives to a speaker that pulls every 10 ms. */
export function listen(
  arrivals: readonly Sent[],
  options: Partial<PlayoutOptions> & {
    readonly rateHz: RateHz;
    readonly untilMs: number;
    readonly phaseMs?: number;
    pulled?(playout: Playout, nowMs: number): void;
  },
): Heard {
  const playout = new Playout({ decoder: new PlainDecoder(), clockRateHz: options.rateHz, ...options });
  const frame = options.rateHz / 100;
  const { untilMs, phaseMs = 5 } = options;
  const samples = new Int16Array(Math.ceil(untilMs / 10) * frame);
  const inserted: InsertResult[] = [];
  const delaysMs: number[] = [];
  let silentFrames = 0;
  let next = 0;
  for (let i = 0; i * 10 < untilMs; i++) {
    const nowMs = i * 10 + phaseMs;
    for (let one = arrivals[next]; one !== undefined && one.arrivalMs <= nowMs; one = arrivals[++next]) {
      inserted.push(playout.insert(one.packet, one.arrivalMs, { isRedundant: one.isRedundant === true }));
    }
    const pulled = playout.pull(nowMs);
    if (pulled === null) silentFrames += 1;
    else samples.set(pulled, i * frame);
    options.pulled?.(playout, nowMs);
    if (i % 100 === 99) delaysMs.push(playout.figures.delayMs);
  }
  const { figures } = playout;
  playout.free();
  return { samples, inserted, figures, delaysMs, silentFrames };
}
