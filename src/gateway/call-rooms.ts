import { parseSdp, writeSdp } from '../call/sdp.js';
import { AppError } from '../core/errors.js';
import type { CallMessage } from '../protocol/call-message.js';
import type { Leg } from '../protocol/gateway-worker.js';
import type { WorkerPool } from './worker-pool.js';

/** The room of each call between sites: its parties send to it, and it to them. A room bears its call's id. */
export class CallRooms {
  readonly #pool: WorkerPool;
  readonly #legs = new Map<string, readonly Leg[]>();

  constructor(pool: WorkerPool) {
    this.#pool = pool;
  }

  /** Calls that have a room. */
  callIds(): string[] {
    return [...this.#legs.keys()];
  }

  /**
   * The message with the addresses of its description replaced by the room's, where it has one: what `from` said goes to its
   * leg, and `to` is told its own.
   * @throws AppError `sdp-…` for a description that can't be read, and what `WorkerPool.open` says
   */
  async describe<M extends CallMessage>(message: M, from: string, to: string): Promise<M> {
    if (!('sdp' in message)) return message;
    const parsed = parseSdp(message.sdp);
    if (!parsed.ok) throw new AppError(`sdp-${parsed.fault}`, parsed.text);
    const [{ address, port }] = parsed.value.hosts;
    const legs = await this.#legsOf(message.callId, [from, to]);
    await this.#pool.towards(message.callId, from, { address, port });
    const leg = legs.find(({ legId }) => legId === to);
    if (leg === undefined) throw new AppError('leg-unknown', `Call ${message.callId} has no leg for ${to}`);
    const host = { address: this.#pool.address, port: leg.port };
    return { ...message, sdp: writeSdp({ ...parsed.value, hosts: [host] }) };
  }

  /** Nothing where the call has none. */
  async close(callId: string): Promise<void> {
    if (!this.#legs.delete(callId)) return;
    await this.#pool.close(callId).catch(() => {});
  }

  async #legsOf(callId: string, parties: readonly string[]): Promise<readonly Leg[]> {
    const known = this.#legs.get(callId);
    if (known !== undefined) return known;
    const legs = await this.#pool.open(
      callId,
      parties.map((legId) => ({ legId, remote: null })),
    );
    this.#legs.set(callId, legs);
    return legs;
  }
}
