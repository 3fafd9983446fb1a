import type { SessionFigures } from '../protocol/engine-api.js';
import type { LadderStepFigures } from '../protocol/quality.js';
import type { Watches } from './scenario.js';
import type { StationId } from './site-config.js';

/** How a call was heard, and what the stations did about the network. */
export interface CallQuality {
  /** Of the time that both speakers played, in %. */
  readonly concealedPct: number;
  /** What each station sent, from when on, and why. */
  readonly ladder: Readonly<Record<StationId, readonly LadderStepFigures[]>>;
  /** By the E-model, a mean over the call's seconds: of what each station heard. */
  readonly mos: Readonly<Record<StationId, { readonly listening: number; readonly conversational: number } | null>>;
}

/** @param since on the monotonic clock: when the stations began to hear each other */
export function callQuality(
  watches: Watches,
  figures: Readonly<Record<StationId, SessionFigures>>,
  since: number,
): CallQuality {
  const mosOf = (id: StationId) => {
    const told = watches[id].allTold('quality.report', since).map(({ params }) => params.quality.mos);
    const heard = told.filter(({ listening }) => listening !== null);
    if (heard.length === 0) return null;
    const mean = (of: (mos: (typeof heard)[number]) => number | null) =>
      heard.reduce((sum, mos) => sum + (of(mos) ?? 0), 0) / heard.length;
    return { listening: mean((mos) => mos.listening), conversational: mean((mos) => mos.conversational) };
  };
  const { door, indoor } = figures;
  return {
    concealedPct: (door.quality.concealedPct + indoor.quality.concealedPct) / 2,
    ladder: { door: door.quality.ladder, indoor: indoor.quality.ladder },
    mos: { door: mosOf('door'), indoor: mosOf('indoor') },
  };
}
