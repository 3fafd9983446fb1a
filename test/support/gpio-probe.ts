/** A program on a virtual board: the buttons, the relay and the light of a board profile, told and telling over IPC. */
import { Buttons } from '../../src/adapters/gpio/button.js';
import { Contact } from '../../src/adapters/gpio/contact.js';
import { Led } from '../../src/adapters/gpio/led.js';
import { DoorRelay } from '../../src/adapters/gpio/relay.js';
import type { Board } from '../../src/config/schema.js';
import { systemClock } from '../../src/core/clock.js';
import { AppError } from '../../src/core/errors.js';
import { silentLogger } from '../../src/core/logger.js';

export type ProbeOrder =
  | { do: 'pulse'; pulseMs: number }
  | { do: 'light'; on: boolean }
  | { do: 'faults' }
  | { do: 'contact' }
  | { do: 'stall'; forMs: number }
  | { do: 'close' };
export type ProbeEvent =
  | { event: 'ready' }
  | { event: 'pressed'; button: string }
  | { event: 'door'; open: boolean }
  | { event: 'refused'; code: string }
  | { event: 'stalls' }
  | { event: 'contact'; closed: boolean | null; fault: string | null }
  | { event: 'faults'; bell: string | null; relay: string | null };

const board = JSON.parse(process.argv[2] ?? '') as Board;
const tell = (event: ProbeEvent): void => {
  process.send?.(event);
};
const { chip, relay: relayProfile, contact: sensor, leds } = board.gpio;
const common = { clock: systemClock, logger: silentLogger };
const buttons = new Buttons({ ...common, board, onPress: (button) => tell({ event: 'pressed', button }) });
const relay = new DoorRelay({
  ...common,
  place: { chip, line: relayProfile?.line ?? 0 },
  safe: relayProfile?.safe ?? 'low',
  onChange: (open) => tell({ event: 'door', open }),
});
const contact =
  sensor === undefined ? null : new Contact({ ...common, place: { chip, line: sensor.line }, closed: sensor.closed });
const led = new Led({ ...common, name: 'call', place: { chip, line: leds.call?.line ?? 0 }, lit: 'high' });

process.on('message', (order: ProbeOrder) => {
  if (order.do === 'light') led.set(order.on);
  if (order.do === 'faults') {
    tell({ event: 'faults', bell: buttons.faultOf('bell')?.code ?? null, relay: relay.fault?.code ?? null });
  }
  if (order.do === 'contact') {
    tell({ event: 'contact', closed: contact?.closed ?? null, fault: contact?.fault?.code ?? null });
  }
  if (order.do === 'pulse') {
    try {
      relay.pulse(order.pulseMs);
    } catch (error) {
      tell({ event: 'refused', code: error instanceof AppError ? error.code : String(error) });
    }
  }
  if (order.do === 'stall') {
    // Told first: the message leaves only when the loop turns.
    tell({ event: 'stalls' });
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, order.forMs));
  }
  if (order.do === 'close') {
    buttons.close();
    relay.close();
    contact?.close();
    led.close();
    process.disconnect();
  }
});
tell({ event: 'ready' });
