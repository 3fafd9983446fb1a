import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../../core/errors.js';
import { gpioRoot, sysfsNumber } from './chip.js';
import { pinError } from './pin-error.js';

/** The part of a board profile that this needs. */
export interface RelayBoard {
  readonly gpio: { readonly chip: string; readonly relay?: { readonly line: number; readonly safe: 'high' | 'low' } };
}

/** udev takes its time to give a fresh export to the group gpio. */
const PERMISSION_TIMEOUT_MS = 1_000;

/**
 * Drives the door relay to its safe level, whoever exported the line and however they ended. Uses files alone, so that it
 * starts fast and works where the rest doesn't.
 * @returns what was done, in words
 * @throws AppError `chip-absent`, `line-absent`, `pin-taken`, `pin-failed`, or `relay-not-safe` where the pin shows otherwise
 */
export async function relaySafe(board: RelayBoard, root = gpioRoot): Promise<string> {
  const { chip, relay } = board.gpio;
  if (relay === undefined) return 'the board has no door relay';
  const place = { chip, line: relay.line };
  const folder = join(root, `gpio${sysfsNumber(place, root)}`);
  const name = `line ${relay.line} of ${chip}`;
  try {
    const fresh = exportLine(folder, root);
    await setLevel(folder, relay.safe, fresh ? PERMISSION_TIMEOUT_MS : 0);
    if (rawLevel(folder) !== relay.safe) {
      throw new AppError('relay-not-safe', `${name} was set ${relay.safe}, but the pin shows otherwise`, {
        remedy: 'Check the wiring of the relay for a short',
      });
    }
  } catch (error) {
    throw pinError(place, error);
  }
  return `${name} is ${relay.safe}: the door is shut`;
}

/** Whether it had to be exported. @throws EBUSY where a kernel driver holds the line */
function exportLine(folder: string, root: string): boolean {
  if (existsSync(folder)) return false;
  try {
    writeFileSync(join(root, 'export'), folder.slice(join(root, 'gpio').length));
    return true;
  } catch (error) {
    if (existsSync(folder)) return false; // another was faster
    throw error;
  }
}

/** By `direction`, which sets direction and level at once, without an instant at the other level. */
async function setLevel(folder: string, level: 'high' | 'low', patienceMs: number): Promise<void> {
  const untilMs = performance.now() + patienceMs;
  for (;;) {
    try {
      writeFileSync(join(folder, 'direction'), level);
      return;
    } catch (error) {
      if (performance.now() >= untilMs) throw error;
      await delay(10);
    }
  }
}

function rawLevel(folder: string): 'high' | 'low' {
  const read = (file: string) => readFileSync(join(folder, file), 'utf8').trim() === '1';
  return read('value') !== read('active_low') ? 'high' : 'low';
}
