import { AppError } from '../core/errors.js';

/** Port numbers in turn: one that was just freed is taken last, as strays may still come to it. */
export class PortRange {
  readonly #from: number;
  readonly #count: number;
  readonly #taken = new Set<number>();
  #next = 0;

  constructor(range: { from: number; to: number }) {
    this.#from = range.from;
    this.#count = range.to - range.from + 1;
  }

  /** @throws AppError `no-port` */
  take(): number {
    for (let tries = 0; tries < this.#count; tries++) {
      const port = this.#from + this.#next;
      this.#next = (this.#next + 1) % this.#count;
      if (this.#taken.has(port)) continue;
      this.#taken.add(port);
      return port;
    }
    throw new AppError('no-port', `All ${this.#count} UDP ports are taken`, { remedy: 'Give rtp.ports a wider range' });
  }

  free(port: number): void {
    this.#taken.delete(port);
  }
}
