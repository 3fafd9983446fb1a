/** Call control goes first; then state and events; figures last. */
export type SendPriority = 'call' | 'state' | 'telemetry';

/** In the order of sending. */
export const PRIORITIES: readonly SendPriority[] = ['call', 'state', 'telemetry'];

/** How long a message may be held back so that others share its packet, ms. Call control is sent within its 10 ms: at once. */
export const HOLD_MS: Readonly<Record<SendPriority, number>> = { call: 0, state: 50, telemetry: 200 };

export interface Waiting {
  readonly priority: SendPriority;
  readonly sizeBytes: number;
  readonly queuedAtMs: number;
  /** By the same clock as `queuedAtMs`; Infinity for what does not age. */
  readonly expiresAtMs: number;
}

/** What waits to be sent: first in, first out within a priority, bounded in messages and bytes. Pure. */
export class SendQueue<Item extends Waiting> {
  readonly #mostMessages: number;
  readonly #mostBytes: number;
  readonly #lanes: Record<SendPriority, Item[]> = { call: [], state: [], telemetry: [] };
  #bytes = 0;
  #length = 0;

  constructor(options: { mostMessages: number; mostBytes: number }) {
    this.#mostMessages = options.mostMessages;
    this.#mostBytes = options.mostBytes;
  }

  get length(): number {
    return this.#length;
  }

  /**
   * Queues `item`. @returns what had to go to keep the bound: the oldest of the lowest priority first. A call message never
   * displaces another: there the new one is returned.
   */
  add(item: Item): Item[] {
    this.#lanes[item.priority].push(item);
    this.#changed(1, item.sizeBytes);
    const dropped: Item[] = [];
    while (this.#length > this.#mostMessages || this.#bytes > this.#mostBytes) {
      const victim = this.#lanes.telemetry[0] ?? this.#lanes.state[0] ?? item;
      this.#remove(victim);
      dropped.push(victim);
      if (victim === item) break;
    }
    return dropped;
  }

  /** Puts back what was sent but not acknowledged, ahead of its lane, in its order. */
  putBack(items: readonly Item[]): void {
    for (const item of [...items].reverse()) {
      this.#lanes[item.priority].unshift(item);
      this.#changed(1, item.sizeBytes);
    }
  }

  /** Takes the next of the highest priority that `maySend`. */
  take(maySend: (priority: SendPriority) => boolean): Item | undefined {
    for (const priority of PRIORITIES) {
      if (!maySend(priority)) continue;
      const item = this.#lanes[priority].shift();
      if (item === undefined) continue;
      this.#changed(-1, -item.sizeBytes);
      return item;
    }
    return undefined;
  }

  /** Takes out what has aged past its expiry. */
  takeExpired(nowMs: number): Item[] {
    const expired = this.#items().filter((item) => item.expiresAtMs <= nowMs);
    for (const item of expired) this.#remove(item);
    return expired;
  }

  takeAll(): Item[] {
    const items = this.#items();
    for (const item of items) this.#remove(item);
    return items;
  }

  /** When the first message that `maySend` must be sent at the latest; Infinity where there is none. */
  dueAtMs(maySend: (priority: SendPriority) => boolean): number {
    return PRIORITIES.reduce((soonestMs, priority) => {
      const first = this.#lanes[priority][0];
      return first === undefined || !maySend(priority)
        ? soonestMs
        : Math.min(soonestMs, first.queuedAtMs + HOLD_MS[priority]);
    }, Infinity);
  }

  /** When the first message expires; Infinity where none does. */
  expiresAtMs(): number {
    return this.#items().reduce((soonestMs, item) => Math.min(soonestMs, item.expiresAtMs), Infinity);
  }

  #items(): Item[] {
    return PRIORITIES.flatMap((priority) => this.#lanes[priority]);
  }

  #remove(item: Item): void {
    const lane = this.#lanes[item.priority];
    const index = lane.indexOf(item);
    if (index < 0) return;
    lane.splice(index, 1);
    this.#changed(-1, -item.sizeBytes);
  }

  #changed(messages: number, bytes: number): void {
    this.#length += messages;
    this.#bytes += bytes;
  }
}
