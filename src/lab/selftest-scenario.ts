import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { SelfTestResult } from '../protocol/selftest.js';
import { waitUntil, watching } from './held-call.js';
import { holdNoise } from './held-noise.js';
import { bothOnBroker, brokerPid } from './kill-scenario.js';
import { attempt, inTime, type ScenarioContext, sleep, startScenarioSite } from './scenario.js';
import { type Site, wireContact } from './site.js';
import type { StationId } from './site-config.js';

const STATION: StationId = 'door';
/** What the microphone gets of the speaker, and of its surroundings. */
const LOOP_GAIN_DB = -20;
const NOISE_DBFS = -60;
const MOST_TEST_MS = 25_000;
const SETTLED_MS = 300;
const GONE_WITHIN_MS = 10_000;

interface Fault {
  begin(site: Site, room: Room): Promise<void>;
  end(site: Site, room: Room): Promise<void>;
  /** What of the self-test fails, and why; of several, any of them. */
  readonly expected: readonly string[];
}

/** What the microphone of the door station hears of its surroundings. */
class Room {
  readonly #site: Site;
  #noise: { stop(): void } | null = null;
  held: Server | null = null;

  constructor(site: Site) {
    this.#site = site;
  }

  async noisy(): Promise<void> {
    const { feed } = this.#site.sound.devices(STATION);
    this.#noise = holdNoise({ device: feed, dbfs: NOISE_DBFS, env: this.#site.sound.env });
    await sleep(SETTLED_MS * 3);
  }

  quiet(): void {
    this.#noise?.stop();
    this.#noise = null;
  }
}

const joined = (site: Site) => site.sound.joinSpeaker(STATION, LOOP_GAIN_DB);

/** Each alone; all else of the station works meanwhile, and must pass. */
const FAULTS = {
  /** The loudspeaker's wire: its card plays, and nothing comes out of it; the microphone hears its surroundings. */
  speakerWire: {
    begin: (site) => site.sound.partSpeaker(STATION),
    end: joined,
    expected: ['sound: not-heard'],
  },
  speakerCard: {
    begin: (site) => site.sound.unplugSpeaker(STATION),
    end: (site) => site.sound.replugSpeaker(STATION),
    expected: ['sound: speaker-down'],
  },
  /** The microphone's wire: its card records, digital silence. */
  microphoneWire: {
    begin: async (site, room) => {
      room.quiet();
      await site.sound.partSpeaker(STATION);
    },
    end: async (site, room) => {
      await joined(site);
      await room.noisy();
    },
    expected: ['sound: microphone-silent'],
  },
  microphoneCard: {
    begin: (site) => site.sound.unplugMicrophone(STATION),
    end: (site) => site.sound.replugMicrophone(STATION),
    expected: ['sound: microphone-down'],
  },
  microphoneHung: {
    begin: (site) => site.sound.hangMicrophone(STATION),
    end: (site) => site.sound.replugMicrophone(STATION),
    expected: ['sound: microphone-down'],
  },
  relayStuck: {
    begin: async (site) => wireContact(site.boards[STATION], true),
    end: async (site) => wireContact(site.boards[STATION]),
    expected: ['relay: relay-stuck'],
  },
  brokerDead: {
    begin: killBroker,
    end: async (site, room) => {
      room.held?.close();
      room.held = null;
      await watching(site, bothOnBroker);
    },
    expected: ['broker: broker-unreachable', 'call: no-broker'],
  },
} as const satisfies Record<string, Fault>;
type FaultName = keyof typeof FAULTS;
const names = Object.keys(FAULTS) as FaultName[];

interface CaseResult {
  /** `name: reason` of what failed. */
  readonly failed: readonly string[];
  readonly expected: readonly string[];
  readonly durationMs: number;
  /** Why, for people. */
  readonly text: string;
}

export interface SelfTestScenarioResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** On a sound path: the figures of each check. */
  readonly sound: SelfTestResult | null;
  /** Of the station that hosts the site, which calls its own echo; without a loop its microphone hears nothing. */
  readonly host: CaseResult | null;
  readonly faults: Readonly<Record<FaultName, CaseResult | null>>;
  /** When everything was mended. */
  readonly mended: SelfTestResult | null;
}

