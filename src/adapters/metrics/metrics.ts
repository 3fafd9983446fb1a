import type { Registry } from 'prom-client';

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
/** Prometheus' text format 0.0.4. */
export const METRICS_CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Whatever is counted by class: a figure has no more series than this. */
const MOST_SERIES = 64;

interface Page<Status> {
  readonly registry: Registry;
  readonly set: readonly ((status: Status) => void)[];
}

/**
 * What Prometheus reads (text format 0.0.4), made anew of each status: what is gone from it is gone from the text. prom-client,
 * which brings node:http, is loaded when somebody reads for the first time: a process that nobody asks does not pay for it.
 */
export class Metrics<Status> {
  readonly #prefix: string;
  readonly #figures: Figures<Status>;
  #page: Promise<Page<Status>> | undefined;

  /** @param prefix of every name, with its underscore */
  constructor(prefix: string, figures: Figures<Status>) {
    this.#prefix = prefix;
    this.#figures = figures;
  }

  async text(status: Status): Promise<string> {
    this.#page ??= this.#makePage();
    const { registry, set } = await this.#page;
    for (const one of set) one(status);
    return registry.metrics();
  }

  async #makePage(): Promise<Page<Status>> {
    const { Counter, Gauge, Registry } = (await import('prom-client')).default;
    const registry = new Registry();
    const registers = [registry];
    const set = Object.entries(this.#figures).map(([name, { kind, help, labels = [], of }]) => {
      const common = { name: `${this.#prefix}${name}`, help, labelNames: labels, registers };
      const metric = kind === 'counter' ? new Counter(common) : new Gauge(common);
      return (status: Status) => {
        metric.reset();
        // Reset leaves a zero where there are no labels, which would say what nobody knows.
        if (labels.length === 0) metric.remove();
        for (const [value, labelValues = {}] of of(status).slice(0, MOST_SERIES)) metric.inc(labelValues, value);
      };
    });
    return { registry, set };
  }
}

/** One series a class, in the label `class`. */
export function byClass(counts: Readonly<Record<string, number | undefined>>): Series[] {
  return Object.entries(counts).map(([name, count]) => [count ?? 0, { class: name }]);
}
