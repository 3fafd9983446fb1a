import type { AudioDecoder } from '../src/codec/codec.js';
import { AppError } from '../src/core/errors.js';
import { arrivalsOf, type NetworkTrace, networkTraces, TRACE_PACKET_MS } from '../src/lab/network-traces.js';
import { LAB_RATE_HZ } from '../src/lab/speech.js';
import { Playout } from '../src/playout/playout.js';
import type { RtpPacket } from '../src/rtp/rtp-packet.js';
import { type GstreamerHeard, gstreamerAtMost, type Heard, START_UP_MS } from './gstreamer-playout.js';

/** One trace, heard by both. */
export interface PlayoutTrace {
  readonly trace: string;
  /** Packets that never came, as time. */
  readonly lostMs: number;
  readonly ours: OursHeard;
  readonly gstreamer: GstreamerHeard;
}

export interface PlayoutComparison {
  readonly traces: readonly PlayoutTrace[];
  readonly concealedMs: { readonly ours: number; readonly gstreamer: number };
  /** Traces on which ours conceals less. */
  readonly better: number;
}

export interface OursHeard extends Heard {
  /** Speech put in and left out by stretching. */
  readonly stretchedMs: number;
}

const SEED = 2_026;
const PULL_MS = 10;
const CLOCK_HZ = 48_000;
const PACKET_SAMPLES = (LAB_RATE_HZ * TRACE_PACKET_MS) / 1000;
const PACKET_TICKS = (CLOCK_HZ * TRACE_PACKET_MS) / 1000;
/** The speaker goes on so long after the last packet. */
const TAIL_MS = 1_000;
/** The two accounts count the packet that is being played, and those that are stretched, differently. */
const MOST_DIFFERENCE_MS = 2 * TRACE_PACKET_MS;
/** The speaker's clock has a phase of its own. */
const PHASE_MS = 3.7;

/**
 * Ours and GStreamer's jitter buffer on the same arrivals, ours first and then GStreamer's at a mean delay that is not above
 * ours. The first seconds are apart. Neither has FEC: what is lost is concealed by both. See `gstreamerAtMost` for how GStreamer's is measured.
 */
export async function measurePlayout(options: {
  speech: Int16Array;
  log: (text: string) => void;
}): Promise<PlayoutComparison> {
  const traces: PlayoutTrace[] = [];
  for (const trace of networkTraces(SEED)) {
    const ours = oursHeard(trace, options.speech);
    const gstreamer = await gstreamerAtMost(ours.meanDelayMs, trace);
    const lost = trace.packets.filter(({ arrivedMs, sentMs }) => arrivedMs === null && sentMs >= START_UP_MS).length;
    traces.push({ trace: trace.name, lostMs: lost * TRACE_PACKET_MS, ours, gstreamer });
    options.log(`${trace.name}: ${Math.round(ours.concealedMs)} ms, GStreamer ${Math.round(gstreamer.concealedMs)} ms`);
  }
  const sum = (of: (one: PlayoutTrace) => Heard) => traces.reduce((total, one) => total + of(one).concealedMs, 0);
  return {
    traces,
    concealedMs: { ours: sum(({ ours }) => ours), gstreamer: sum(({ gstreamer }) => gstreamer) },
    better: traces.filter(({ ours, gstreamer }) => ours.concealedMs < gstreamer.concealedMs).length,
  };
}

/**
 * What the playout makes of a trace, pulled every 10 ms in simulated time. What it says of itself is held against the time at
 * the speaker less what was decoded, with what stretching put in or left out made good. Speech that came and was left
 * out without anything in its place counts as concealed too.
 *
 * @throws AppError `bench-doubtful` where the two accounts differ
 */
