import { createRequire } from 'node:module';
import { resolve } from 'node:path';

/** native/playback.cc. */
export interface NativePlayback {
  /** From now until a frame that is pulled now is heard, ms; 0 while nothing plays. */
  delayMs(): number;
  xruns(): number;
  starvedFrames(): number;
  /** Since the writing thread last came round, ms. */
  aliveMs(): number;
  close(): void;
}

interface PlaybackModule {
  readonly Playback: new (options: {
    device: string;
    rateHz: number;
    pull: () => Int16Array;
    changed: (isUp: boolean, code?: string, text?: string) => void;
  }) => NativePlayback;
  listCards(): { device: string; description: string; capture: boolean; playback: boolean }[];
}

/** Loading it also keeps libasound from printing to stderr in this process. */
export const playbackModule = createRequire(import.meta.url)(
  resolve(import.meta.dirname, '../../../../native/build/playback.node'),
) as PlaybackModule;
