import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { AudioDecoder } from '../codec/codec.js';
import { seededRandom } from '../core/seeded-random.js';
import { Playout } from '../playout/playout.js';

export const DRIFT_RATE_HZ = 8_000;
const PACKET_MS = 20;
const PACKET_SAMPLES = (DRIFT_RATE_HZ * PACKET_MS) / 1000;
const PULL_MS = 10;
/** A quiet network: what is left to see is the clocks' doing. */
const JITTER_MS = 8;
const LOSS = 0.001;
/** Before this the playout is still getting to know the way. */
const SETTLED_S = 30;
const MINUTE_S = 60;

export interface DriftOptions {
  /** By how many millionths the speaker's clock is quicker than the sender's. */
  readonly speakerPpm: number;
  readonly seconds: number;
  /** 8 kHz mono, said again and again. */
  readonly speech: Int16Array;
  readonly seed: number;
}

export interface DriftFigures {
  readonly speakerPpm: number;
  readonly simulatedS: number;
  /** How long packets waited for the speaker, ms: mean of the first minute once settled, and of the last. */
  readonly delayStartMs: number;
  readonly delayEndMs: number;
  readonly mostDelayMs: number;
  readonly lostMs: number;
  readonly concealedMs: number;
  readonly stretchedMs: number;
  /** What is held after a tenth of the time, and at its end, MiB. */
  readonly heapStartMb: number;
  readonly heapEndMb: number;
}

/**
 * A day of speech between two clocks that differ, in simulated time: L16 (RFC 3551, 4.5.11) at 8 kHz, so that what is
 * measured is the playout alone. Sequence numbers wrap round every 22 minutes, the timestamps once.
 *
 * The delay is not what the playout says of itself: it is the time from a packet's arrival until it is decoded for the speaker,
 * by the sender's clock.
 */
export function simulateDrift({ speakerPpm, seconds, speech, seed }: DriftOptions): DriftFigures {
  const random = seededRandom(seed);
  const decoder = new L16Decoder();
  const playout = new Playout({ rateHz: DRIFT_RATE_HZ, clockRateHz: DRIFT_RATE_HZ, decoder });
  const payloads = packetsOf(speech);
  const arrivals = new Float64Array(64);
  const endMs = seconds * 1000;
  const pullMs = PULL_MS / (1 + speakerPpm / 1e6);
  // Half of the time before the wrap of the timestamps, half behind it.
  const firstTimestamp = 2 ** 32 - Math.round((seconds / 2) * DRIFT_RATE_HZ);
  const start = new Mean();
  const end = new Mean();
  let heapStartMb = Number.NaN;
  let mostDelayMs = 0;
  let lost = 0;
  let sent = 0;
  let nextMs = random() * JITTER_MS;
  for (let pulls = 0; ; pulls++) {
    const nowMs = pulls * pullMs;
    if (nowMs >= endMs) break;
    for (; nextMs <= nowMs; sent++) {
      arrivals[sent % arrivals.length] = nextMs;
      if (random() < LOSS) lost += 1;
      else playout.insert(packet(sent, firstTimestamp, payloads), nextMs);
      nextMs = (sent + 1) * PACKET_MS + random() * JITTER_MS;
    }
    decoder.number = -1;
    playout.pull(nowMs);
    if (decoder.number < 0) continue;
    const behind = (sent - decoder.number) & 0xffff;
    if (behind > arrivals.length) continue;
    const delayMs = nowMs - (arrivals[(sent - behind) % arrivals.length] as number);
    if (nowMs >= SETTLED_S * 1000) {
      mostDelayMs = Math.max(mostDelayMs, delayMs);
      if (nowMs < (SETTLED_S + MINUTE_S) * 1000) start.add(delayMs);
    }
    if (nowMs >= endMs - MINUTE_S * 1000) end.add(delayMs);
    if (Number.isNaN(heapStartMb) && nowMs >= endMs / 10) heapStartMb = heldMb();
  }
  const heapEndMb = heldMb();
  const { concealedMs, expandedMs, acceleratedMs } = playout.figures;
  playout.free();
  return {
    speakerPpm,
    simulatedS: seconds,
    delayStartMs: rounded(start.value),
    delayEndMs: rounded(end.value),
    mostDelayMs: rounded(mostDelayMs),
    lostMs: lost * PACKET_MS,
    concealedMs: rounded(concealedMs),
    stretchedMs: rounded(expandedMs + acceleratedMs),
    heapStartMb: rounded(heapStartMb),
    heapEndMb: rounded(heapEndMb),
  };
}

function rounded(value: number): number {
  return Math.round(value * 10) / 10;
}

function packetsOf(speech: Int16Array): Uint8Array[] {
  const payloads: Uint8Array[] = [];
  for (let at = 0; at + PACKET_SAMPLES <= speech.length; at += PACKET_SAMPLES) {
    const payload = Buffer.alloc(2 * PACKET_SAMPLES);
    for (let i = 0; i < PACKET_SAMPLES; i++) payload.writeInt16BE(speech[at + i] as number, 2 * i);
    payloads.push(payload);
  }
  return payloads;
}

/** The number of the packet stands before its samples, so that the decoder can tell which it was. */
function packet(number: number, firstTimestamp: number, payloads: readonly Uint8Array[]) {
  const payload = Buffer.allocUnsafe(2 + 2 * PACKET_SAMPLES);
  payload.writeUInt16BE(number & 0xffff);
  payload.set(payloads[number % payloads.length] as Uint8Array, 2);
  return {
    payloadType: 96,
    marker: false,
    sequence: number & 0xffff,
    timestamp: (firstTimestamp + number * PACKET_SAMPLES) % 2 ** 32,
    ssrc: 1,
    csrcs: [],
    extension: null,
    payload,
  };
}

class L16Decoder implements AudioDecoder {
  /** Of the packet that was decoded last, modulo 2^16. */
  number = -1;
  readonly #samples = new Int16Array(PACKET_SAMPLES);

  decode(payload: Uint8Array): Int16Array {
    const samples = this.#samples;
    if (this.number < 0) this.number = ((payload[0] as number) << 8) | (payload[1] as number);
    for (let i = 0, at = 2; i < samples.length; i++, at += 2) {
      samples[i] = ((payload[at] as number) << 8) | (payload[at + 1] as number);
    }
    return samples;
  }

  decodeFec(_: Uint8Array, sampleCount: number): Int16Array {
    return this.conceal(sampleCount);
  }

  conceal(sampleCount: number): Int16Array {
    return new Int16Array(sampleCount);
  }

  free(): void {}
}

class Mean {
  #sum = 0;
  #count = 0;

  add(value: number): void {
    this.#sum += value;
    this.#count += 1;
  }

  get value(): number {
    return this.#sum / this.#count;
  }
}

/** Collects garbage, whether or not Node.js was started with --expose-gc. */
const collect: () => void = (() => {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc');
})();

/** What is held, MiB. */
function heldMb(): number {
  collect();
  return process.memoryUsage().heapUsed / 2 ** 20;
}