/** A station tests itself: all is well, then one thing after the other is not, then all is well again. */
export async function runSelfTestScenario(context: ScenarioContext): Promise<SelfTestScenarioResult> {
  const failed: string[] = [];
  const faults = Object.fromEntries(names.map((name) => [name, null])) as Record<FaultName, CaseResult | null>;
  const site = await startScenarioSite(context, { testsRelay: true });
  const room = new Room(site);
  const well = async (what: string): Promise<SelfTestResult | null> => {
    context.log(what);
    const result = await attempt(failed, what, () => selfTest(site, STATION));
    if (result !== undefined && !result.ok) failed.push(`${what}: ${result.failed.join(', ')}`);
    return result ?? null;
  };
  let sound: SelfTestResult | null = null;
  let mended: SelfTestResult | null = null;
  let host: CaseResult | null = null;
  try {
    await joined(site);
    await room.noisy();
    sound = await well('a sound path');
    if (sound !== null) failed.push(...unlikely(sound));
    context.log("the site host's own");
    host = (await attempt(failed, 'host', () => fails(site, 'indoor', ['sound: microphone-silent']))) ?? null;
    failed.push(...mistaken('host', host));
    for (const name of names) {
      context.log(name);
      faults[name] = (await attempt(failed, name, () => underFault(site, room, FAULTS[name]))) ?? null;
      failed.push(...mistaken(name, faults[name]));
    }
    mended = await well('all mended');
  } finally {
    room.quiet();
    room.held?.close();
    await site.stop();
  }
  return { ok: failed.length === 0, failed, sound, host, faults, mended };
}

/** What was measured of a path that is known. */
function unlikely({ checks }: SelfTestResult): string[] {
  const figure = (name: string, of: string): number => {
    const value = checks.find((check) => check.name === name)?.figures[of];
    return typeof value === 'number' ? value : Number.NaN;
  };
  const bounds = [
    ['sound', 'levelDb', LOOP_GAIN_DB - 3, LOOP_GAIN_DB + 3],
    ['sound', 'delayMs', 1, 400],
    ['sound', 'distortionPct', 0, 10],
    ['call', 'setUpMs', 1, 2_000],
    ['call', 'roundTripMs', 1, 400],
    ['call', 'mos', 3.5, 5],
    ['relay', 'movedMs', 0, 200],
  ] as const;
  return bounds.flatMap(([name, of, least, most]) => {
    const value = figure(name, of);
    return value >= least && value <= most ? [] : [`${name}: ${of} is ${value}, not ${least} to ${most}`];
  });
}

function mistaken(name: string, result: CaseResult | null): string[] {
  if (result === null || isSame(result.failed, result.expected)) return [];
  return [
    `${name}: the self-test says ${result.failed.join(', ') || 'that all is well'}, not ${result.expected.join(', ')}`,
  ];
}

function isSame(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text, i) => text === other[i]);
}

async function underFault(site: Site, room: Room, fault: Fault): Promise<CaseResult> {
  await fault.begin(site, room);
  try {
    await sleep(SETTLED_MS);
    return await fails(site, STATION, fault.expected);
  } finally {
    await fault.end(site, room);
    await sleep(SETTLED_MS);
  }
}

async function fails(site: Site, id: StationId, expected: readonly string[]): Promise<CaseResult> {
  const { failed, durationMs, checks } = await selfTest(site, id);
  const text = checks.flatMap((check) => (check.outcome === 'fail' ? [check.text] : [])).join('; ');
  return { failed, expected, durationMs, text };
}

async function selfTest(site: Site, id: StationId): Promise<SelfTestResult> {
  const client = await site.connect(id);
  try {
    return await client.call('selftest.run', {}, { timeoutMs: MOST_TEST_MS });
  } finally {
    client.close();
  }
}

/** Kills mosquitto and takes its port, so that the next one can't listen. */
async function killBroker(site: Site, room: Room): Promise<void> {
  const pid = brokerPid(site);
  if (pid === undefined) throw new AppError('not-running', 'the broker does not run');
  process.kill(pid, 'SIGKILL');
  room.held = await takePort(site.plan.brokerPort);
  await inTime(
    watching(site, ({ door }) => offBroker(door.client)),
    GONE_WITHIN_MS,
    'the station sees that the broker is gone',
  );
}

async function takePort(port: number): Promise<Server> {
  const untilMs = systemClock.nowMs() + GONE_WITHIN_MS;
  for (;;) {
    const server = createServer((socket) => socket.destroy()).listen(port, '127.0.0.1');
    const taken = await Promise.race([
      once(server, 'listening').then(() => true),
      once(server, 'error').then(() => false),
    ]).catch(() => false);
    if (taken) return server;
    if (systemClock.nowMs() > untilMs) throw new AppError('port-taken', `port ${port} stays taken`);
    await sleep(20);
  }
}

function offBroker(client: Awaited<ReturnType<Site['connect']>>): Promise<void> {
  return waitUntil(async () => !(await client.call('station.status', {})).broker.connected);
}
