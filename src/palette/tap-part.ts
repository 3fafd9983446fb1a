import { AppError } from '../core/errors.js';
import type { L16Sound } from '../rtp/l16.js';
import type { TapSource } from './station/shared-taps.js';
import type { StationConnection } from './station/station-connection.js';

export interface TapPartListener {
  /** 16 kHz, mono; its samples are valid until this returns. */
  sound(source: TapSource, sound: L16Sound): void;
  /** The station does not let it hear. */
  refused(error: unknown): void;
}

/** What a node that hears has beside its station: its taps, open while it wants them. */
export class TapPart {
  readonly #connection: StationConnection | undefined;
  readonly #sources: readonly TapSource[];
  readonly #listener: TapPartListener;
  readonly #answers = new Map<TapSource, unknown>();
  #leave: (() => void)[] = [];
  #waiting: (() => void)[] = [];

  /** @param connection undefined where the node has no station: then it hears nothing */
  constructor(connection: StationConnection | undefined, sources: readonly TapSource[], listener: TapPartListener) {
    this.#connection = connection;
    this.#sources = sources;
    this.#listener = listener;
  }

  open(): void {
    if (this.#connection === undefined || this.#leave.length > 0) return;
    const { taps } = this.#connection;
    this.#leave = this.#sources.map((source) =>
      taps.listen(source, {
        sound: (sound) => this.#listener.sound(source, sound),
        granted: (refusal) => this.#answered(source, refusal),
      }),
    );
  }

  /** Waits until the station has granted what is open. @throws what it says instead; AppError `station-unreachable`, `tap-closed` */
  async granted(): Promise<void> {
    while (this.#sources.some((source) => !this.#answers.has(source))) {
      if (this.#leave.length === 0) throw new AppError('tap-closed', 'nobody listens any more');
      this.#connection?.mustBeThere();
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    for (const refusal of this.#answers.values()) if (refusal !== null) throw refusal;
  }

  close(): void {
    for (const leave of this.#leave) leave();
    this.#leave = [];
    this.#answers.clear();
    this.#wake();
  }

  #answered(source: TapSource, refusal: unknown): void {
    this.#answers.set(source, refusal);
    if (refusal !== null) this.#listener.refused(refusal);
    this.#wake();
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
