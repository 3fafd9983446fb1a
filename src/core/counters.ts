/** Named counts of what was dropped, refused or seen; the names are the metrics' label values. */
export class Counters<Name extends string> {
  readonly #counts = new Map<Name, number>();

  count(name: Name, by = 1): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + by);
  }

  get(name: Name): number {
    return this.#counts.get(name) ?? 0;
  }

  /** What has been counted, zeros left out. */
  all(): Partial<Record<Name, number>> {
    return Object.fromEntries(this.#counts) as Partial<Record<Name, number>>;
  }
}
