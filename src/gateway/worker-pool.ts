import { Backoff } from '../core/backoff.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { Transport } from '../protocol/engine-api.js';
import type { WorkerView } from '../protocol/gateway-api.js';
import type { Leg, LegFigures, WorkerTotals } from '../protocol/gateway-worker.js';
import { PortRange } from './port-range.js';
import { type WorkerEnd, type WorkerLimits, WorkerProcess } from './worker-process.js';

const MOST_ROOMS = 1_000;
/** A worker that lived so long is started again at once. */
const STABLE_AFTER_MS = 10_000;
/** A port of a worker that has just ended may take the system a moment to free. */
const REOPEN_TIMES = 20;
const REOPEN_EVERY_MS = 50;

export interface WorkerPoolOptions {
  readonly count: number;
  /** Module that each worker runs. */
  readonly program: string;
  readonly rtp: { readonly address: string; readonly ports: { readonly from: number; readonly to: number } };
  readonly limits: WorkerLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  /** It could not be had again after its worker's end. */
  readonly onRoomLost?: (roomId: string) => void;
}

interface Slot {
  readonly index: number;
  readonly backoff: Backoff;
  process: WorkerProcess | null;
  retry: Timer | null;
  startedMs: number;
  /** Of its processes that have ended, and of the one that runs, when it was last asked. */
  past: WorkerTotals;
  now: WorkerTotals;
}

const NOTHING: WorkerTotals = { forwarded: 0, refused: {}, cpuS: 0 };

interface PlacedRoom {
  readonly roomId: string;
  readonly legs: Map<string, Leg>;
  /** Null while its worker is gone and no other has it yet. */
  slot: Slot | null;
  isReopening: boolean;
}

/**
 * The room workers, and which of them has which room. The pool alone hands out ports, and remembers where each party is, so
 * that a room whose worker ends is opened on another with the very same ports: its parties notice a gap, no more.
 */
