import { playbackModule } from './playback-module.js';

export interface CardListing {
  /** As a configuration names it. */
  readonly device: string;
  readonly description: string;
  readonly capture: boolean;
  readonly playback: boolean;
}

/** The ALSA devices that this machine's configuration names (snd_device_name_hint(3)). */
export function listCards(): CardListing[] {
  return playbackModule.listCards().map((card) => ({ ...card, description: card.description.replaceAll('\n', ', ') }));
}
