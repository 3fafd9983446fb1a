import { AppError } from '../../core/errors.js';

const REMEDIES: Readonly<Record<string, string>> = {
  'card-absent': 'Look at the cable and the device name (entryphone audio list); it is tried again',
  'card-busy': 'Another program holds it; it is tried again',
  'card-refused': 'The user that runs this must be in the group audio',
  'card-format': 'Put plughw: in the place of hw:, so that ALSA converts',
  'card-lost': 'Look at the cable; it is tried again',
  'card-hung': 'If it stays so, unplug it and plug it in again',
};

/** @param what `microphone` or `speaker` */
export function cardFault(what: string, device: string, code: string, text: string): AppError {
  const remedy = REMEDIES[code];
  return new AppError(code, `The ${what} ${device} can't be used: ${text}`, remedy === undefined ? {} : { remedy });
}
