import { join } from 'node:path';
import { modelsFault } from '../adapters/onnx/models-check.js';
import { type ModelsConfig, modelsPlace } from '../config/models-place.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { hasSeedAlone } from '../update/seed.js';
import type { ReleaseTarget } from '../update/step-context.js';
import type { Hearing } from './hearing.js';

export interface ModelsTargetOptions {
  /** Of the station's slots. */
  readonly slots: string;
  readonly config: ModelsConfig & { readonly inference: Pick<Config['inference'], 'enabled'> };
  readonly hearing: Pick<Hearing, 'view' | 'modelsSlot' | 'restart'>;
  readonly clock: Clock;
}

/** ONNX Runtime takes seconds to load on a small board, and its supervisor waits between two starts. */
const READY_WITHIN_MS = 60_000;
const LOOK_EVERY_MS = 250;

/**
 * Models: the inference process reads those of the slot that is current when it starts, and it alone is started again; a call goes on.
 * Where the configuration has inference off, nobody runs them: what the reader can check of them is checked, and no more.
 */
export function modelsTarget({ slots, config, hearing, clock }: ModelsTargetOptions): ReleaseTarget {
  const { enabled } = config.inference;
  const isReady = () => !enabled || hearing.view.state === 'running';
  return {
    // None of its own: until then those are served that the configuration names.
    seed: async () => [],
    check: (slot, signal) => modelsFault(join(slots, 'models', slot), signal),
    running: async (onDisk) => {
      const loaded = enabled ? hearing.modelsSlot : onDisk.current;
      if (loaded === null) return hasSeedAlone(onDisk) ? onDisk.current : null;
      // Nobody is there: whoever comes reads what is current. A way back that waited for it would keep every other job waiting.
      return loaded ?? onDisk.current;
    },
    isReady: async () => isReady(),
    restart: async () => {
      try {
        if (enabled) hearing.restart();
      } catch (error) {
        // It is not there: its supervisor is about to start it anyway.
        if (!(error instanceof AppError) || error.code !== 'service-absent') throw error;
      }
    },
    prove: async (proof, signal) => {
      for (const until = clock.nowMs() + READY_WITHIN_MS; !isReady(); ) {
        if (clock.nowMs() >= until) return `inference did not become ready (it is ${hearing.view.state})`;
        await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
        signal.throwIfAborted();
      }
      return proof === 'inference-ready' && enabled ? servedFault() : null;
    },
    hasKept: async () => false,
    settle: async () => {},
  };

  /** Whether every model of the release is loaded. */
  function servedFault(): string | null {
    const { slot, cards } = modelsPlace(config);
    const { models, refused } = hearing.view;
    if (hearing.modelsSlot !== slot || cards === null) return 'inference does not serve the models of this release';
    const [first] = refused;
    if (first !== undefined) return `inference refuses ${first.card}: ${first.reason}`;
    return models.length === cards ? null : `inference serves ${models.length} of ${cards} models`;
  }
}
