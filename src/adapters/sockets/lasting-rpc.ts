import type { z } from 'zod';
import type { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { connectRpc, type NotificationMap, type RequestMap, type RpcClient } from './rpc.js';

export interface LastingRpcOptions<R extends RequestMap, N extends NotificationMap> {
  readonly path: string;
  readonly requests: R;
  readonly notifications: N;
  /** Bounds the connecting and each call. */
  readonly timeoutMs: number;
  readonly backoff: Backoff;
  readonly clock: Clock;
  readonly onNotification: <K extends keyof N & string>(name: K, params: z.output<N[K]>) => void;
  /** Each time that it is there; what is asked for first is done first. */
  readonly onConnected: () => void;
  /** What was there is gone; not by `close()`. */
  readonly onLost?: () => void;
  /** Each try that came to nothing. */
  readonly onUnreachable?: (error: unknown) => void;
}

/** A connection to a served socket that is made anew whenever it is lost, until `close()`. */
export class LastingRpc<R extends RequestMap, N extends NotificationMap> {
  readonly #options: LastingRpcOptions<R, N>;
  #rpc: RpcClient<R> | undefined;
  #retry: Timer | undefined;
  #isClosed = false;

  constructor(options: LastingRpcOptions<R, N>) {
    this.#options = options;
    void this.#connect();
  }

  /** As long as it is there. */
  get current(): RpcClient<R> | undefined {
    return this.#rpc;
  }

  close(): void {
    this.#isClosed = true;
    this.#retry?.cancel();
    this.#rpc?.close();
    this.#rpc = undefined;
  }

  async #connect(): Promise<void> {
    const { backoff, onConnected, onLost, onUnreachable, ...how } = this.#options;
    try {
      const rpc = await connectRpc({ ...how, onClose: () => this.#lost() });
      if (this.#isClosed) return rpc.close();
      this.#rpc = rpc;
    } catch (error) {
      onUnreachable?.(error);
      this.#tryLater();
      return;
    }
    backoff.reset();
    onConnected();
  }

  #lost(): void {
    this.#rpc = undefined;
    if (this.#isClosed) return;
    this.#options.onLost?.();
    this.#tryLater();
  }

  #tryLater(): void {
    const { backoff, clock } = this.#options;
    if (!this.#isClosed) this.#retry = clock.after(backoff.nextDelayMs(), () => void this.#connect());
  }
}
