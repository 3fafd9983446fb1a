import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { PeriodMs } from '../../audio/ports.js';
import { AppError, errorText } from '../../core/errors.js';
import { packageRoot } from '../../core/package-root.js';

/** Why a device can't be used, as native code tells it: the code of an AppError, and what ALSA says. */
export interface NativeFault {
  readonly code: string;
  readonly text: string;
}

/** `up` when the card moves, then at most one fault, after which its thread has ended. */
export type NativeChanged = (code: string, text?: string) => void;

/** A thread that has a card open. */
export interface NativeLine {
  /** No callback comes after it; never waits for the card. */
  close(): void;
  figures(): NativeLineFigures;
}

export interface NativeLineFigures {
  readonly xruns: number;
  /** Since when the thread is in one call to ALSA. */
  readonly stuckMs: number;
  /** The thread is gone, the card is free. */
  readonly ended: boolean;
}

export interface NativePlayback extends NativeLine {
  /** From now until a frame pulled now is heard. */
  delayMs(): number;
  figures(): NativeLineFigures & { readonly starvedFrames: number };
}

export interface NativeCapture extends NativeLine {
  /** From the next period on. */
  setPeriodMs(periodMs: PeriodMs): void;
  /** How long what was read last had been on its way from the card, as ALSA says. */
  delayMs(): number;
  figures(): NativeLineFigures & { readonly droppedFrames: number };
}

interface NativeModule {
  readonly Playback: new (options: {
    device: string;
    rateHz: number;
    /** Asked whenever the card has room for 10 ms. */
    pull: () => Int16Array;
    changed: NativeChanged;
  }) => NativePlayback;
  readonly Capture: new (options: {
    device: string;
    rateHz: number;
    periodMs: PeriodMs;
    /** Where frames are put, one after the other; and since when each has been here, in ms. */
    samples: Int16Array;
    agesMs: Float64Array;
    /** So many frames are there; they may be overwritten once it returns. */
    take: (count: number) => void;
    changed: NativeChanged;
  }) => NativeCapture;
  /** Opens and closes a device on a thread of its own. */
  probe(device: string, stream: 'capture' | 'playback', rateHz: number): Promise<NativeFault | null>;
  listDevices(): { device: string; description: string; capture: boolean; playback: boolean }[];
}

const file = join(packageRoot, 'native/build/alsa.node');

function load(): NativeModule {
  try {
    return createRequire(import.meta.url)(file) as NativeModule;
  } catch (error) {
    throw new AppError('native-missing', `The native module can't be loaded: ${errorText(error)}`, {
      remedy: 'Run make setup, which builds it',
      cause: error,
    });
  }
}

/** ALSA by native/alsa.cc. Once it is loaded libasound no longer prints to stderr. */
export const native = load();
