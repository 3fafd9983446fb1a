import { randomBytes } from 'node:crypto';
import { TapSender } from '../adapters/udp/tap-sender.js';
import type { RateHz } from '../audio/frame.js';
import { Resampler } from '../audio/resample.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { TapFigures, TapSource, Transport } from '../protocol/engine-api.js';
import { L16_PACKET_SAMPLES, L16_RATE_HZ, L16Writer } from '../rtp/l16.js';

/** Inference has one; flows have the others. */
const MOST_TAPS = 4;
const FRAMES_PER_PACKET = 2;

export interface TapOrder {
  readonly tapId: string;
  readonly source: TapSource;
  readonly remote: Transport;
}

interface OpenTap {
  readonly order: TapOrder;
  readonly writer: L16Writer;
  readonly sender: TapSender;
  readonly dropped: Counters<string>;
  packets: number;
}

/**
 * What the microphone hears, or what the speaker plays, as RTP to ports of this machine: for inference, a recorder, an installer's
 * own program. Each packet is one send, into memory that is used again; what can't leave at once is lost.
 *
 *   frame, 10 ms ──▶ [ 16 kHz ] ──▶ L16Writer (20 ms) ──▶ TapSender ──▶ 127.0.0.1:port
 */
export class Taps {
  readonly #rateHz: RateHz;
  readonly #changed: () => void;
  readonly #taps = new Map<string, OpenTap>();
  /** Orders are carried out one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  /** Of a station that is gone, and not asked for again. */
  readonly #abandoned = new Set<string>();
  readonly #resamplers = new Map<TapSource, Resampler>();

  /** @param options.changed what `wantMicrophone` says may have changed */
  constructor(options: { rateHz: RateHz; changed: () => void }) {
    this.#rateHz = options.rateHz;
    this.#changed = options.changed;
  }

  get wantMicrophone(): boolean {
    for (const { order } of this.#taps.values()) if (order.source === 'microphone') return true;
    return false;
  }

  /**
   * Opens a tap; one that is open already, and the same, goes on as it is.
   * @throws AppError `too-many-taps`, `socket-failed`
   */
  open(order: TapOrder): Promise<{ ssrc: number; rateHz: typeof L16_RATE_HZ }> {
    return this.#inTurn(async () => {
      this.#abandoned.delete(order.tapId);
      const known = this.#taps.get(order.tapId);
      if (known !== undefined && isSame(known.order, order)) return { ssrc: known.writer.ssrc, rateHz: L16_RATE_HZ };
      if (known === undefined && this.#taps.size >= MOST_TAPS) {
        throw new AppError('too-many-taps', `${MOST_TAPS} taps are open`, { remedy: 'Close one first' });
      }
      const dropped = new Counters<string>();
      const sender = await TapSender.open(order.remote, dropped);
      known?.sender.close();
      const random = randomBytes(10);
      const writer = new L16Writer({
        ssrc: random.readUInt32BE(0),
        sequence: random.readUInt16BE(4),
        timestamp: random.readUInt32BE(6),
      });
      this.#taps.set(order.tapId, { order, writer, sender, dropped, packets: 0 });
      this.#changed();
      return { ssrc: writer.ssrc, rateHz: L16_RATE_HZ };
    });
  }

  /** @throws AppError `tap-unknown` */
  close(tapId: string): Promise<TapFigures> {
    return this.#inTurn(async () => {
      const tap = this.#taps.get(tapId);
      if (tap === undefined) throw new AppError('tap-unknown', `There is no tap ${tapId}`);
      this.#end(tap);
      return figuresOf(tap);
    });
  }

  /** 10 ms of a source. @param atMs when the last sample was handed over, monotonic */
  frame(source: TapSource, samples: Int16Array, atMs: number): void {
    let heard: Int16Array | null = null;
    for (const tap of this.#taps.values()) {
      if (tap.order.source !== source) continue;
      heard ??= this.#atTapRate(source, samples);
      const datagram = tap.writer.push(heard, atMs);
      if (datagram === null) continue;
      tap.packets += 1;
      tap.sender.send(datagram);
    }
  }

  figures(): TapFigures[] {
    return [...this.#taps.values()].map(figuresOf);
  }

  /** The station is gone: until one opens it again, a tap is nobody's. */
  abandon(): void {
    for (const tapId of this.#taps.keys()) this.#abandoned.add(tapId);
  }

  /** @returns how many there were */
  closeAbandoned(): number {
    const left = [...this.#abandoned].flatMap((tapId) => this.#taps.get(tapId) ?? []);
    this.#abandoned.clear();
    for (const tap of left) this.#end(tap);
    return left.length;
  }

  async end(): Promise<void> {
    await this.#last;
    for (const tap of [...this.#taps.values()]) this.#end(tap);
  }

  #end(tap: OpenTap): void {
    this.#taps.delete(tap.order.tapId);
    tap.sender.close();
    this.#changed();
  }

  #atTapRate(source: TapSource, samples: Int16Array): Int16Array {
    if (this.#rateHz === L16_RATE_HZ) return samples;
    let resampler = this.#resamplers.get(source);
    if (resampler === undefined) {
      resampler = new Resampler({ fromHz: this.#rateHz, toHz: L16_RATE_HZ });
      this.#resamplers.set(source, resampler);
    }
    return resampler.resample(samples);
  }

  #inTurn<T>(what: () => Promise<T>): Promise<T> {
    const done = this.#last.then(what);
    this.#last = done.catch(() => {});
    return done;
  }
}

function figuresOf({ order, writer, dropped, packets }: OpenTap): TapFigures {
  const lost = dropped.all() as Record<string, number>;
  const sent = Math.max(0, packets - Object.values(lost).reduce((sum, count) => sum + count, 0));
  return {
    ...order,
    ssrc: writer.ssrc,
    sentFrames: FRAMES_PER_PACKET * sent,
    sentBytes: 2 * L16_PACKET_SAMPLES * sent,
    dropped: Object.fromEntries(Object.entries(lost).map(([why, count]) => [why, FRAMES_PER_PACKET * count])),
  };
}

function isSame(one: TapOrder, other: TapOrder): boolean {
  return (
    one.source === other.source && one.remote.address === other.remote.address && one.remote.port === other.remote.port
  );
}
