import { AppError } from '../core/errors.js';
import type { SlotName } from '../fleet/slots.js';
import type { ReleaseTarget } from '../update/step-context.js';
import type { UpdatedStation } from './updated-station.js';

/**
 * The firmware: all processes of the station are of it, and are started from its slot by the launcher.
 * @param slot that this process was started from
 */
export function firmwareTarget(station: UpdatedStation, slot: SlotName): ReleaseTarget {
  return {
    seed: () => Promise.reject(new AppError('slot-not-whole', 'the slot that runs holds no release')),
    // The programs are checked by being run.
    check: async () => null,
    running: async () => slot,
    isReady: () => station.isReady(),
    restart: () => station.restart('everything'),
    prove: (proof, signal) => station.prove(proof, signal),
    hasKept: async () => false,
    settle: async () => {},
  };
}
