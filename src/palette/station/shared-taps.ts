import { TapReceiver } from '../../adapters/udp/tap-receiver.js';
import type { Clock } from '../../core/clock.js';
import { Counters } from '../../core/counters.js';
import type { L16Sound } from '../../rtp/l16.js';

export type TapSource = 'microphone' | 'speaker';

export interface TapListener {
  /** 16 kHz, mono; its samples are valid until this returns. */
  sound(sound: L16Sound): void;
  /** null: granted, and sound comes while there is some; else why not. */
  granted(refusal: unknown): void;
}

export interface SharedTapsOptions {
  /** @throws AppError as the station refuses it */
  readonly ask: (name: 'audio.tap' | 'audio.untap', params: { source: TapSource; port: number }) => Promise<unknown>;
  readonly clock: Clock;
}

interface Tap {
  readonly listeners: Set<TapListener>;
  /** Opened at the first listener, closed after the last. */
  readonly receiver: Promise<TapReceiver>;
}

/** The taps of one connection to the station: one for each source, whoever of its nodes listens; asked for anew when the station is back. */
export class SharedTaps {
  /** Datagrams that were none of a tap's, by class of fault. */
  readonly refused = new Counters<string>();
  readonly #options: SharedTapsOptions;
  readonly #taps = new Map<TapSource, Tap>();
  #isConnected = false;

  constructor(options: SharedTapsOptions) {
    this.#options = options;
  }

  /** @returns what ends the listening */
  listen(source: TapSource, listener: TapListener): () => void {
    const known = this.#taps.get(source);
    const tap = known ?? this.#open(source);
    tap.listeners.add(listener);
    // Each hears for itself whether it is granted.
    if (this.#isConnected) void this.#ask(source, tap);
    return () => {
      if (!tap.listeners.delete(listener) || tap.listeners.size > 0) return;
      this.#taps.delete(source);
      void this.#close(source, tap);
    };
  }

  connected(): void {
    this.#isConnected = true;
    for (const [source, tap] of this.#taps) void this.#ask(source, tap);
  }

  /** The station has gone, and its taps with it. */
  lost(): void {
    this.#isConnected = false;
  }

  close(): void {
    this.#isConnected = false;
    for (const [source, tap] of this.#taps) void this.#close(source, tap);
    this.#taps.clear();
  }

  #open(source: TapSource): Tap {
    const listeners = new Set<TapListener>();
    const receiver = TapReceiver.open({
      clock: this.#options.clock,
      refused: this.refused,
      sound: (sound) => {
        for (const listener of listeners) listener.sound(sound);
      },
    });
    // Whoever waits for it is told; nobody may.
    receiver.catch(() => {});
    const tap = { listeners, receiver };
    this.#taps.set(source, tap);
    return tap;
  }

  async #ask(source: TapSource, tap: Tap): Promise<void> {
    const refusal = await tap.receiver
      .then(({ port }) => this.#options.ask('audio.tap', { source, port }))
      .then(
        () => null,
        (error: unknown) => error,
      );
    for (const listener of tap.listeners) listener.granted(refusal);
  }

  async #close(source: TapSource, { receiver }: Tap): Promise<void> {
    const { port, close } = await receiver.then(
      (one) => ({ port: one.port, close: () => one.close() }),
      () => ({ port: null, close: async () => {} }),
    );
    if (port !== null && this.#isConnected) await this.#options.ask('audio.untap', { source, port }).catch(() => {});
    await close();
  }
}