export class WorkerPool {
  /** How workers ended. */
  readonly ends = new Counters<WorkerEnd>();
  readonly #options: WorkerPoolOptions;
  readonly #slots: readonly Slot[];
  readonly #ports: PortRange;
  readonly #rooms = new Map<string, PlacedRoom>();
  #isStopped = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#ports = new PortRange(options.rtp.ports);
    this.#slots = Array.from({ length: options.count }, (_, index) => ({
      index,
      backoff: new Backoff({ firstMs: 50, mostMs: 5_000 }),
      process: null,
      retry: null,
      startedMs: 0,
      past: NOTHING,
      now: NOTHING,
    }));
    for (const slot of this.#slots) this.#start(slot);
  }

  get address(): string {
    return this.#options.rtp.address;
  }

  get isReady(): boolean {
    return this.#slots.some(({ process }) => process?.isReady === true);
  }

  workers(): WorkerView[] {
    return this.#slots.map((slot) => ({
      index: slot.index,
      pid: slot.process?.pid ?? null,
      ready: slot.process?.isReady === true,
      rooms: [...this.#rooms.values()].filter((room) => room.slot === slot).length,
      memoryRssBytes: slot.process?.memoryRssBytes ?? 0,
      refused: Object.values(slot.process?.refused.all() ?? {}).reduce<number>((sum, count) => sum + (count ?? 0), 0),
    }));
  }

  /** What each worker did since the pool's start; of one that has ended, or doesn't answer, what it last told. */
  totals(): Promise<(WorkerTotals & { readonly index: number })[]> {
    return Promise.all(
      this.#slots.map(async (slot) => {
        const { process } = slot;
        const answer = await process?.ask({ type: 'worker.totals' }).catch(() => undefined);
        if (answer?.type === 'totals' && slot.process === process) slot.now = answer.totals;
        return { index: slot.index, ...sumOf(slot.past, slot.now) };
      }),
    );
  }

  rooms(): { roomId: string; worker: number | null; legs: Leg[] }[] {
    return [...this.#rooms.values()].map(({ roomId, slot, legs }) => ({
      roomId,
      worker: slot?.index ?? null,
      legs: [...legs.values()],
    }));
  }

  /**
   * Opens a room with a port for each leg; `remote` may come later (`towards`).
   * @throws AppError `room-taken`, `too-many-rooms`, `no-port`, `no-worker`, `worker-gone`, `worker-late`
   */
  async open(roomId: string, legs: readonly { legId: string; remote: Transport | null }[]): Promise<Leg[]> {
    if (this.#rooms.has(roomId)) throw new AppError('room-taken', `Room ${roomId} is open`);
    if (this.#rooms.size >= MOST_ROOMS) throw new AppError('too-many-rooms', `${MOST_ROOMS} rooms are open`);
    const slot = this.#leastBusy();
    if (slot === null) throw new AppError('no-worker', 'No room worker is ready', { remedy: 'Try again in a second' });
    const room: PlacedRoom = { roomId, legs: new Map(), slot, isReopening: false };
    this.#rooms.set(roomId, room);
    try {
      for (let tries = 1; ; tries++) {
        room.legs.clear();
        for (const { legId, remote } of legs) room.legs.set(legId, { legId, remote, port: this.#ports.take() });
        try {
          await slot.process?.ask({ type: 'room.open', roomId, legs: [...room.legs.values()] });
          return [...room.legs.values()];
        } catch (error) {
          for (const { port } of room.legs.values()) this.#ports.free(port);
          // Another program's; the range goes on to the next ones.
          if (!(error instanceof AppError) || error.code !== 'port-taken' || tries === REOPEN_TIMES) throw error;
        }
      }
    } catch (error) {
      this.#rooms.delete(roomId);
      throw error;
    }
  }

  /** The party is there. Kept when the worker is gone just now. @throws AppError `room-unknown`, `leg-unknown` */
  async towards(roomId: string, legId: string, remote: Transport): Promise<void> {
    const room = this.#find(roomId);
    const leg = room.legs.get(legId);
    if (leg === undefined) throw new AppError('leg-unknown', `Room ${roomId} has no leg ${legId}`);
    room.legs.set(legId, { ...leg, remote });
    await room.slot?.process?.ask({ type: 'leg.towards', roomId, legId, remote }).catch((error: unknown) => {
      this.#options.logger.warn({ roomId, error: errorText(error) }, 'a worker was not told where a party is');
    });
  }

  /** @throws AppError `room-unknown`, `no-worker`, `worker-gone`, `worker-late` */
  async figures(roomId: string): Promise<LegFigures[]> {
    const worker = this.#find(roomId).slot?.process;
    if (!worker) throw new AppError('no-worker', `Room ${roomId} waits for a worker`);
    const answer = await worker.ask({ type: 'room.figures', roomId });
    return answer.type === 'figures' ? answer.legs : [];
  }

  /** @throws AppError `room-unknown` */
  async close(roomId: string): Promise<void> {
    const room = this.#find(roomId);
    this.#rooms.delete(roomId);
    await room.slot?.process?.ask({ type: 'room.close', roomId }).catch(() => {});
    for (const { port } of room.legs.values()) this.#ports.free(port);
  }

  stop(): void {
    this.#isStopped = true;
    for (const { process, retry } of this.#slots) {
      retry?.cancel();
      process?.stop();
    }
  }

  #find(roomId: string): PlacedRoom {
    const room = this.#rooms.get(roomId);
    if (room === undefined) throw new AppError('room-unknown', `There is no room ${roomId}`);
    return room;
  }

  #leastBusy(): Slot | null {
    const load = (slot: Slot) => [...this.#rooms.values()].filter((room) => room.slot === slot).length;
    const ready = this.#slots.filter(({ process }) => process?.isReady === true);
    return ready.reduce<Slot | null>((best, slot) => (best === null || load(slot) < load(best) ? slot : best), null);
  }

  #start(slot: Slot): void {
    const { program, rtp, limits, clock, logger } = this.#options;
    slot.retry = null;
    slot.startedMs = clock.nowMs();
    slot.process = new WorkerProcess({
      program,
      address: rtp.address,
      limits,
      clock,
      logger,
      onReady: () => this.#placeHomeless(),
      onEnd: (why) => this.#ended(slot, why),
      onMoved: ({ roomId, legId, remote }) => {
        const leg = this.#rooms.get(roomId)?.legs.get(legId);
        if (leg !== undefined) this.#rooms.get(roomId)?.legs.set(legId, { ...leg, remote });
      },
    });
  }

  #ended(slot: Slot, why: WorkerEnd): void {
    slot.process = null;
    slot.past = sumOf(slot.past, slot.now);
    slot.now = NOTHING;
    this.ends.count(why);
    if (this.#isStopped) return;
    const { clock, logger } = this.#options;
    logger.warn({ worker: slot.index, why }, 'a room worker has ended; another takes its rooms');
    for (const room of this.#rooms.values()) if (room.slot === slot) room.slot = null;
    if (clock.nowMs() - slot.startedMs >= STABLE_AFTER_MS) slot.backoff.reset();
    slot.retry = clock.after(slot.backoff.nextDelayMs(), () => this.#start(slot));
    this.#placeHomeless();
  }

  #placeHomeless(): void {
    for (const room of this.#rooms.values()) {
      if (room.slot !== null || room.isReopening) continue;
      room.isReopening = true;
      void this.#reopen(room).finally(() => {
        room.isReopening = false;
      });
    }
  }

  async #reopen(room: PlacedRoom): Promise<void> {
    const { clock, logger, onRoomLost } = this.#options;
    const { roomId } = room;
    for (let tries = 1; tries <= REOPEN_TIMES; tries++) {
      const slot = this.#leastBusy();
      room.slot = slot;
      if (slot === null || this.#rooms.get(roomId) !== room) return;
      try {
        await slot.process?.ask({ type: 'room.open', roomId, legs: [...room.legs.values()] });
        logger.info({ roomId, worker: slot.index }, 'a room is back');
        return;
      } catch (error) {
        if (error instanceof AppError && error.code === 'room-taken') return;
        logger.warn({ roomId, error: errorText(error) }, 'a room could not be opened again yet');
        await new Promise<void>((resolve) => clock.after(REOPEN_EVERY_MS, resolve));
      }
    }
    logger.error({ roomId }, 'a room is lost');
    this.#rooms.delete(roomId);
    for (const { port } of room.legs.values()) this.#ports.free(port);
    onRoomLost?.(roomId);
  }
}

function sumOf(a: WorkerTotals, b: WorkerTotals): WorkerTotals {
  const refused = { ...a.refused };
  for (const [fault, count] of Object.entries(b.refused)) refused[fault] = (refused[fault] ?? 0) + count;
  return { forwarded: a.forwarded + b.forwarded, refused, cpuS: a.cpuS + b.cpuS };
}
