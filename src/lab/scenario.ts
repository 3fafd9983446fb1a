import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { loadConfig } from '../config/load.js';
import { type Clock, systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { silentLogger } from '../core/logger.js';
import { LabCloud } from './cloud.js';
import { Site } from './site.js';
import type { FlowsPlan, SitePlan } from './site-config.js';
import { buttonLine } from './site-control.js';
import { StationWatch } from './station-watch.js';

/** What every scenario gets: an empty folder with a short path, and somebody to tell how it goes. */
export interface ScenarioContext {
  readonly dir: string;
  readonly log: (text: string) => void;
}

export const FIRST_RTP_PORT = 41_000;
const GATEWAY_RTP_PORT = 41_100;

/** Flows that ran for so long are good ones: a scenario has no minutes. */
const GOOD_AFTER_MS = 2_000;

/** How speech gets from one station to the other: straight over UDP, inside MQTT, or by a gateway between two sites. */
export const WAYS = ['direct', 'mqtt', 'gateway'] as const;
export type Via = (typeof WAYS)[number];

/** A site of the scenario's own, on ports that are free. */
export async function startScenarioSite(
  context: ScenarioContext,
  options: {
    /** With Node-RED; by name: what the door station's begins with. */
    readonly flows?: boolean | FlowsPlan['doorFlows'];
    readonly via?: Via;
    readonly hearing?: boolean;
    /** A self-test may pulse the relay. */
    readonly testsRelay?: boolean;
    /** Stations that run from slots. */
    readonly slots?: SitePlan['slots'];
    /** Of a broker that runs already, and is not mosquitto. */
    readonly foreignBrokerPort?: number | undefined;
  } = {},
): Promise<Site> {
  const { flows = false, via = 'direct', hearing = false, testsRelay = false, slots = {}, foreignBrokerPort } = options;
  const cloud = via === 'gateway' ? await startCloud(context) : undefined;
  return Site.start({
    cloud,
    dir: join(context.dir, 'site'),
    runDir: join(context.dir, 'run'),
    brokerPort: foreignBrokerPort ?? (await freePort()),
    broker: foreignBrokerPort === undefined ? 'own' : 'foreign',
    firstRtpPort: FIRST_RTP_PORT,
    ...(flows === false ? {} : { flows: await flowsPlan(typeof flows === 'string' ? flows : 'door-station') }),
    hearing,
    testsRelay,
    slots,
    logger: silentLogger,
    mediaPath: via === 'mqtt' ? 'mqtt' : 'auto',
    onProgress: (text) => context.log(`starting: ${text}`),
  });
}

async function flowsPlan(doorFlows: NonNullable<FlowsPlan['doorFlows']>): Promise<FlowsPlan> {
  return { ports: { door: await freePort(), indoor: await freePort() }, goodAfterMs: GOOD_AFTER_MS, doorFlows };
}

async function startCloud({ dir, log }: ScenarioContext): Promise<LabCloud> {
  log("starting: the cloud's broker, and the gateway");
  return LabCloud.start({
    dir: join(dir, 'cloud'),
    ports: { broker: await freePort(), doorBroker: await freePort(), http: await freePort() },
    firstRtpPort: GATEWAY_RTP_PORT,
    logger: silentLogger,
  });
}

/** A TCP port that nobody has now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  if (address === null || typeof address === 'string') throw new AppError('port-taken', 'no TCP port is free');
  return address.port;
}

export interface Watches {
  readonly door: StationWatch;
  readonly indoor: StationWatch;
}

export async function watchBoth(site: Site): Promise<Watches> {
  const [door, indoor] = await Promise.all([StationWatch.connect(site, 'door'), StationWatch.connect(site, 'indoor')]);
  return { door, indoor };
}

/** Presses the door's bell; when indoors rings, its button. Resolves when both say that they talk. */
export async function talk(site: Site, { door, indoor }: Watches): Promise<{ callId: string }> {
  const since = systemClock.nowMs();
  await site.boards.door.press(buttonLine(site, 'door', 'bell'));
  await indoor.callIs('ringing-in', since);
  await site.boards.indoor.press(buttonLine(site, 'indoor', 'bell'));
  const [{ params }] = await Promise.all([door.callIs('answered', since), indoor.callIs('answered', since)]);
  return { callId: params.callId };
}

/** The line of the door's relay, and how long an authorisation to open it is good for. */
export function doorWiring(site: Site): { readonly relayLine: number; readonly ttlMs: number } {
  const { board, config } = loadConfig(join(site.plan.dir, 'door.yaml'));
  if (board.gpio.relay === undefined) throw new AppError('relay-absent', "The door station's board has no relay");
  return { relayLine: board.gpio.relay.line, ttlMs: config.door.ttlMs };
}

/** @throws AppError `too-late` where it has not happened after `withinMs` */
export function inTime<T>(happening: Promise<T>, withinMs: number, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = systemClock.after(withinMs, () =>
      reject(new AppError('too-late', `${what}: not within ${withinMs} ms`)),
    );
    happening.then(resolve, reject).finally(() => timer.cancel());
  });
}

export function sleep(ms: number, clock: Clock = systemClock): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}

/** Runs `step`; a fault in it is one of the scenario's, told by its text. */
export async function attempt<T>(failed: string[], what: string, step: () => Promise<T>): Promise<T | undefined> {
  try {
    return await step();
  } catch (error) {
    failed.push(`${what}: ${errorText(error)}`);
    return undefined;
  }
}
