/** Real Node-RED with our palette in a test, and a station that is nothing but its contract (protocol/flows-api.ts). */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import RED from 'node-red';
import type { Test } from 'tap';
import { type RpcServer, serveRpc } from '../../src/adapters/sockets/rpc.js';
import { Counters } from '../../src/core/counters.js';
import type { AppError } from '../../src/core/errors.js';
import { silentLogger } from '../../src/core/logger.js';
import { PALETTE_DIR } from '../../src/flows/palette-catalogue.js';
import type { NodeStatus } from '../../src/palette/node-red.js';
import { TAP_RATE_HZ } from '../../src/protocol/engine-api.js';
import { flowsNotifications, flowsRequests } from '../../src/protocol/flows-api.js';
import type { HearingView } from '../../src/protocol/hearing.js';
import type { SelfTestResult } from '../../src/protocol/selftest.js';
import type { CallView } from '../../src/protocol/station-api.js';
import { until } from './site.js';

type Notifications = typeof flowsNotifications;
type Message = Record<string, unknown>;

const CALL_ID = 'call-0001';

/** Of the n-th sound that was played. */
function playIdOf(n: number): string {
  return `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
}

/** Notes what flows ask of it, in order and with what; says of it what the test wants. */
export class StationDouble {
  readonly asked: { name: string; params: Record<string, unknown> }[] = [];
  /** Requests that it refuses, by name. */
  readonly refuses = new Map<string, AppError>();
  call: CallView | null = null;
  selfTest: SelfTestResult = {
    ok: true,
    verdict: 'pass',
    failed: [],
    checks: [],
    by: 'flows',
    at: 0,
    durationMs: 0,
  };
  hearing: HearingView = { state: 'absent', isEnabled: true, isHearing: false, models: [], refused: [] };
  #server: RpcServer<Notifications> | undefined;
  /** Sounds that it was told to stop; kept over deployments. */
  readonly stopped: string[] = [];
  #plays = 0;

  static async start(path: string): Promise<StationDouble> {
    const station = new StationDouble();
    station.#server = await station.#serve(path);
    return station;
  }

  notify: RpcServer<Notifications>['notify'] = (name, params) => this.#server?.notify(name, params);

  /** Requests of this name, without the heartbeats between them. */
  of(name: string): Record<string, unknown>[] {
    return this.asked.filter((one) => one.name === name).map(({ params }) => params);
  }

  /** Of the sound that was played last, unless it was loaded. */
  get playId(): string {
    return playIdOf(this.#plays);
  }

  /** The call comes into this state. */
  callIs(state: CallView['state'], more: Partial<CallView> = {}): void {
    const told: CallView = {
      callId: CALL_ID,
      state,
      direction: 'in',
      peer: 'kitchen',
      peerName: 'Kitchen',
      sinceMs: 0,
      reason: null,
      ...more,
    };
    this.call = state === 'ended' ? null : told;
    this.notify('call.changed', told);
  }

  async close(): Promise<void> {
    await this.#server?.close();
  }

  #serve(path: string): Promise<RpcServer<Notifications>> {
    const ofCall = { callId: CALL_ID };
    const note = (name: string, params: object): void => {
      this.asked.push({ name, params: { ...params } });
      const refusal = this.refuses.get(name);
      if (refusal !== undefined) throw refusal;
    };
    const noting =
      <T>(name: string, result: T) =>
      (params: object): T => {
        note(name, params);
        return result;
      };
    return serveRpc({
      path,
      requests: flowsRequests,
      notifications: flowsNotifications,
      logger: silentLogger,
      refused: new Counters<string>(),
      onConnect: () => {},
      handlers: {
        'flows.report': () => ({ adminToken: '' }),
        'flows.heartbeat': () => ({}),
        'log.lines': () => ({}),
        'station.describe': () => ({
          station: 'door',
          name: 'Front door',
          buttons: ['bell', 'open'],
          leds: ['call', 'status'],
          call: this.call,
        }),
        'button.watch': noting('button.watch', {}),
        'press.acknowledge': noting('press.acknowledge', {}),
        'call.place': noting('call.place', ofCall),
        'call.answer': noting('call.answer', ofCall),
        'call.reject': noting('call.reject', ofCall),
        'call.hangUp': noting('call.hangUp', ofCall),
        'call.mute': noting('call.mute', ofCall),
        'call.dtmf': noting('call.dtmf', ofCall),
        'call.volume': (params) => {
          note('call.volume', params);
          return params;
        },
        'call.limit': noting('call.limit', ofCall),
        'call.path': noting('call.path', ofCall),
        'service.restart': noting('service.restart', {}),
        'flows.fallBack': noting('flows.fallBack', {}),
        'sound.load': noting('sound.load', { durationMs: 0 }),
        'sound.play': (params) => {
          note('sound.play', params);
          this.#plays += 1;
          const { sound } = params;
          return { playId: sound.kind === 'pcm' ? sound.soundId : playIdOf(this.#plays), durationMs: 500 };
        },
        'sound.stop': (params) => {
          this.stopped.push(params.playId);
          return {};
        },
        'selftest.run': (params) => {
          note('selftest.run', params);
          return this.selfTest;
        },
        'door.open': noting('door.open', { opened: true, reason: 'opened' }),
        'alert.raise': noting('alert.raise', { id: '00000000-0000-4000-8000-000000000001' }),
        'led.set': noting('led.set', {}),
        'audio.tap': noting('audio.tap', { ssrc: 1, rateHz: TAP_RATE_HZ }),
        'audio.untap': noting('audio.untap', {}),
        'hearing.subscribe': (params) => {
          note('hearing.subscribe', params);
          return this.hearing;
        },
        'level.subscribe': noting('level.subscribe', {}),
        'health.subscribe': noting('health.subscribe', {}),
      },
    });
  }
}

/** What a node did: sent a message, said a status, was done with one (with or without an error). */
export class FlowBench {
  readonly dir = mkdtempSync(join(tmpdir(), 'ep-bench-'));
  readonly sent: { from: string; port: number; message: Message }[] = [];
  readonly statuses: { id: string; status: Partial<NodeStatus> }[] = [];
  readonly done: { id: string; error: string | null }[] = [];
  readonly #station: { now?: StationDouble } = {};

  /** One for a test file: Node-RED is one for a process. */
  static async start(t: Test, lang = 'en-US'): Promise<FlowBench> {
    const bench = new FlowBench();
    t.teardown(() => bench.#stop());
    bench.#station.now = await StationDouble.start(bench.socket);
    process.env.ENTRYPHONE_FLOWS_SOCKET = bench.socket;
    RED.init(createServer(), {
      userDir: bench.dir,
      nodesDir: [PALETTE_DIR],
      httpAdminRoot: false,
      httpNodeRoot: false,
      lang,
      telemetry: { enabled: false, updateNotification: false },
      externalModules: { autoInstall: false },
      logging: { console: { level: 'off' } },
    });
    const begun = new Promise<void>((resolve) => RED.events.once('flows:started', () => resolve()));
    RED.events.on('node-status', ({ id, status }: { id: string; status?: Partial<NodeStatus> }) => {
      // A node that is not there any more has none.
      if (status !== undefined) bench.statuses.push({ id, status });
    });
    RED.hooks.add('onSend.bench', (events) => {
      for (const { source, msg } of events) bench.sent.push({ from: source.id, port: source.port, message: msg });
    });
    RED.hooks.add('onComplete.bench', ({ node, error }) => {
      bench.done.push({ id: node.id, error: error instanceof Error ? error.message : (error ?? null) });
    });
    await RED.start();
    await begun;
    return bench;
  }

  get socket(): string {
    return join(this.dir, 'flows.sock');
  }

  get station(): StationDouble {
    if (this.#station.now === undefined) throw new Error('there is no station');
    return this.#station.now;
  }

  async stationGoes(): Promise<void> {
    await this.station.close();
  }

  /**
   * Deploys nodes on a tab and waits until they see the station. Node-RED tells of nothing that goes nowhere: an output without a
   * wire gets one.
   */
  async deploy(nodes: readonly Message[], deploymentType: 'full' | 'nodes' = 'full'): Promise<void> {
    const sinks = { id: 'sink', type: 'debug', z: 'tab', x: 1, y: 1, active: false, wires: [] };
    const wired = nodes.map((node) => {
      const wires = (node.wires ?? [[], []]) as string[][];
      return {
        z: 'tab',
        x: 1,
        y: 1,
        station: 'station',
        ...node,
        wires: wires.map((wire) => (wire.length > 0 ? wire : ['sink'])),
      };
    });
    const flows = [{ id: 'tab', type: 'tab', label: 'Bench' }, { id: 'station', type: 'entryphone-station' }, sinks];
    await this.deployAsIs([...flows, ...wired], deploymentType);
  }

  /** @param deploymentType `nodes`: only those that have changed are closed and made anew */
  async deployAsIs(flows: readonly Message[], deploymentType: 'full' | 'nodes' = 'full'): Promise<void> {
    this.sent.length = 0;
    this.statuses.length = 0;
    this.done.length = 0;
    this.station.asked.length = 0;
    const begun = new Promise<void>((resolve) => RED.events.once('flows:started', () => resolve()));
    await RED.runtime.flows.setFlows({ flows: { flows }, deploymentType });
    await begun;
    await until(() => this.station.of('button.watch').length > 0);
  }

  /** Forms and help of all nodes, as the editor gets them in this language. */
  pages(lang: string): Promise<string> {
    return RED.runtime.nodes.getNodeConfigs({ lang });
  }

  /** A message comes to a node. @returns what `done` was called with: null, or the error's words */
  async input(id: string, message: Message): Promise<string | null> {
    const before = this.#doneOf(id).length;
    this.give(id, message);
    await until(() => this.#doneOf(id).length > before);
    return this.#doneOf(id).at(-1)?.error ?? null;
  }

  /** As `input`, without waiting for the node to be done. */
  give(id: string, message: Message): void {
    RED.nodes.getNode(id)?.receive(message);
  }

  /** Messages of a node's output. */
  from(id: string, port = 0): Message[] {
    return this.sent.filter((one) => one.from === id && one.port === port).map(({ message }) => message);
  }

  status(id: string): Partial<NodeStatus> | undefined {
    return this.statuses.findLast((one) => one.id === id)?.status;
  }

  #doneOf(id: string) {
    return this.done.filter((one) => one.id === id);
  }

  async #stop(): Promise<void> {
    RED.hooks.remove('*.bench');
    await RED.stop();
    await this.#station.now?.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
