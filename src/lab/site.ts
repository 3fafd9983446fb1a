import { createWriteStream, rmSync, type WriteStream, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectRpc, type RpcClient } from '../adapters/sockets/rpc.js';
import { Service } from '../adapters/supervisor/foreground.js';
import { nodeProgram } from '../adapters/supervisor/node-program.js';
import { loadBoard, loadConfig } from '../config/load.js';
import { type Clock, systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { makeFolder } from '../core/folder.js';
import type { Logger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { stationNotifications, stationRequests } from '../protocol/station-api.js';
import type { LabCloud } from './cloud.js';
import { inRealTime, MEDIA_PRIORITY } from './precedence.js';
import { type FlowsPlan, type SitePlan, STATIONS, type StationId, stationConfig } from './site-config.js';
import { startVirtualBoard, type VirtualBoard } from './virtual-board.js';
import { startVirtualSound, type VirtualSound } from './virtual-sound.js';

const programs = join(packageRoot, 'dist/src/bin');
const boardProfile = join(packageRoot, 'device/virtual-board.yaml');
const launcher = join(packageRoot, 'device/launcher.sh');

/** A board's unit has the same figures: a flow that hangs is deaf to SIGTERM. */
const FLOWS_START_MS = 90_000;
const INFERENCE_START_MS = 30_000;
const FLOWS_STOP_MS = 10_000;
/** But the whole site ends within two seconds. */
const MOST_STOP_MS = 1_500;

export type StationClient = RpcClient<typeof stationRequests>;

export interface StationServices {
  readonly media: Service;
  readonly station: Service;
  readonly flows: Service | undefined;
  readonly inference: Service | undefined;
}

export interface SiteOptions {
  readonly dir: string;
  readonly runDir: string;
  readonly brokerPort: number;
  readonly firstRtpPort: number;
  readonly mediaPath?: SitePlan['mediaPath'];
  readonly ringTimeoutMs?: number;
  readonly pulseMs?: number;
  /** A self-test may pulse the relay, whose contact the lab moves. */
  readonly testsRelay?: boolean;
  /** With Node-RED, which starts when the stations are there; until then, and without, presses do what is configured. */
  readonly flows?: FlowsPlan;
  /** The door station hears by itself: a process more, waited for by nobody either. */
  readonly hearing?: boolean;
  /** Another broker than mosquitto listens at `brokerPort`. */
  readonly broker?: SitePlan['broker'];
  /** Stations that run from slots: each of their processes by the launcher. */
  readonly slots?: SitePlan['slots'];
  /** Two sites, each station the host of its own, which this joins; stopped with them. */
  readonly cloud?: LabCloud | undefined;
  /** The indoor station gets the machine's own sound card: ALSA's `default`. */
  readonly ownCardIndoors?: boolean;
  readonly logger: Logger;
  /** What the site's processes say: pino's lines, station by station. */
  readonly onLog?: (service: string, line: string) => void;
  /** Told what is being started, for people to see. */
  readonly onProgress?: (text: string) => void;
  /** Gives up the start. */
  readonly signal?: AbortSignal;
}

/**
 * A whole site on one machine, of real parts: two stations of two supervised processes each (with flows and inference up to four), on a board
 * and a sound card of their own.
 *
 *   virtual sound ── door, indoor          one private daemon; a microphone, a speaker and a way to feed and hear them each
 *   virtual board ── door │ indoor         a GPIO chip each, in a mount namespace of its own
 *   media, station ─ door │ indoor         supervised as systemd would; the indoor station runs the broker, or with a
 *                                          cloud each its own
 *   flows ────────── door │ indoor         Node-RED, started last and waited for by nobody
 *   inference ────── door                  if asked for; likewise
 */
export class Site {
  readonly plan: SitePlan;
  readonly sound: VirtualSound;
  readonly boards: Readonly<Record<StationId, VirtualBoard>>;
  readonly services: Readonly<Record<StationId, StationServices>>;
  readonly cloud: LabCloud | undefined;
  readonly #logs: WriteStream[];

  private constructor(parts: {
    plan: SitePlan;
    sound: VirtualSound;
    boards: Record<StationId, VirtualBoard>;
    services: Site['services'];
    cloud: LabCloud | undefined;
    logs: WriteStream[];
  }) {
    this.plan = parts.plan;
    this.sound = parts.sound;
    this.boards = parts.boards;
    this.services = parts.services;
    this.cloud = parts.cloud;
    this.#logs = parts.logs;
  }

  /**
   * Resolves when both stations are ready and on the broker.
   * @throws AppError with what could not be started, or the signal's reason; nothing is left behind then
   */
  static async start(options: SiteOptions): Promise<Site> {
    const { signal } = options;
    const progress = (text: string): void => {
      signal?.throwIfAborted();
      options.onProgress?.(text);
    };
    const undo: (() => Promise<void>)[] = [async () => options.cloud?.stop()];
    try {
      for (const dir of [options.dir, options.runDir]) makeFolder(dir);
      progress('virtual sound card and GPIO chips');
      const starting = [
        collect(undo, startVirtualSound({ dir: join(options.runDir, 'sound'), stations: [...STATIONS], signal })),
        collect(undo, startVirtualBoard({ label: 'entryphone-virtual', base: 512, lines: 32 })),
        collect(undo, startVirtualBoard({ label: 'entryphone-virtual', base: 512, lines: 32 })),
      ] as const;
      // All of them, so that where one fails what the others have started is undone too.
      await Promise.allSettled(starting);
      const [sound, door, indoor] = await Promise.all(starting);
      const boards = { door, indoor };
      for (const id of STATIONS) wireContact(boards[id]);
      const plan = planOf(options, sound);
      const { services, logs } = prepare(plan, options, sound, boards);
      undo.push(async () => {
        await stopServices(services);
        for (const log of logs) log.end();
      });
      const { cloud } = options;
      const site = new Site({ plan, sound, boards, services, cloud, logs });
      const giveUp = (): void => void stopServices(services);
      signal?.addEventListener('abort', giveUp);
      progress("indoor station, which hosts the site's broker");
      await services.indoor.station.start();
      progress('door station, and the media processes');
      await Promise.all([services.indoor.media.start(), services.door.media.start(), services.door.station.start()]);
      await Promise.all([...STATIONS.map((id) => site.#whole(id)), cloud?.whole()]);
      signal?.throwIfAborted();
      signal?.removeEventListener('abort', giveUp);
      for (const id of STATIONS) {
        startUnwaited(services[id].flows, options.logger);
        startUnwaited(services[id].inference, options.logger);
      }
      return site;
    } catch (error) {
      for (const step of undo.reverse()) await step();
      rmSync(options.runDir, { recursive: true, force: true });
      throw signal?.aborted === true ? signal.reason : error;
    }
  }

  /** The station's local API. */
  connect(id: StationId, onNotification?: (name: string, params: unknown) => void): Promise<StationClient> {
    return connectStation(join(this.plan.runDir, id), onNotification);
  }

  /** Hangs up, makes relays safe, ends all processes and removes sockets. */
  async stop(): Promise<void> {
    await stopServices(this.services);
    await Promise.all([this.cloud?.stop(), this.sound.stop(), ...STATIONS.map((id) => this.boards[id].stop())]);
    for (const log of this.#logs) log.end();
    rmSync(this.plan.runDir, { recursive: true, force: true });
  }

  /** Waits until a station has its broker, its media process and its cards. */
  async #whole(id: StationId): Promise<void> {
    const client = await this.connect(id);
    try {
      const deadlineMs = systemClock.nowMs() + 15_000;
      for (;;) {
        const status = await client.call('station.status', {});
        const isJoined = this.cloud === undefined || status.siteHost?.elsewhere === true;
        const isHeard = status.engine !== null && status.engine.playback.state !== 'closed';
        if (status.broker.connected && isHeard && isJoined) return;
        const brokerFault = status.siteHost?.broker.fault ?? null;
        if (brokerFault !== null) throw new AppError('station-incomplete', `${id} has no broker: ${brokerFault}`);
        if (systemClock.nowMs() > deadlineMs) {
          const lacks = !status.broker.connected
            ? `the broker (${status.broker.fault ?? 'not reached'})`
            : isHeard
              ? 'the way to the other site'
              : 'its media process';
          throw new AppError('station-incomplete', `${id} has been started but lacks ${lacks}`);
        }
        await new Promise<void>((resolve) => systemClock.after(50, resolve));
      }
    } finally {
      client.close();
    }
  }
}

/** Connects to the local API of the station whose `run` folder is given. */
export function connectStation(
  runDir: string,
  onNotification?: (name: string, params: unknown) => void,
): Promise<StationClient> {
  return connectRpc({
    path: join(runDir, 'station.sock'),
    requests: stationRequests,
    notifications: stationNotifications,
    onNotification: onNotification ?? (() => {}),
    onClose: () => {},
    timeoutMs: 5_000,
  });
}

/** The contact of the board profile moves with the relay, or (`isStuck`) stays where it is. */
export function wireContact(board: VirtualBoard, isStuck = false): void {
  const { relay, contact } = loadBoard(boardProfile).gpio;
  if (relay !== undefined && contact !== undefined) board.follow(contact.line, isStuck ? null : relay.line);
}

async function collect<T extends { stop(): Promise<void> }>(
  undo: (() => Promise<void>)[],
  starting: Promise<T>,
): Promise<T> {
  const part = await starting;
  undo.push(() => part.stop());
  return part;
}

function planOf(options: SiteOptions, sound: VirtualSound): SitePlan {
  const own = { microphone: 'default', speaker: 'default' };
  return {
    dir: options.dir,
    runDir: options.runDir,
    boardProfile,
    brokerPort: options.brokerPort,
    firstRtpPort: options.firstRtpPort,
    devices: {
      door: sound.devices('door'),
      indoor: options.ownCardIndoors === true ? own : sound.devices('indoor'),
    },
    mediaPath: options.mediaPath ?? 'auto',
    ringTimeoutMs: options.ringTimeoutMs ?? 30_000,
    pulseMs: options.pulseMs ?? 3_000,
    testsRelay: options.testsRelay ?? false,
    flows: options.flows ?? null,
    hearing: options.hearing ?? false,
    cloud: options.cloud?.plan ?? null,
    broker: options.broker ?? 'own',
    slots: options.slots ?? {},
  };
}

function prepare(
  plan: SitePlan,
  options: SiteOptions,
  sound: VirtualSound,
  boards: Record<StationId, VirtualBoard>,
): { services: Site['services']; logs: WriteStream[] } {
  const logs: WriteStream[] = [];
  const servicesOf = (id: StationId) => {
    for (const dir of [join(plan.dir, id, 'state'), join(plan.runDir, id)]) makeFolder(dir);
    const file = join(plan.dir, `${id}.yaml`);
    writeFileSync(file, stationConfig(plan, id), { mode: 0o600 });
    loadConfig(file);
    const log = createWriteStream(join(plan.dir, `${id}.log`), { flags: 'w' });
    logs.push(log);
    const slots = plan.slots[id];
    const node = (program: string) =>
      slots === undefined
        ? [...nodeProgram(join(programs, `${program}.js`)), '--config', file]
        : ['sh', launcher, slots.dir, program === 'station' ? 'start' : 'run', program, '--config', file];
    const output = (name: string) => {
      const service = `${id} ${name}`;
      return (chunk: Buffer) => {
        log.write(chunk);
        for (const line of chunk.toString('utf8').split('\n')) if (line !== '') options.onLog?.(service, line);
      };
    };
    const common = { clock: systemClock as Clock, logger: options.logger };
    const ownCard = id === 'indoor' && options.ownCardIndoors === true;
    const media = new Service({
      ...common,
      output: output('media'),
      spec: {
        name: `${id} media`,
        command: inRealTime(MEDIA_PRIORITY, node('media')),
        env: ownCard ? {} : sound.env,
        startTimeoutMs: 10_000,
        stopTimeoutMs: 1_500,
      },
    });
    const station = new Service({
      ...common,
      output: output('station'),
      spec: {
        name: `${id} station`,
        command: boards[id].wrap(node('station')),
        makeSafe: boards[id].wrap(node('relay-safe')),
        // What was unpacked a moment ago is read from the disk for the first time.
        startTimeoutMs: slots === undefined ? 15_000 : 40_000,
        watchdogMs: 2_000,
        stopTimeoutMs: 1_500,
      },
    });
    const flows =
      plan.flows === null
        ? undefined
        : new Service({
            ...common,
            output: output('flows'),
            spec: {
              name: `${id} flows`,
              command: node('flows'),
              startTimeoutMs: FLOWS_START_MS,
              stopTimeoutMs: FLOWS_STOP_MS,
            },
          });
    const inference =
      plan.hearing && id === 'door'
        ? new Service({
            ...common,
            output: output('inference'),
            spec: {
              name: `${id} inference`,
              command: node('inference'),
              startTimeoutMs: INFERENCE_START_MS,
              watchdogMs: 10_000,
              stopTimeoutMs: 1_500,
            },
          })
        : undefined;
    station.on('restart', (service, reason) => {
      // Into another release: each as soon as it can, as a board's units.
      if (service === 'everything') for (const one of [station, media, flows, inference]) void one?.restart(reason);
      if (service === 'flows') void flows?.restart(reason);
      if (service === 'inference') void inference?.restart(reason);
    });
    return { media, station, flows, inference };
  };
  return { services: { door: servicesOf('door'), indoor: servicesOf('indoor') }, logs };
}

/** Flows and inference may take their time, and nobody waits for them: not even for their first start. */
function startUnwaited(service: Service | undefined, logger: Logger): void {
  service?.start().catch((error: unknown) => {
    const isStopped = error instanceof AppError && error.code === 'service-stopped';
    if (!isStopped) logger.error({ error: errorText(error) }, 'a service does not start');
  });
}

/** Stations first, since they hang up through media; the site host, with the broker, last. */
async function stopServices(services: Site['services']): Promise<void> {
  const others = STATIONS.flatMap((id) => [services[id].flows, services[id].inference]);
  const stopping = others.map((service) => service?.stop(MOST_STOP_MS));
  await services.door.station.stop();
  await services.indoor.station.stop();
  await Promise.all([services.door.media.stop(), services.indoor.media.stop(), ...stopping]);
}

/** For people: one line of pino's as text, undefined below `warn`. */
export function logLineForPeople(line: string): string | undefined {
  try {
    const { level, msg, err } = JSON.parse(line) as { level?: number; msg?: string; err?: { message?: string } };
    if (level === undefined) return line;
    return level >= 40 ? `${msg ?? ''}${err?.message === undefined ? '' : `: ${err.message}`}` : undefined;
  } catch (error) {
    return error instanceof SyntaxError ? line : errorText(error);
  }
}
