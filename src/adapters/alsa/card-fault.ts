import { AppError } from '../../core/errors.js';

/** A card's fault, with what to do about it. `code`: `card-absent`, `card-busy`, `card-refused`, `card-format`, `card-lost`, `card-hung`. */
export function cardFault(what: 'microphone' | 'speaker', device: string, code: string, text: string): AppError {
  return new AppError(code, `${what} ${device}: ${text}`, { remedy: REMEDIES[code] ?? REMEDIES['card-lost'] ?? '' });
}

const REMEDIES: Readonly<Record<string, string>> = {
  'card-absent': 'Is it plugged in, and its name right? entryphone audio list shows the names. It is tried again',
  'card-busy': 'Another program holds it; end that. It is tried again',
  'card-refused': 'Put the user into the group audio. It is tried again',
  'card-format': 'Use a plughw: or default device, which convert. It is tried again',
  'card-lost': 'Is it still plugged in? It is tried again',
  'card-hung': 'It is tried again; if that does not help, unplug it',
};
