import type { CardState } from '../audio/ports.js';
import { errorText } from '../core/errors.js';

/** What a measurement of the loop needs to know of both cards. */
export interface LoopCards {
  readonly microphone: CardState;
  readonly speaker: CardState;
  /** Of the speaker, since it was opened. */
  readonly speakerXruns: number;
  readonly starvedFrames: number;
}

/** A card's fault as it crosses the control socket. */
export function cardFault(state: CardState): { code: string; text: string } | null {
  return state.state === 'down' ? { code: state.fault.code, text: errorText(state.fault) } : null;
}
