import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { METRICS_URL } from '../src/adapters/metrics/metrics.js';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { readText } from '../src/adapters/sockets/text-page.js';
import { nodeProgram } from '../src/adapters/supervisor/node-program.js';
import { systemClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { quantile } from '../src/lab/alignment.js';
import { startVirtualSound } from '../src/lab/virtual-sound.js';
import { engineRequests } from '../src/protocol/engine-api.js';
import { freePorts, Measured, sleep } from './children.js';

export interface PacingFigures {
  /** How much longer than a packet time it took from one packet to the next, as a receiver on this machine sees it. */
  readonly packetsMs: { readonly p99: number; readonly max: number };
  /** How late the media process's event loop came to what was due. */
  readonly loopMs: { readonly p99: number; readonly max: number };
  readonly packets: number;
}

export interface Pacing {
  readonly quiet: PacingFigures;
  readonly spinning: PacingFigures;
  readonly flooding: PacingFigures;
}

const PACKET_TIME_MS = 20;
const WARM_UP_MS = 3_000;
/** The flow begins to spin so long after its start, when the flows process has said that it is up. */
const SPIN_AFTER_S = 3;
/** Media comes first on a board too. */
const PRECEDENCE = ['nice', '-n', '-15'];
const SESSION_ID = 'bench-pacing';
const programs = resolve(import.meta.dirname, '../src/bin');
const boardProfile = resolve(import.meta.dirname, '../../device/virtual-board.yaml');

/** A flow whose event loop never turns again; one whose event loop turns, with a thousand messages each time. */
const BAD_FUNCTIONS = {
  spinning: 'while (true) {}',
  flooding: `const flood = () => {
  for (let i = 0; i < 1000; i++) node.send({ payload: i });
  setTimeout(flood, 0);
};
flood();`,
} as const;

function flowsWith(func: string): object[] {
  return [
    { id: 'bad-tab', type: 'tab', label: 'Bad' },
    { id: 'bad-start', type: 'inject', z: 'bad-tab', once: true, onceDelay: SPIN_AFTER_S, wires: [['bad']] },
    { id: 'bad', type: 'function', z: 'bad-tab', outputs: 1, func, wires: [['bad-next']] },
    { id: 'bad-next', type: 'function', z: 'bad-tab', outputs: 1, func: 'return msg;', wires: [[]] },
  ];
}

/**
 * The media process sends what its microphone hears to a receiver here; then the same beside a flows process whose only flow
 * never returns, and which nobody restarts; then beside one whose flow floods itself with messages.
 */
export async function measurePacing(options: { dir: string; seconds: number }): Promise<Pacing> {
  const dir = join(options.dir, 'pacing');
  const [rtpPort = 0, flowsPort = 0] = await freePorts(2);
  const sound = await startVirtualSound({ dir: join(dir, 'sound'), stations: ['door'] });
  const running: { stop(): Promise<void> }[] = [sound];
  try {
    const env = { ...process.env, ...sound.env };
    const file = configFile({ dir, rtpPort, flowsPort, ...sound.devices('door') });
    const node = (program: string) => [...nodeProgram(join(programs, program)), '--config', file];
    running.push(await Measured.start('media', [...PRECEDENCE, ...node('media.js')], env, /^/));
    const receiver = await Receiver.open();
    running.push(receiver);
    running.push(await startSession(join(dir, 'run'), receiver.port));
    await sleep(WARM_UP_MS);
    const measure = () => figuresOf(join(dir, 'run'), receiver, options.seconds);
    const quiet = await measure();
    const beside = async (func: string): Promise<PacingFigures> => {
      writeFileSync(join(dir, 'state/flows/flows.json'), JSON.stringify(flowsWith(func)));
      const flows = await Measured.start('flows', node('flows.js'), env, /the flows process is up/);
      try {
        await keepsBusy(flows);
        return await measure();
      } finally {
        await flows.stop();
      }
    };
    const spinning = await beside(BAD_FUNCTIONS.spinning);
    return { quiet, spinning, flooding: await beside(BAD_FUNCTIONS.flooding) };
  } finally {
    for (const one of running.reverse()) await one.stop();
  }
}

function configFile(plan: {
  dir: string;
  rtpPort: number;
  flowsPort: number;
  microphone: string;
  speaker: string;
}): string {
  mkdirSync(join(plan.dir, 'state/flows'), { recursive: true });
  const file = join(plan.dir, 'station.yaml');
  // YAML is a superset of JSON.
  const config = {
    station: { id: 'door', name: 'Door', site: 'home' },
    board: boardProfile,
    audio: { capture: plan.microphone, playback: plan.speaker },
    // The microphone hears nothing, and that too is to come packet by packet.
    opus: { dtx: false },
    rtp: { address: '127.0.0.1', ports: { from: plan.rtpPort, to: plan.rtpPort } },
    flows: { port: plan.flowsPort },
    mqtt: { url: 'mqtts://127.0.0.1:1', ca: 'none', cert: 'none', key: 'none' },
    state: 'state',
    run: 'run',
  };
  writeFileSync(file, JSON.stringify(config));
  return file;
}

/** What comes, with its time; as near to the wire as a process of this machine gets. */
class Receiver {
  readonly #socket = createSocket('udp4');
  #arrivalsMs: number[] = [];

  static async open(): Promise<Receiver> {
    const receiver = new Receiver();
    receiver.#socket.on('message', (datagram) => {
      // RTCP shares the port; its packet types are 192 to 223 (RFC 5761, 4).
      const type = datagram[1] ?? 0;
      if (type < 192 || type > 223) receiver.#arrivalsMs.push(systemClock.nowMs());
    });
    receiver.#socket.bind(0, '127.0.0.1');
    await once(receiver.#socket, 'listening');
    return receiver;
  }

  get port(): number {
    return this.#socket.address().port;
  }

  /** Arrivals since the last time. */
  take(): number[] {
    const taken = this.#arrivalsMs;
    this.#arrivalsMs = [];
    return taken;
  }

  async stop(): Promise<void> {
    this.#socket.close();
  }
}

