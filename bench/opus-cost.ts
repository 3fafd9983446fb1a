import { type OpusDecoders, type OpusEncoders, opusDecoders, opusEncoders } from '../src/adapters/opus/opus-engines.js';
import type { RateHz } from '../src/audio/frame.js';
import { resample } from '../src/audio/resample.js';
import type { OpusEncoderSettings } from '../src/codec/codec.js';
import { silentLogger } from '../src/core/logger.js';
import { quantile } from '../src/lab/alignment.js';
import { LAB_RATE_HZ } from '../src/lab/speech.js';

/** CPU time of this process for a packet of 20 ms, µs: medians of rounds in which the engines take turns. */
export interface OpusCost {
  readonly engine: string;
  /** By rate in kHz and complexity, such as `16 kHz, 9`; each 24 kbit/s with FEC for 5 %. */
  readonly encodeUs: Readonly<Record<string, number>>;
  /** By rate; each twentieth packet is lost, and had from the next one's FEC. Null for what can only encode. */
  readonly decodeUs: Readonly<Record<string, number>> | null;
}

const ENCODERS = ['native', 'discord', 'wasm'] as const;
const DECODERS: readonly string[] = ['native', 'wasm'];
const RATES: readonly RateHz[] = [16_000, 48_000];
const COMPLEXITIES = [5, 9, 10] as const;
const ROUNDS = 5;
const PACKETS = 400;
const DECODED_TIMES = 10;
const LOST_EVERY = 20;

/** @param speech at the lab's rate; as long as it takes, over again */
export async function measureOpusCost(speech: Int16Array): Promise<OpusCost[]> {
  const costs = new Map(ENCODERS.map((choice) => [choice, { encodeUs: {}, decodeUs: {} } as Measured]));
  for (const rateHz of RATES) {
    const packets = packetsOf(speech, rateHz);
    const kHz = `${rateHz / 1000} kHz`;
    for (const complexity of COMPLEXITIES) {
      await inTurns(async (choice) => {
        const us = await encodeUs(await opusEncoders(choice, silentLogger), { rateHz, complexity, packets });
        note(costs.get(choice)?.encodeUs, `${kHz}, ${complexity}`, us);
      });
    }
    const payloads = await payloadsOf(packets, rateHz);
    await inTurns(async (choice) => {
      if (choice === 'discord') return;
      note(
        costs.get(choice)?.decodeUs,
        kHz,
        await decodeUs(await opusDecoders(choice, silentLogger), rateHz, payloads),
      );
    });
  }
  const medians = (rounds: Rounds = {}) =>
    Object.fromEntries(Object.entries(rounds).map(([name, us]) => [name, quantile(us, 0.5)]));
  return ENCODERS.map((engine) => {
    const cost = costs.get(engine);
    const decodes = DECODERS.includes(engine) ? medians(cost?.decodeUs) : null;
    return { engine, encodeUs: medians(cost?.encodeUs), decodeUs: decodes };
  });
}

type Rounds = Record<string, number[]>;
interface Measured {
  readonly encodeUs: Rounds;
  readonly decodeUs: Rounds;
}

function note(rounds: Rounds | undefined, name: string, us: number): void {
  if (rounds === undefined) return;
  rounds[name] = [...(rounds[name] ?? []), us];
}

async function inTurns(measure: (choice: (typeof ENCODERS)[number]) => Promise<void>): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) for (const choice of ENCODERS) await measure(choice);
}

function settings(complexity: number): OpusEncoderSettings {
  return { bitrateBps: 24_000, complexity, inbandFec: true, expectedLossPct: 5, packetTimeMs: 20 };
}

async function encodeUs(
  engine: OpusEncoders,
  { rateHz, complexity, packets }: { rateHz: RateHz; complexity: number; packets: readonly Int16Array[] },
): Promise<number> {
  const encoder = await engine.create({ rateHz, settings: settings(complexity) });
  const us = cpuUs(() => {
    for (const packet of packets) encoder.encode(packet);
  });
  encoder.free();
  return us / packets.length;
}

async function decodeUs(engine: OpusDecoders, rateHz: RateHz, payloads: readonly Buffer[]): Promise<number> {
  const decoder = await engine.create({ rateHz });
  const us = cpuUs(() => {
    for (let time = 0; time < DECODED_TIMES; time++) {
      for (const [i, payload] of payloads.entries()) {
        const next = payloads[i + 1];
        if (i % LOST_EVERY === 1 && next !== undefined) decoder.decodeFec(next, rateHz / 50);
        else decoder.decode(payload);
      }
    }
  });
  decoder.free();
  return us / (payloads.length * DECODED_TIMES);
}

async function payloadsOf(packets: readonly Int16Array[], rateHz: RateHz): Promise<Buffer[]> {
  const encoder = await (await opusEncoders('auto', silentLogger)).create({ rateHz, settings: settings(9) });
  const payloads = packets.map((packet) => Buffer.from(encoder.encode(packet)));
  encoder.free();
  return payloads;
}

function packetsOf(speech: Int16Array, rateHz: RateHz): Int16Array[] {
  const samples = resample(speech, { fromHz: LAB_RATE_HZ, toHz: rateHz });
  const count = rateHz / 50;
  const whole = Math.floor(samples.length / count);
  return Array.from({ length: PACKETS }, (_, i) => samples.subarray((i % whole) * count, ((i % whole) + 1) * count));
}

function cpuUs(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}
