import { join } from 'node:path';
import { DEFAULTS_FILE, type DefaultsInUse } from '../config/defaults.js';
import { checkDefaults } from '../config/load.js';
import { ConfigError } from '../config/yaml-file.js';
import type { Clock } from '../core/clock.js';
import { hasSeedAlone } from '../update/seed.js';
import type { ReleaseTarget } from '../update/step-context.js';
import type { UpdatedStation } from './updated-station.js';

export interface ConfigTargetOptions {
  /** Of the station's slots. */
  readonly slots: string;
  /** The station's own configuration, and what stood under it when this process loaded it. */
  readonly file: string;
  readonly defaults: DefaultsInUse | null;
  readonly clock: Clock;
}

/** A process that ends again and again for what it read is there between two starts. */
const STAYS_MS = 5_000;
const LOOK_EVERY_MS = 250;

/**
 * Configuration defaults: every process reads those of the slot that is current when it starts. A station that does not come up with
 * them goes back by itself (`update/config-start.ts`).
 */
export function configTarget(
  station: Pick<UpdatedStation, 'isReady' | 'restart' | 'prove'>,
  { slots, file, defaults, clock }: ConfigTargetOptions,
): ReleaseTarget {
  const staysReady = async (signal: AbortSignal): Promise<string | null> => {
    for (const until = clock.nowMs() + STAYS_MS; clock.nowMs() < until; ) {
      await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
      signal.throwIfAborted();
      if (!(await station.isReady())) return 'not all processes stayed up';
    }
    return null;
  };
  return {
    // Nothing stood under the station's own file.
    seed: async () => [{ path: DEFAULTS_FILE, bytes: Buffer.from('{}\n') }],
    check: async (slot) => {
      try {
        checkDefaults(join(slots, 'config', slot), file);
        return null;
      } catch (error) {
        if (error instanceof ConfigError) return reasonOf(error.faults);
        throw error;
      }
    },
    running: async (onDisk) => defaults?.slot ?? (hasSeedAlone(onDisk) ? onDisk.current : null),
    isReady: () => station.isReady(),
    restart: () => station.restart('everything'),
    prove: async (proof, signal) => {
      if (proof !== 'processes-ready') return station.prove(proof, signal);
      if (defaults?.isApplied === false) return reasonOf(defaults.faults);
      return (await station.prove(proof, signal)) ?? staysReady(signal);
    },
    hasKept: async () => false,
    settle: async () => {},
  };
}

/** Whatever the file is called here: a fleet manager knows the release. */
function reasonOf(faults: DefaultsInUse['faults']): string {
  const texts = faults.map(({ path, text }) => (path === '' ? text : `${path}: ${text}`));
  return `its defaults are refused: ${texts.join('; ')}`;
}