/** The session lasts until `stop`, or five seconds longer. */
async function startSession(runDir: string, port: number): Promise<{ stop(): Promise<void> }> {
  const connect = () =>
    connectRpc({
      path: join(runDir, 'media.sock'),
      requests: engineRequests,
      notifications: {},
      onNotification: () => {},
      onClose: () => {},
      timeoutMs: 5_000,
    });
  const deadlineMs = systemClock.nowMs() + 10_000;
  for (;;) {
    const station = await connect().catch(() => undefined);
    if (station !== undefined) {
      await station.call('session.open', { sessionId: SESSION_ID });
      await station.call('session.start', {
        sessionId: SESSION_ID,
        remote: { address: '127.0.0.1', port },
        sendPayloadType: 96,
        receivePayloadType: 96,
        peerWantsFec: true,
        packetTimeMs: PACKET_TIME_MS,
        muted: false,
      });
      return { stop: async () => station.close() };
    }
    if (systemClock.nowMs() > deadlineMs) throw new AppError('child-failed', 'the media process does not answer');
    await sleep(50);
  }
}

async function figuresOf(runDir: string, receiver: Receiver, seconds: number): Promise<PacingFigures> {
  await loopDelays(runDir);
  receiver.take();
  await sleep(seconds * 1000);
  const arrivals = receiver.take();
  const loopMs = await loopDelays(runDir);
  const lateMs = arrivals.slice(1).map((atMs, i) => Math.max(0, atMs - (arrivals[i] ?? 0) - PACKET_TIME_MS));
  if (lateMs.length === 0) throw new AppError('child-failed', 'the media process sends nothing');
  return { packetsMs: { p99: quantile(lateMs, 0.99), max: Math.max(...lateMs) }, loopMs, packets: arrivals.length };
}

/** Since they were read last. */
async function loopDelays(runDir: string): Promise<PacingFigures['loopMs']> {
  const path = join(runDir, 'media-metrics.sock');
  const text = await readText({ path, url: METRICS_URL, timeoutMs: 5_000, mostBytes: 262_144 });
  const ms = (name: string) =>
    Number(new RegExp(`event_loop_delay_seconds\\{quantile="${name}"\\} (\\S+)`).exec(text)?.[1]) * 1000;
  return { p99: ms('0.99'), max: ms('1') };
}

/** Waits until it takes a processor for itself, or as much of one as it gets. */
async function keepsBusy(flows: Measured): Promise<void> {
  const deadlineMs = systemClock.nowMs() + 20_000;
  await sleep(SPIN_AFTER_S * 1000);
  for (;;) {
    const before = flows.cpuMs();
    await sleep(1_000);
    if (flows.cpuMs() - before > 600) return;
    if (systemClock.nowMs() > deadlineMs) throw new AppError('child-failed', 'the flow does not keep its process busy');
  }
}
