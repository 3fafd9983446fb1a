import { opusDecoders, opusEncoders } from '../../src/adapters/opus/opus-engines.js';
import { opusCarriesFec } from '../../src/codec/opus-packet.js';
import { silentLogger } from '../../src/core/logger.js';
import { type Impairment, ImpairmentModel } from '../../src/lab/impairment-relay.js';
import { Playout } from '../../src/playout/playout.js';
import type { RtpPacket } from '../../src/rtp/rtp-packet.js';
import { LISTENING_RATE_HZ } from './listening.js';

/** What a sender does against loss. */
export interface Scheme {
  readonly name: string;
  readonly engine: 'native' | 'discord' | 'wasm';
  readonly bitrateBps: number;
  /** In-band FEC, armed for so much loss, %; null: none. `measured`: the condition's own. */
  readonly fecForPct: number | 'measured' | null;
  /** How many packets earlier each copy was sent (RFC 2198). */
  readonly copies: readonly number[];
  readonly complexity?: number;
}

export interface Heard {
  readonly samples: Int16Array;
  /** Opus and the headers of RFC 2198, without those of RTP, UDP and IP. */
  readonly kbitPerS: number;
  readonly concealedMs: number;
  readonly encodeMsPerPacket: number;
}

const PACKET_MS = 20;
const PULL_MS = 10;
const PHASE_MS = 3.7;
const CLOCK_HZ = 48_000;
const PACKET_SAMPLES = (LISTENING_RATE_HZ * PACKET_MS) / 1000;
const RED_HEADER_BYTES = 4;
const TAIL_MS = 400;

/** Sends `speech`, 16 kHz, through the real encoder, an impaired way in simulated time, the real playout and decoder. */
export async function transmit(
  scheme: Scheme,
  impairment: Impairment,
  speech: Int16Array,
  seed: number,
): Promise<Heard> {
  const { payloads, encodeMsPerPacket } = await encoded(scheme, impairment.lossPct ?? 0, speech);
  const way = new ImpairmentModel(impairment, seed);
  const arrivals = payloads
    .flatMap((_, number) => way.next(number * PACKET_MS).atMs.map((atMs) => ({ number, atMs })))
    .sort((a, b) => a.atMs - b.atMs || a.number - b.number);

  const decoder = await (await opusDecoders('wasm', silentLogger)).create({ rateHz: LISTENING_RATE_HZ });
  const playout = new Playout({
    rateHz: LISTENING_RATE_HZ,
    clockRateHz: CLOCK_HZ,
    decoder,
    carriesFec: opusCarriesFec,
  });
  // As the session says it to the playout: copies come so much later. Whether FEC is waited for, the playout decides.
  playout.leastDelayMs = PACKET_MS * Math.max(0, ...scheme.copies);
  const samples = new Int16Array(speech.length + (LISTENING_RATE_HZ / 1000) * (TAIL_MS + PULL_MS));
  let at = 0;
  const endMs = payloads.length * PACKET_MS + TAIL_MS;
  for (let nowMs = PHASE_MS, sample = 0; nowMs < endMs; nowMs += PULL_MS, sample += LISTENING_RATE_HZ / 100) {
    for (; (arrivals[at]?.atMs ?? Number.POSITIVE_INFINITY) <= nowMs; at++) {
      const { number, atMs } = arrivals[at] as (typeof arrivals)[number];
      playout.insert(packetOf(number, payloads), atMs);
      for (const distance of scheme.copies) {
        if (number >= distance) playout.insert(packetOf(number - distance, payloads), atMs, { isRedundant: true });
      }
    }
    const frame = playout.pull(nowMs);
    if (frame !== null) samples.set(frame, sample);
  }
  const { concealedMs } = playout.figures;
  playout.free();
  const mean = payloads.reduce((sum, { length }) => sum + length, 0) / payloads.length;
  const bytes =
    mean * (1 + scheme.copies.length) + (scheme.copies.length > 0 ? scheme.copies.length * RED_HEADER_BYTES + 1 : 0);
  return { samples, kbitPerS: (bytes * 8) / PACKET_MS, concealedMs, encodeMsPerPacket };
}

interface Encoded {
  readonly payloads: readonly Uint8Array[];
  readonly encodeMsPerPacket: number;
}
const encodings = new WeakMap<Int16Array, Map<string, Encoded>>();

async function encoded(scheme: Scheme, lossPct: number, speech: Int16Array): Promise<Encoded> {
  const { engine, bitrateBps, fecForPct, complexity = 10 } = scheme;
  const expectedLossPct = fecForPct === 'measured' ? Math.round(lossPct) : (fecForPct ?? 0);
  const key = JSON.stringify([engine, bitrateBps, fecForPct !== null, expectedLossPct, complexity]);
  const known = encodings.get(speech) ?? new Map<string, Encoded>();
  encodings.set(speech, known);
  const made = known.get(key);
  if (made !== undefined) return made;
  const encoders = await opusEncoders(engine, silentLogger);
  const settings = {
    bitrateBps,
    complexity,
    inbandFec: fecForPct !== null,
    expectedLossPct,
    packetTimeMs: PACKET_MS,
  } as const;
  const encoder = await encoders.create({ rateHz: LISTENING_RATE_HZ, settings });
  const payloads: Uint8Array[] = [];
  const before = process.cpuUsage();
  for (let at = 0; at + PACKET_SAMPLES <= speech.length; at += PACKET_SAMPLES) {
    payloads.push(Uint8Array.from(encoder.encode(speech.subarray(at, at + PACKET_SAMPLES))));
  }
  const { user, system } = process.cpuUsage(before);
  encoder.free();
  const result = { payloads, encodeMsPerPacket: (user + system) / 1000 / payloads.length };
  known.set(key, result);
  return result;
}

function packetOf(number: number, payloads: readonly Uint8Array[]): RtpPacket {
  return {
    payloadType: 96,
    marker: false,
    sequence: number & 0xffff,
    timestamp: (number * PACKET_MS * CLOCK_HZ) / 1000,
    ssrc: 1,
    csrcs: [],
    extension: null,
    payload: payloads[number] as Uint8Array,
  };
}
