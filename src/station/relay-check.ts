import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { SelfTestCheck } from '../protocol/selftest.js';
import type { Contact, Relay } from './pins.js';
import { failedCheck, passed, skipped } from './self-test-checks.js';

/** A contact moves within milliseconds, the bolt of a lock within some hundreds. */
const SETTLE_MS = 500;
const LOOK_EVERY_MS = 5;

export interface RelayCheckOptions {
  readonly relay: Relay | undefined;
  readonly contact: Contact | undefined;
  /** The configuration's word; a pulse opens the lock for that moment. */
  readonly isAllowed: boolean;
  readonly pulseMs: number;
  /** Somebody needs the door, or is at it: nothing is pulsed. */
  readonly isInterrupted: () => boolean;
  /** Right before the pulse. */
  readonly onPulse: () => void;
  readonly clock: Clock;
}

/** Pulses the relay where a contact shows that it moves, and where that is allowed. */
export async function checkRelay(options: RelayCheckOptions): Promise<SelfTestCheck> {
  const { relay, contact, isAllowed, pulseMs, isInterrupted, onPulse, clock } = options;
  if (relay === undefined) return skipped('relay', 'no-relay', 'the board has no relay');
  if (contact === undefined)
    return skipped('relay', 'no-contact', 'no contact is wired that would show it (gpio.contact)');
  if (!isAllowed) return skipped('relay', 'not-allowed', 'a pulse opens the lock for a moment (selftest.relay: false)');
  if (isInterrupted() || relay.open) return skipped('relay', 'interrupted', 'the door is in use');
  const rest = contact.closed;
  if (rest === null) {
    const why = contact.fault === null ? 'its line gives nothing' : errorText(contact.fault);
    return failedCheck('relay', 'contact-missing', {
      text: `the contact can't be read: ${why}`,
      remedy: "See gpio.contact of the board profile, and the contact's wire",
    });
  }
  const startedMs = clock.nowMs();
  onPulse();
  try {
    relay.pulse(pulseMs);
  } catch (error) {
    return failedCheck('relay', 'relay-failed', {
      text: `the relay's line can't be driven: ${errorText(error)}`,
      remedy: 'See gpio.relay of the board profile',
    });
  }
  const is = (wanted: boolean, withinMs: number) => seen(clock, () => contact.closed === wanted, withinMs);
  const movedMs = await is(!rest, pulseMs + SETTLE_MS);
  if (movedMs === null) {
    return failedCheck('relay', 'relay-stuck', {
      text: `the relay was pulsed for ${pulseMs} ms, and its contact did not move`,
      remedy: "See the relay, its supply, and the contact's wire",
      figures: { pulseMs, movedMs: null, backMs: null },
    });
  }
  const leftMs = Math.max(0, startedMs + pulseMs - clock.nowMs());
  const isBack = (await is(rest, leftMs + SETTLE_MS)) !== null;
  const backMs = isBack ? Math.round(clock.nowMs() - startedMs - pulseMs) : null;
  const figures = { pulseMs, movedMs: Math.round(movedMs), backMs };
  if (isBack) return passed('relay', 'moved', 'the relay moves its contact, there and back', figures);
  return failedCheck('relay', 'relay-held', {
    text: 'the contact moved with the relay, and did not come back: the door may be open',
    remedy: 'Look at the door now, then at the relay: its contacts may be welded',
    figures,
  });
}

/** @returns after how many ms, or null */
async function seen(clock: Clock, holds: () => boolean, withinMs: number): Promise<number | null> {
  const startedMs = clock.nowMs();
  for (;;) {
    if (holds()) return clock.nowMs() - startedMs;
    if (clock.nowMs() - startedMs >= withinMs) return null;
    await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
  }
}
