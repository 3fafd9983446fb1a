import { Counter, Gauge, Registry } from 'prom-client';

/** One series of a figure: its value, and the label values that tell it from the others. */
export type Series = readonly [value: number, labels?: Readonly<Record<string, string>>];

/** A figure in Prometheus' sense, read from what a process knows of itself. */
export interface Figure<Status> {
  readonly kind: 'counter' | 'gauge';
  readonly help: string;
  /** Names of the labels that its series carry. */
  readonly labels?: readonly string[];
  readonly of: (status: Status) => readonly Series[];
}

export type Figures<Status> = Readonly<Record<string, Figure<Status>>>;

export const METRICS_URL = '/metrics';
export const METRICS_CONTENT_TYPE = Registry.PROMETHEUS_CONTENT_TYPE;

/** Whatever is counted by class: a figure has no more series than this. */
const MOST_SERIES = 64;

/** What Prometheus reads (text format 0.0.4), made anew of each status: what is gone from it is gone from the text. */
export class Metrics<Status> {
  readonly #registry = new Registry();
  readonly #set: ((status: Status) => void)[];

  /** @param prefix of every name, with its underscore */
  constructor(prefix: string, figures: Figures<Status>) {
    const registers = [this.#registry];
    this.#set = Object.entries(figures).map(([name, { kind, help, labels = [], of }]) => {
      const common = { name: `${prefix}${name}`, help, labelNames: labels, registers };
      const metric = kind === 'counter' ? new Counter(common) : new Gauge(common);
      return (status) => {
        metric.reset();
        // Reset leaves a zero where there are no labels, which would say what nobody knows.
        if (labels.length === 0) metric.remove();
        for (const [value, labelValues = {}] of of(status).slice(0, MOST_SERIES)) metric.inc(labelValues, value);
      };
    });
  }

  text(status: Status): Promise<string> {
    for (const set of this.#set) set(status);
    return this.#registry.metrics();
  }
}

/** One series a class, in the label `class`. */
export function byClass(counts: Readonly<Record<string, number | undefined>>): Series[] {
  return Object.entries(counts).map(([name, count]) => [count ?? 0, { class: name }]);
}
