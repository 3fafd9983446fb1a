import type { TextRoute } from '../adapters/http/http-api.js';
import { byClass, type Figures, METRICS_CONTENT_TYPE, METRICS_URL, Metrics } from '../adapters/metrics/metrics.js';
import { PROCESS_FIGURES, type ProcessStatus, ProcessWatch } from '../adapters/metrics/process-figures.js';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { StationView, WorkerView } from '../protocol/gateway-api.js';
import type { WorkerTotals } from '../protocol/gateway-worker.js';
import type { SiteRouter } from './site-router.js';
import type { WorkerPool } from './worker-pool.js';

interface Status {
  readonly process: ProcessStatus;
  readonly connected: Readonly<Record<string, boolean>>;
  readonly workers: readonly WorkerView[];
  readonly totals: readonly (WorkerTotals & { readonly index: number })[];
  readonly rooms: readonly { readonly roomId: string; readonly worker: number | null }[];
  readonly stations: readonly StationView[];
  readonly ends: Partial<Record<string, number>>;
  readonly refused: Partial<Record<string, number>>;
}

const worker = ({ index }: { readonly index: number }) => ({ worker: String(index) });

const FIGURES: Figures<Status> = {
  ...PROCESS_FIGURES,
  mqtt_connected: {
    kind: 'gauge',
    help: '1 while the broker is reached, by connection',
    labels: ['link'],
    of: ({ connected }) => Object.entries(connected).map(([link, is]) => [is ? 1 : 0, { link }] as const),
  },
  worker_up: {
    kind: 'gauge',
    help: '1 while a room worker answers',
    labels: ['worker'],
    of: ({ workers }) => workers.map((one) => [one.ready ? 1 : 0, worker(one)] as const),
  },
  worker_rooms: {
    kind: 'gauge',
    help: 'Rooms at a worker',
    labels: ['worker'],
    of: ({ workers }) => workers.map((one) => [one.rooms, worker(one)] as const),
  },
  worker_resident_memory_bytes: {
    kind: 'gauge',
    help: 'Resident memory of a worker',
    labels: ['worker'],
    of: ({ workers }) => workers.map((one) => [one.memoryRssBytes, worker(one)] as const),
  },
  worker_cpu_seconds_total: {
    kind: 'counter',
    help: 'User and system time of a worker, those before it in its place included',
    labels: ['worker'],
    of: ({ totals }) => totals.map((one) => [one.cpuS, worker(one)] as const),
  },
  worker_ends_total: {
    kind: 'counter',
    help: 'How workers ended',
    labels: ['class'],
    of: ({ ends }) => byClass(ends),
  },
  datagrams_forwarded_total: {
    kind: 'counter',
    help: 'Datagrams of one party that went to the others of its room',
    labels: ['worker'],
    of: ({ totals }) => totals.map((one) => [one.forwarded, worker(one)] as const),
  },
  datagrams_refused_total: {
    kind: 'counter',
    help: 'Datagrams refused, by class of fault',
    labels: ['worker', 'class'],
    of: ({ totals }) =>
      totals.flatMap((one) =>
        Object.entries(one.refused).map(([fault, count]) => [count, { ...worker(one), class: fault }] as const),
      ),
  },
  room: {
    kind: 'gauge',
    help: '1 for each call that goes through a room',
    labels: ['call_id', 'worker'],
    of: ({ rooms }) =>
      rooms.map(({ roomId, worker }) => [1, { call_id: roomId, worker: worker === null ? 'none' : String(worker) }]),
  },
  stations: {
    kind: 'gauge',
    help: 'Stations of the directory',
    labels: ['online'],
    of: ({ stations }) => {
      const online = stations.filter((station) => station.online).length;
      return [
        [online, { online: 'true' }],
        [stations.length - online, { online: 'false' }],
      ];
    },
  },
  routing_refused_total: {
    kind: 'counter',
    help: 'Messages that were not routed, by reason',
    labels: ['class'],
    of: ({ refused }) => byClass(refused),
  },
};

export interface GatewayMetricsParts {
  readonly pool: WorkerPool;
  readonly router: SiteRouter;
  /** Each connection to the broker, by what it is for. */
  readonly links: Readonly<Record<string, Pick<MqttLink, 'state'>>>;
}

/** The dispatcher's figures and its workers', as `GET /metrics` of its API. */
export class GatewayMetrics {
  readonly #parts: GatewayMetricsParts;
  readonly #metrics = new Metrics('entryphone_gateway_', FIGURES);
  readonly #watch = new ProcessWatch();

  constructor(parts: GatewayMetricsParts) {
    this.#parts = parts;
  }

  get route(): TextRoute {
    const summary = 'Figures of the dispatcher and its workers, for Prometheus';
    return { url: METRICS_URL, summary, contentType: METRICS_CONTENT_TYPE, text: () => this.#text() };
  }

  close(): void {
    this.#watch.close();
  }

  async #text(): Promise<string> {
    const { pool, router, links } = this.#parts;
    const totals = await pool.totals();
    return this.#metrics.text({
      process: this.#watch.read(),
      connected: Object.fromEntries(Object.entries(links).map(([name, { state }]) => [name, state.connected])),
      workers: pool.workers(),
      totals,
      rooms: pool.rooms(),
      stations: router.stations(),
      ends: pool.ends.all(),
      refused: router.refused.all(),
    });
  }
}
