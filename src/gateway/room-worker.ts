import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import { parseJson } from '../protocol/call-message.js';
import { type FromWorker, type ToWorker, toWorker, type WorkerTotals } from '../protocol/gateway-worker.js';
import { Room } from './room.js';

/** A worker's rooms, on the order of its dispatcher. Several orders may be under way at once. */
export class RoomWorker {
  readonly #clock: Clock;
  readonly #tell: (message: FromWorker) => void;
  readonly #rooms = new Map<string, Promise<Room>>();
  #address: string | null = null;
  #refused = 0;
  /** Of rooms that are closed. */
  readonly #past = { forwarded: 0, refused: new Counters<string>() };

  constructor(options: { clock: Clock; tell: (message: FromWorker) => void }) {
    this.#clock = options.clock;
    this.#tell = options.tell;
  }

  /** Takes whatever came over the pipe. Never throws. */
  take(json: unknown): void {
    const parsed = parseJson(toWorker, json);
    if (!parsed.ok) {
      this.#refused += 1;
      return;
    }
    const message = parsed.value;
    if (message.type === 'init') {
      this.#address = message.address;
      this.#tell({ type: 'ready', pid: process.pid });
    } else if (message.type === 'ping') {
      this.#tell({
        type: 'pong',
        seq: message.seq,
        memoryRssBytes: process.memoryUsage.rss(),
        rooms: this.#rooms.size,
        refused: this.#refused,
      });
    } else {
      const { request } = message;
      this.#do(message).then(
        (answer) => this.#tell(answer),
        (error: unknown) => {
          const code = error instanceof AppError ? error.code : 'failed';
          this.#tell({ type: 'failed', request, code, text: errorText(error).slice(0, 500) });
        },
      );
    }
  }

  async #do(message: Extract<ToWorker, { request: number }>): Promise<FromWorker> {
    const { request } = message;
    if (message.type === 'worker.totals') return { type: 'totals', request, totals: await this.#totals() };
    const { roomId } = message;
    if (message.type === 'room.open') {
      await this.#open(roomId, message.legs);
      return { type: 'done', request };
    }
    const room = await this.#rooms.get(roomId);
    if (room === undefined) throw new AppError('room-unknown', `There is no room ${roomId}`);
    switch (message.type) {
      case 'room.figures':
        return { type: 'figures', request, legs: room.figures() };
      case 'leg.towards':
        if (!room.towards(message.legId, message.remote)) {
          throw new AppError('leg-unknown', `Room ${roomId} has no leg ${message.legId}`);
        }
        return { type: 'done', request };
      case 'room.close':
        this.#rooms.delete(roomId);
        add(this.#past, room);
        await room.close();
        return { type: 'done', request };
    }
  }

  async #totals(): Promise<WorkerTotals> {
    const all = { forwarded: this.#past.forwarded, refused: new Counters<string>() };
    for (const [fault, count] of Object.entries(this.#past.refused.all())) all.refused.count(fault, count);
    // One that is being opened has nothing to tell yet, and one that can't be opened never will.
    for (const room of await Promise.allSettled(this.#rooms.values())) {
      if (room.status === 'fulfilled') add(all, room.value);
    }
    const { user, system } = process.cpuUsage();
    const refused = all.refused.all() as Record<string, number>;
    return { forwarded: all.forwarded, refused, cpuS: (user + system) / 1e6 };
  }

  async #open(roomId: string, legs: Extract<ToWorker, { type: 'room.open' }>['legs']): Promise<void> {
    if (this.#address === null) throw new AppError('not-ready', 'The worker was not initialised');
    if (this.#rooms.has(roomId)) throw new AppError('room-taken', `Room ${roomId} is open`);
    const opening = Room.open({
      address: this.#address,
      legs,
      clock: this.#clock,
      moved: (legId, remote) => this.#tell({ type: 'leg.moved', roomId, legId, remote }),
    });
    this.#rooms.set(roomId, opening);
    await opening.catch((error: unknown) => {
      this.#rooms.delete(roomId);
      throw error;
    });
  }
}

function add(to: { forwarded: number; readonly refused: Counters<string> }, room: Room): void {
  for (const { forwarded, refused } of room.figures()) {
    to.forwarded += forwarded;
    for (const [fault, count] of Object.entries(refused)) to.refused.count(fault, count);
  }
}
