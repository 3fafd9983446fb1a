/** The station's side of flows without the rest of a station, the real flows process, and the updates of flows alone. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Test } from 'tap';
import type { FlowNodes } from '../../src/adapters/node-red/admin-api.js';
import { diskOfKind, machineDisk } from '../../src/adapters/slots/slot-disk.js';
import { Service } from '../../src/adapters/supervisor/foreground.js';
import { loadConfig } from '../../src/config/load.js';
import { systemClock } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import { Flows, type FlowsOptions } from '../../src/station/flows.js';
import { flowsTarget } from '../../src/station/flows-target.js';
import { FlowsOrders } from './flows-orders.js';
import { freePort, until } from './site.js';

const program = resolve(import.meta.dirname, '../../src/bin/flows.js');

export class FlowsBench extends FlowsOrders {
  flows: Flows | undefined;
  process: Service | undefined;

  private constructor() {
    super('ep-release-');
  }

  static async start(t: Test): Promise<FlowsBench> {
    const bench = new FlowsBench();
    t.teardown(() => bench.#stop());
    const config = join(bench.dir, 'station.yaml');
    writeFileSync(join(bench.dir, 'board.yaml'), 'gpio: { chip: none }\n');
    writeFileSync(
      config,
      `
station: { id: door, name: "Front door", site: home }
board: board.yaml
audio: { capture: none, playback: none }
rtp: { address: 127.0.0.1 }
flows: { port: ${await freePort()}, goodAfterMs: 1000 }
mqtt: { url: "mqtts://127.0.0.1:1", ca: ca.pem, cert: door.pem, key: door.key }
state: state
run: run
`,
    );
    mkdirSync(join(bench.dir, 'run'));
    mkdirSync(join(bench.dir, 'slots'));
    bench.process = new Service({
      spec: {
        name: 'flows',
        command: [process.execPath, program, '--config', config],
        startTimeoutMs: 30_000,
        stopTimeoutMs: 1_000,
      },
      clock: systemClock,
      logger: silentLogger,
      output: () => {},
    });
    await bench.startStation();
    await bench.process.start();
    await until(() => bench.status.state === 'running');
    return bench;
  }

  /** What of a station looks after flows; also once more, as after a crash of its process. */
  async startStation(): Promise<void> {
    this.close();
    await this.flows?.close();
    const loaded = loadConfig(join(this.dir, 'station.yaml'));
    const { config } = loaded;
    const nobody = {
      calls: { views: () => [], current: undefined },
      alerts: { counted: { all: () => ({}) } },
      hearing: { view: {}, want: () => {}, restart: () => {} },
      reports: { runs: () => {} },
      engine: {},
      taps: { release: () => {} },
      leds: {},
    };
    const flows = await Flows.start({
      ...loaded,
      ...(nobody as unknown as FlowsOptions),
      notify: { restart: (_service, reason) => void this.process?.restart(reason) },
      ...{ clock: systemClock, logger: silentLogger },
    });
    this.flows = flows;
    const disk = machineDisk(join(this.dir, 'slots'));
    const common = { clock: systemClock, logger: silentLogger };
    const target = flowsTarget({ flows, config, disk: diskOfKind(disk, 'flows'), ...common });
    await this.serve({ disk, flows: target, clock: systemClock });
  }

  get status() {
    if (this.flows === undefined) throw new Error('not started');
    return this.flows.status;
  }

  get api() {
    if (this.flows === undefined) throw new Error('not started');
    return this.flows.keeper.api;
  }

  async #stop(): Promise<void> {
    this.close();
    await this.process?.stop();
    await this.flows?.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Flows with a config node, and a function that runs once when they start. */
export function flowsThat(run: string, label = 'Release'): FlowNodes {
  const wired = { z: 'tab', x: 100, y: 100 };
  return [
    { id: 'tab', type: 'tab', label, disabled: false, info: '' },
    { id: 'station', type: 'entryphone-station', name: '', socket: '' },
    {
      ...{
        id: 'once',
        type: 'inject',
        name: '',
        props: [],
        repeat: '',
        crontab: '',
        once: true,
        onceDelay: 0.1,
        topic: '',
      },
      ...{ ...wired, wires: [['act']] },
    },
    {
      ...{
        id: 'act',
        type: 'function',
        name: '',
        func: run,
        outputs: 1,
        timeout: 0,
        noerr: 0,
        initialize: '',
        finalize: '',
      },
      ...{ libs: [], ...wired, wires: [[]] },
    },
  ];
}