export function oursHeard(trace: NetworkTrace, speech: Int16Array): OursHeard {
  const decoder = new TraceDecoder(speech);
  const playout = new Playout({ rateHz: LAB_RATE_HZ, clockRateHz: CLOCK_HZ, decoder });
  const arrivals = arrivalsOf(trace);
  const endMs = (arrivals.at(-1)?.arrivedMs ?? 0) + TAIL_MS;
  const last = arrivals.reduce((most, { number }) => Math.max(most, number), 0);
  let at = 0;
  let heardMs = 0;
  let delays = 0;
  let delayed = 0;
  let startUpMs = 0;
  for (let nowMs = PHASE_MS; nowMs < endMs && !decoder.has(last); nowMs += PULL_MS) {
    for (; (arrivals[at]?.arrivedMs ?? Number.POSITIVE_INFINITY) <= nowMs; at++) {
      const { number, arrivedMs } = arrivals[at] as (typeof arrivals)[number];
      playout.insert(packetOf(number), arrivedMs);
    }
    const decodedBefore = decoder.decoded;
    if (playout.pull(nowMs) === null) continue;
    heardMs += PULL_MS;
    if (nowMs < START_UP_MS) {
      startUpMs = concealedOf(playout);
      continue;
    }
    if (decoder.decoded === decodedBefore) continue;
    // A running mean: sampled with each packet, its mean is the packets'.
    delays += playout.figures.delayMs + transitMs(trace, decoder.lastNumber);
    delayed += 1;
  }
  const { expandedMs, acceleratedMs, skipped } = playout.figures;
  const concealedMs = concealedOf(playout);
  playout.free();
  // The last packet has been begun: what of it is still to come has not been heard.
  const decodedMs = decoder.decoded * TRACE_PACKET_MS - TRACE_PACKET_MS / 2;
  const otherAccountMs = heardMs - decodedMs - expandedMs + acceleratedMs + skipped * TRACE_PACKET_MS;
  if (Math.abs(otherAccountMs - concealedMs) > MOST_DIFFERENCE_MS) {
    throw new AppError(
      'bench-doubtful',
      `${trace.name}: the playout says that it concealed ${concealedMs} ms; ${otherAccountMs} ms had nothing that was decoded`,
    );
  }
  return {
    concealedMs: concealedMs - startUpMs,
    meanDelayMs: delays / delayed,
    stretchedMs: expandedMs + acceleratedMs,
  };
}

function concealedOf({ figures }: Playout): number {
  return figures.concealedMs + figures.skipped * TRACE_PACKET_MS;
}

function transitMs(trace: NetworkTrace, number: number): number {
  const { sentMs, arrivedMs } = trace.packets[number] as NetworkTrace['packets'][number];
  return (arrivedMs ?? sentMs) - sentMs;
}

function packetOf(number: number): RtpPacket {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(number);
  return {
    payloadType: 96,
    marker: false,
    sequence: number & 0xffff,
    timestamp: number * PACKET_TICKS,
    ssrc: 1,
    csrcs: [],
    extension: null,
    payload,
  };
}

/** A payload is the packet's number; what it stands for is that part of the speech. */
class TraceDecoder implements AudioDecoder {
  readonly #speech: Int16Array;
  readonly #numbers = new Set<number>();
  lastNumber = 0;

  constructor(speech: Int16Array) {
    this.#speech = speech;
  }

  get decoded(): number {
    return this.#numbers.size;
  }

  has(number: number): boolean {
    return this.#numbers.has(number);
  }

  decode(payload: Uint8Array): Int16Array {
    this.lastNumber = Buffer.from(payload).readUInt32BE();
    this.#numbers.add(this.lastNumber);
    const from = (this.lastNumber * PACKET_SAMPLES) % (this.#speech.length - PACKET_SAMPLES);
    return this.#speech.slice(from, from + PACKET_SAMPLES);
  }

  decodeFec(_: Uint8Array, sampleCount: number): Int16Array {
    return this.conceal(sampleCount);
  }

  conceal(sampleCount: number): Int16Array {
    return new Int16Array(sampleCount);
  }

  free(): void {}
}
