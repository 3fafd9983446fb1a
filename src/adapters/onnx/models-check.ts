import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CARD_ENDING } from '../../config/models-place.js';
import { errorText } from '../../core/errors.js';
import { L16_RATE_HZ } from '../../rtp/l16.js';
import { readModel } from './model-folder.js';

/** As many as the inference process tells of. */
const MOST_MODELS = 32;

/**
 * Looks through a folder of models without the runtime: each is as its card says, and of the contract. What shows only when a model is
 * loaded and asked (its operators, its shape) the inference process finds.
 * @returns what is wrong, in words; null where nothing is. Never throws
 */
export async function modelsFault(folder: string, signal?: AbortSignal): Promise<string | null> {
  const names = await readdir(folder).catch(() => []);
  const cards = names.filter((name) => name.endsWith(CARD_ENDING)).sort();
  if (cards.length === 0) return `it has no model: no card (*${CARD_ENDING}) stands in its root`;
  if (cards.length > MOST_MODELS) return `it has ${cards.length} models; at most ${MOST_MODELS}`;
  for (const card of cards) {
    signal?.throwIfAborted();
    try {
      await readModel(join(folder, card), L16_RATE_HZ);
    } catch (error) {
      return `${card}: ${error instanceof Error ? error.message : errorText(error)}`;
    }
  }
  return null;
}
