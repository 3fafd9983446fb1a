import type { Clock, Timer } from '../core/clock.js';
import type { FlowNode, NodeStatus } from './node-red.js';

const LEAST_MS = 200;

/** A node's status in the editor: told when it changes, five times a second at most, the last one always. */
export class StatusLine {
  readonly #node: Pick<FlowNode, 'status'>;
  readonly #clock: Clock;
  #shown: NodeStatus | undefined;
  #wanted: NodeStatus | undefined;
  #wait: Timer | undefined;

  constructor(node: Pick<FlowNode, 'status'>, clock: Clock) {
    this.#node = node;
    this.#clock = clock;
  }

  set(status: NodeStatus): void {
    this.#wanted = status;
    if (this.#wait === undefined) this.#show();
  }

  close(): void {
    this.#wait?.cancel();
    this.#wait = undefined;
    this.#wanted = undefined;
  }

  #show(): void {
    const status = this.#wanted;
    if (status === undefined || isSame(status, this.#shown)) return;
    this.#shown = status;
    this.#node.status(status);
    this.#wait = this.#clock.after(LEAST_MS, () => {
      this.#wait = undefined;
      this.#show();
    });
  }
}

function isSame(a: NodeStatus, b: NodeStatus | undefined): boolean {
  return a.fill === b?.fill && a.shape === b?.shape && a.text === b?.text;
}
