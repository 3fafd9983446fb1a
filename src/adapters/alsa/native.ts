import { createRequire } from 'node:module';
import { join } from 'node:path';
import { AppError, errorText } from '../../core/errors.js';
import { packageRoot } from '../../core/package-root.js';

/** Why a device can't be used, as native code tells it: the code of an AppError, and what ALSA says. */
export interface NativeFault {
  readonly code: string;
  readonly text: string;
}

export interface NativePlayback {
  /** No callback comes after it; never waits for the card. */
  close(): void;
  /** From now until a frame pulled now is heard. */
  delayMs(): number;
  /** `stuckMs`: since when the writing thread is in one call to ALSA. `ended`: the thread is gone, the card is free. */
  figures(): { xruns: number; starvedFrames: number; stuckMs: number; ended: boolean };
}

interface NativeModule {
  readonly Playback: new (options: {
    device: string;
    rateHz: number;
    /** Asked whenever the card has room for 10 ms. */
    pull: () => Int16Array;
    /** `up` when the card moves, then at most one fault, after which the thread has ended. */
    changed: (code: string, text?: string) => void;
  }) => NativePlayback;
  /** Opens and closes a device on a thread of its own. */
  probe(device: string, stream: 'capture' | 'playback', rateHz: number): Promise<NativeFault | null>;
  listDevices(): { device: string; description: string; capture: boolean; playback: boolean }[];
}

const file = join(packageRoot, 'native/build/playback.node');

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

/** ALSA by native/playback.cc. Once it is loaded libasound no longer prints to stderr. */
export const native = load();
