import { Buttons } from '../adapters/gpio/button.js';
import { resolveChip } from '../adapters/gpio/chip.js';
import { Contact as ContactPin } from '../adapters/gpio/contact.js';
import { Led } from '../adapters/gpio/led.js';
import { DoorRelay } from '../adapters/gpio/relay.js';
import type { Board } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import type { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';

/** What the station does with a board's pins; tests hand in a board of their own. */
export interface Pins {
  readonly relay: Relay | undefined;
  /** What moves with the relay. */
  readonly contact: Contact | undefined;
  /** By their names in the board profile. */
  readonly leds: Readonly<Record<string, Light>>;
  buttonFault(name: string): AppError | null;
  /** Which driver and chip, as resolved now; null while the chip is absent. */
  place(): { driver: string; chip: string; base: number } | null;
  /** Door shut, lights out, lines given back. */
  close(): void;
}

export interface Relay {
  readonly open: boolean;
  /** @throws AppError the line's fault; nothing was opened then */
  pulse(pulseMs: number): void;
  /** Shuts the door now. */
  safe(): void;
  close(): void;
}

export interface Contact {
  /** null while its line can't be read; `fault` says why. */
  readonly closed: boolean | null;
  readonly fault: AppError | null;
}

export interface Light {
  readonly lit: boolean;
  set(on: boolean): void;
  close(): void;
}

export interface PinsOptions {
  readonly board: Board;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onPress: (button: string) => void;
  readonly onRelease: (button: string) => void;
  readonly onDoor: (open: boolean) => void;
}
export type OpenPins = (options: PinsOptions) => Pins;

/** The pins of the board profile, on onoff. A line that can't be had says so and is tried again; the rest works. */
export const openBoardPins: OpenPins = ({ board, clock, logger, onPress, onRelease, onDoor }) => {
  const { chip, relay: lock, contact: sensor, leds } = board.gpio;
  const common = { clock, logger };
  // The relay first: from here on its level is ours.
  const relay =
    lock === undefined
      ? undefined
      : new DoorRelay({ ...common, place: { chip, line: lock.line }, safe: lock.safe, onChange: onDoor });
  const contact =
    sensor === undefined
      ? undefined
      : new ContactPin({ ...common, place: { chip, line: sensor.line }, closed: sensor.closed });
  const lights: Pins['leds'] = Object.fromEntries(
    Object.entries(leds).map(([name, { line, lit }]) => [
      name,
      new Led({ ...common, name, place: { chip, line }, lit }),
    ]),
  );
  const buttons = new Buttons({ ...common, board, onPress, onRelease });
  return {
    relay,
    contact,
    leds: lights,
    buttonFault: (name) => buttons.faultOf(name),
    place: () => {
      try {
        return { driver: 'onoff', chip, base: resolveChip(chip).base };
      } catch {
        return null;
      }
    },
    close: () => {
      relay?.close();
      contact?.close();
      buttons.close();
      for (const one of Object.values(lights)) one.close();
    },
  };
};
