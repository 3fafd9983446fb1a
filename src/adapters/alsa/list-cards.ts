import { native } from './native.js';

/** A device as a configuration names it, and what it can do. */
export interface CardListing {
  readonly device: string;
  readonly description: string;
  readonly capture: boolean;
  readonly playback: boolean;
}

/** The ALSA devices of this machine that its configuration shows (snd_device_name_hint). */
export function listCards(): CardListing[] {
  return native.listDevices().map((card) => ({ ...card, description: card.description.replaceAll('\n', ', ') }));
}
