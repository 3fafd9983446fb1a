import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';

/** Where sysfs keeps GPIO. */
export const gpioRoot = '/sys/class/gpio';

export interface GpioChip {
  /** Its label. */
  readonly chip: string;
  /** sysfs number of its first line: 0 on old kernels, from 512 on since 6.6. */
  readonly base: number;
  /** How many lines it has. */
  readonly lines: number;
}

/** A line as a board profile names it: the chip's label, the line counted from 0. */
export interface PinPlace {
  readonly chip: string;
  readonly line: number;
}

/**
 * Finds a chip by its label in gpiochip<base>/{label,base,ngpio}; chip numbers change from kernel to kernel, labels don't.
 * @throws AppError `chip-absent`, naming the labels that are there
 */
export function resolveChip(label: string, root = gpioRoot): GpioChip {
  const chips = allChips(root);
  const chip = chips.find((one) => one.chip === label);
  if (chip !== undefined) return chip;
  const there = chips.map((one) => one.chip).join(', ');
  throw new AppError(
    'chip-absent',
    `no GPIO chip with the label ${label}: ${there === '' ? `${root} shows none` : `there are ${there}`}`,
    {
      remedy: there === '' ? 'Run on a board with GPIO, or on the virtual board' : 'Set gpio.chip of the board profile',
    },
  );
}

/**
 * The sysfs number of a line.
 * @throws AppError `chip-absent`, or `line-absent` where the chip has fewer lines
 */
export function sysfsNumber(place: PinPlace, root = gpioRoot): number {
  const chip = resolveChip(place.chip, root);
  if (place.line < chip.lines) return chip.base + place.line;
  throw new AppError('line-absent', `${place.chip} has the lines 0 to ${chip.lines - 1}, not ${place.line}`, {
    remedy: 'Correct the line in the board profile',
  });
}

function allChips(root: string): GpioChip[] {
  let names: string[];
  try {
    names = readdirSync(root).filter((name) => name.startsWith('gpiochip'));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const read = (file: string) => readFileSync(join(root, name, file), 'utf8').trim();
    try {
      return [{ chip: read('label'), base: Number(read('base')), lines: Number(read('ngpio')) }];
    } catch {
      return []; // it went away while we looked
    }
  });
}
