import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { errorText } from '../src/core/errors.js';
import { labSpeech } from '../src/lab/speech.js';
import { startVirtualSound } from '../src/lab/virtual-sound.js';
import { measureCollections } from './collections.js';
import { measureCpu } from './cpu.js';
import { measureForwarding } from './forwarding.js';
import { measureInference } from './inference.js';
import { measureMemory } from './memory.js';
import { measureMouthToEar } from './mouth-to-ear.js';
import { measureOpusCost } from './opus-cost.js';
import { measurePacing } from './pacing.js';
import { measurePlayout } from './playout.js';
import { measureCodec, measureQuality } from './quality.js';
import { type Run, summary, tablesOf } from './report.js';
import { measureSrtp } from './srtp.js';

const OPUS = { bitrateBps: 24_000, complexity: 10, inbandFec: true, expectedLossPct: 5, packetTimeMs: 20 } as const;
/** What GStreamer's jitter buffer is told to hold back, in ms. */
const GSTREAMER_DELAY_MS = 40;
const LOSS_PCT = 5;
const SEED = 2_026;
const SPEECH_S = 20;
const FORWARDING_S = 10;
const PACING_S = 20;
const COLLECTIONS_S = 60;
const PLAYOUT_SPEECH_S = 60;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    runs: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
  },
});

const SECTIONS = [
  'cpu',
  'mouth-to-ear',
  'forwarding',
  'pacing',
  'memory',
  'inference',
  'opus',
  'srtp',
  'collections',
  'playout',
  'quality',
  'codec',
] as const;
type Section = (typeof SECTIONS)[number];

try {
  const seconds = wholeNumber('seconds', values.seconds);
  const runs = wholeNumber('runs', values.runs);
  const sections = values.only === undefined ? SECTIONS : values.only.map(sectionOf);
  const results: Run[] = [];
  for (let run = 1; run <= runs; run++) {
    note(`run ${run} of ${runs}: ${sections.join(', ')}`);
    results.push(await measure(seconds, sections));
  }
  report(results, seconds);
  process.exit(0);
} catch (error) {
  process.stderr.write(`bench: ${errorText(error)}\n`);
  process.exit(1);
}

async function measure(seconds: number, sections: readonly Section[]): Promise<Run> {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-bench-'));
  const asked = async <T>(section: Section, figures: () => Promise<T>): Promise<T | undefined> => {
    if (!sections.includes(section)) return undefined;
    note(section);
    return figures();
  };
  try {
    const cpu = await asked('cpu', () =>
      withSound(dir, (common) =>
        measureCpu({ ...common, seconds, lossPct: LOSS_PCT, seed: SEED, gstreamerDelayMs: GSTREAMER_DELAY_MS }),
      ),
    );
    const mouthToEarMs = await asked('mouth-to-ear', () => withSound(dir, measureMouthToEar));
    const forwarding = await asked('forwarding', () => measureForwarding({ dir, seconds: FORWARDING_S }));
    const pacing = await asked('pacing', () => measurePacing({ dir, seconds: PACING_S }));
    const memory = await asked('memory', () => measureMemory({ dir, log: note }));
    const inference = await asked('inference', () => measureInference({ dir }));
    const opus = await asked('opus', async () => measureOpusCost((await labSpeech(SPEECH_S)).human));
    const srtp = await asked('srtp', async () => measureSrtp());
    const collections = await asked('collections', () =>
      measureCollections({ dir, seconds: COLLECTIONS_S, log: note }),
    );
    const playout = await asked('playout', async () => {
      const { human } = await labSpeech(PLAYOUT_SPEECH_S);
      return measurePlayout({ speech: human, log: note });
    });
    const quality = await asked('quality', () => measureQuality(note));
    const codec = await asked('codec', measureCodec);
    return {
      ...(cpu && { cpu }),
      ...(mouthToEarMs && { mouthToEarMs }),
      ...(forwarding && { forwarding }),
      ...(pacing && { pacing }),
      ...(memory && { memory }),
      ...(inference && { inference }),
      ...(opus && { opusEngines: opus }),
      ...(srtp && { srtp }),
      ...(collections && { collections }),
      ...(playout && { playout }),
      ...(quality && { quality }),
      ...(codec && { codec }),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Virtual cards for ours and for the yardstick, and what is said to them. */
async function withSound<T>(
  dir: string,
  measured: (common: Parameters<typeof measureMouthToEar>[0]) => Promise<T>,
): Promise<T> {
  const { human, other } = await labSpeech(SPEECH_S);
  const sound = await startVirtualSound({ dir: join(dir, 'sound'), stations: ['ours', 'yardstick'] });
  try {
    const env = { ...process.env, ...sound.env };
    return await measured({ sound, env, opus: OPUS, speech: human, other });
  } finally {
    await sound.stop();
  }
}

function report(results: readonly Run[], seconds: number): void {
  const figures = summary(results);
  if (!values.json) {
    process.stdout.write(tablesOf(figures));
    return;
  }
  const outcome = {
    runs: results.length,
    seconds,
    opus: OPUS,
    rateHz: 48_000,
    receiverLossPct: LOSS_PCT,
    gstreamerDelayMs: GSTREAMER_DELAY_MS,
    ...figures,
  };
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
}

function sectionOf(name: string): Section {
  const found = SECTIONS.find((section) => section === name);
  if (found !== undefined) return found;
  throw new Error(`--only knows ${SECTIONS.join(', ')}`);
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 3_600) return value;
  throw new Error(`--${name} must be a whole number from 1 to 3600`);
}

function note(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
