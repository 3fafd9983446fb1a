import { currentRelease } from './release-slot.js';
import type { Config } from './schema.js';

/** Of a model's card, which is beside it. */
export const CARD_ENDING = '.card.yaml';

export interface ModelsConfig {
  readonly update: Pick<Config['update'], 'slots'>;
  readonly inference: Pick<Config['inference'], 'models'>;
}

export interface ModelsPlace {
  /** Absolute. */
  readonly folder: string;
  /** The slot that is current; null where no release of models was installed. */
  readonly slot: 'a' | 'b' | null;
  /** Of a release: how many models it has; null where they are the configuration's. */
  readonly cards: number | null;
}

/** Where the models of this station are: those of a release where one is installed and whole, else those that its configuration names. */
export function modelsPlace({ update, inference }: ModelsConfig): ModelsPlace {
  const found = update.slots === undefined ? null : currentRelease(update.slots, 'models');
  const names = [...(found?.release?.files.keys() ?? [])];
  const cards = names.filter((name) => name.endsWith(CARD_ENDING) && !name.includes('/')).length;
  // What a station had before its first release of models is a release without any.
  if (found === null || cards === 0) return { folder: inference.models, slot: found?.slot ?? null, cards: null };
  return { folder: found.folder, slot: found.slot, cards };
}
