import type { Call } from '../call/call.js';
import type { Timer } from '../core/clock.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import type { CallView } from '../protocol/station-api.js';
import type { CallMedia } from './call-media.js';

/** A call of this station with what is its own. */
export interface Line {
  call: Call;
  readonly media: CallMedia;
  timer: Timer | undefined;
  /** When the state was entered: milliseconds since 1970. */
  sinceMs: number;
  /** Whether the peer has spoken; until then it is called what this side dialled. */
  isPeerKnown: boolean;
  figures: Promise<SessionFigures | null>;
}

export function viewOf({ call, sinceMs }: Line): CallView {
  const { callId, state, direction, peer, peerName, reason } = call;
  return { callId, state, direction, peer, peerName, sinceMs, reason };
}
