import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { sleep, startScenarioSite, talk, watchBoth } from '../src/lab/scenario.js';
import { feedRecording } from '../src/lab/sound-device.js';
import { LAB_RATE_HZ, labSpeech } from '../src/lab/speech.js';
import { collectionsBetween, type GcFigures, watchCollections } from './gc-figures.js';

export interface Collections {
  readonly seconds: number;
  /** Of the media processes of both stations, while they talk. */
  readonly door: GcFigures;
  readonly indoor: GcFigures;
}

const STATIONS = ['door', 'indoor'] as const;
/** Start-up is apart. */
const WARM_UP_MS = 5_000;

/** Two stations on this machine talk, both ways at once; how often, and how long, collections of garbage stop their media processes. */
export async function measureCollections(options: {
  dir: string;
  seconds: number;
  log: (text: string) => void;
}): Promise<Collections> {
  const { seconds, log } = options;
  const dir = join(options.dir, 'collections');
  mkdirSync(dir);
  const collections = watchCollections(dir);
  try {
    const site = await startScenarioSite({ dir, log });
    const watches = await watchBoth(site);
    try {
      await talk(site, watches);
      const speech = await labSpeech(seconds + WARM_UP_MS / 1000);
      const feed = (station: (typeof STATIONS)[number], samples: Int16Array) => {
        const { feed: device } = site.sound.devices(station);
        return feedRecording({ device, samples, env: site.sound.env, rateHz: LAB_RATE_HZ, clock: systemClock });
      };
      const fed = Promise.all([feed('door', speech.human), feed('indoor', speech.made)]);
      fed.catch(() => {}); // awaited below
      await sleep(WARM_UP_MS);
      const look = () => Promise.all(STATIONS.map(async (station) => collections.of(await mediaOf(watches[station]))));
      const [doorBefore, indoorBefore] = (await look()) as [GcFigures, GcFigures];
      await fed;
      const [doorAfter, indoorAfter] = (await look()) as [GcFigures, GcFigures];
      return {
        seconds,
        door: collectionsBetween(doorBefore, doorAfter),
        indoor: collectionsBetween(indoorBefore, indoorAfter),
      };
    } finally {
      watches.door.close();
      watches.indoor.close();
      await site.stop();
    }
  } finally {
    collections.end();
  }
}

async function mediaOf(watch: Awaited<ReturnType<typeof watchBoth>>['door']): Promise<number> {
  const { engine, calls } = await watch.client.call('station.status', {});
  if (calls.at(-1)?.state !== 'answered' || !engine?.pid) throw new AppError('call-lost', 'the call has ended');
  return engine.pid;
}
