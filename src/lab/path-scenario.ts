import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { MediaPath, SessionFigures } from '../protocol/engine-api.js';
import type { SelfTestCheck } from '../protocol/selftest.js';
import { duringCall, type Ear, waitUntil } from './held-call.js';
import {
  attempt,
  inTime,
  type ScenarioContext,
  sleep,
  startScenarioSite,
  type Watches,
  watchBoth,
} from './scenario.js';
import type { Site } from './site.js';
import { STATIONS, type StationId } from './site-config.js';
import { UdpCut } from './udp-cut.js';

export interface Migration {
  readonly from: MediaPath;
  readonly to: MediaPath;
  /** The longest silence of a tone that is held both ways, at the speaker where it was longer, from the change of the network on. */
  readonly silenceMs: number;
  /** From the change of the network until what both ends sent took the other path. */
  readonly movedMs: number;
}

export interface PathResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  readonly migrations: readonly Migration[];
  /** At one of its two ends the call was no longer answered. */
  readonly callEnded: boolean | null;
  /** Each end had the same source (SSRC) all the time, and the other end heard that one. */
  readonly ssrcKept: boolean | null;
  /** Of a self-test while UDP is cut; it passes, inside MQTT. */
  readonly testCall: TestCallSeen | null;
  /** The same measure with nothing cut: what this machine's own hiccups cost. */
  readonly controlSilenceMs: number | null;
}

export interface TestCallSeen {
  readonly outcome: SelfTestCheck['outcome'];
  readonly reason: string;
  readonly path: MediaPath | null;
  readonly mos: number | null;
}

const MOST_SILENCE_MS = 2_000;
const MOST_TEST_MS = 25_000;
const CONTROL_MS = 3_000;
/** To MQTT; and back, which waits until UDP has proved good. */
const MOVES_WITHIN_MS = { mqtt: 10_000, udp: 20_000 };
/** What the change itself cost is heard by then. */
const SETTLED_MS = 2_500;

/** UDP is cut in the kernel in mid-call, and restored: the call moves to MQTT and back. Needs a network namespace of its own. */
export async function runPathScenario(context: ScenarioContext): Promise<PathResult> {
  const failed: string[] = [];
  const network = await UdpCut.prepare();
  const site = await startScenarioSite(context);
  let found: Found | undefined;
  let call: { readonly callEnded: boolean } | undefined;
  let tested: TestCallSeen | undefined;
  try {
    const watches = await watchBoth(site);
    const migrate = async (ears: Readonly<Record<StationId, Ear>>) => {
      found = await migrations(context, watches, network, ears);
    };
    call = await attempt(failed, 'call', () => duringCall(site, 'indoor', migrate));
    context.log('a test call while UDP is cut');
    tested = await attempt(failed, 'test call', () => testCallWithout(site, network));
    for (const id of STATIONS) watches[id].close();
  } finally {
    await site.stop();
  }
  for (const { from, to, silenceMs } of found?.migrations ?? []) {
    if (silenceMs > MOST_SILENCE_MS) failed.push(`from ${from} to ${to}: ${silenceMs} ms were silent`);
  }
  if (call?.callEnded === true) failed.push('the call has ended');
  if (found?.ssrcKept === false) failed.push('a source has changed');
  if (tested !== undefined && (tested.outcome !== 'pass' || tested.path !== 'mqtt')) {
    failed.push(`test call: ${tested.outcome} ${tested.reason} by ${tested.path}`);
  }
  return {
    ok: failed.length === 0,
    failed,
    migrations: found?.migrations ?? [],
    callEnded: call?.callEnded ?? null,
    ssrcKept: found?.ssrcKept ?? null,
    testCall: tested ?? null,
    controlSilenceMs: found?.controlSilenceMs ?? null,
  };
}

/** The door station tests itself; of that, what its call to the echo came to. */
async function testCallWithout(site: Site, network: UdpCut): Promise<TestCallSeen> {
  await network.cut();
  const client = await site.connect('door');
  try {
    const { checks } = await client.call('selftest.run', {}, { timeoutMs: MOST_TEST_MS });
    const call = checks.find(({ name }) => name === 'call');
    if (call === undefined) throw new AppError('no-test-call', 'the self-test has made no call');
    const { path, mos } = call.figures;
    return {
      ...{ outcome: call.outcome, reason: call.reason },
      path: path === 'udp' || path === 'mqtt' ? path : null,
      mos: typeof mos === 'number' ? mos : null,
    };
  } finally {
    client.close();
    await network.restore();
  }
}

interface Found {
  readonly migrations: readonly Migration[];
  readonly ssrcKept: boolean;
  readonly controlSilenceMs: number;
}

async function migrations(
  { log }: ScenarioContext,
  watches: Watches,
  network: UdpCut,
  ears: Readonly<Record<StationId, Ear>>,
): Promise<Found> {
  const silenceOf = async (what: () => Promise<void>): Promise<number> => {
    const marks = STATIONS.map((id) => ears[id].mark());
    await what();
    return Math.max(...STATIONS.map((id, index) => ears[id].silenceMs(marks[index])));
  };
  const take = async (from: MediaPath, to: MediaPath, change: () => Promise<void>): Promise<Migration> => {
    let movedMs = 0;
    const silenceMs = await silenceOf(async () => {
      const changedAtMs = systemClock.nowMs();
      await change();
      await inTime(bothTake(watches, to), MOVES_WITHIN_MS[to], `speech goes by ${to}`);
      movedMs = Math.round(systemClock.nowMs() - changedAtMs);
      await sleep(SETTLED_MS);
    });
    return { from, to, silenceMs, movedMs };
  };
  log('a call with nothing cut');
  await inTime(bothTake(watches, 'udp'), MOVES_WITHIN_MS.udp, 'speech goes by udp');
  const controlSilenceMs = await silenceOf(() => sleep(CONTROL_MS));
  const before = await figuresOf(watches);
  log('UDP is cut');
  const there = await take('udp', 'mqtt', () => network.cut());
  const between = await figuresOf(watches);
  log('UDP is restored');
  const back = await take('mqtt', 'udp', () => network.restore());
  const after = await figuresOf(watches);
  const sources = sourcesOf(before);
  const ssrcKept = sources !== null && [between, after].every((figures) => sourcesOf(figures) === sources);
  return { migrations: [there, back], ssrcKept, controlSilenceMs };
}

/** What the media processes say of the call, in the order of the stations. */
async function figuresOf(watches: Watches): Promise<SessionFigures[]> {
  const statuses = await Promise.all(STATIONS.map((id) => watches[id].client.call('station.status', {})));
  return statuses.map(({ engine }) => {
    const session = engine?.sessions[0];
    if (session === undefined) throw new AppError('no-call', 'a media process knows nothing of the call');
    return session;
  });
}

function bothTake(watches: Watches, path: MediaPath): Promise<void> {
  return waitUntil(async () => (await figuresOf(watches)).every((figures) => figures.path === path));
}

/** Who sends; null where one hears another than the one that sends to it. */
function sourcesOf(figures: readonly SessionFigures[]): string | null {
  const isCross = figures.every(({ ssrc }, index) => figures[1 - index]?.remoteSsrc === ssrc);
  return isCross ? figures.map(({ ssrc }) => ssrc).join(' ') : null;
}
