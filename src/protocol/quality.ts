import * as z from 'zod';

/** How speech is heard, and what is done about it: of one session, as it crosses the control sockets, MQTT and the metrics. */
const mos = z.number().min(1).max(5);
const count = z.int().min(0);
const pct = z.number().min(0).max(100);

/** Mean opinion scores by the E-model (ITU-T G.107.1, G.107): who listens, and who converses, to whom delay matters. */
export const mosFigures = z.object({
  /** What is heard here, over the last seconds; null before anything was. */
  listening: mos.nullable(),
  conversational: mos.nullable(),
  /** What the far end says of ours (RFC 3611, 4.7.5); null until it does. */
  remoteListening: mos.nullable(),
  remoteConversational: mos.nullable(),
});

/** What was sent from `atMs` on, counted from the session's opening, and why. */
export const ladderStep = z.object({
  atMs: z.number(),
  reason: z.enum(['start', 'loss', 'bursts', 'quiet', 'delay-rising', 'probe', 'limits', 'slow', 'xruns']),
  bitrateBps: count,
  /** The loss that in-band FEC is armed for, in %; 0 is none. */
  fecForPct: pct,
  /** Which earlier packets each carries again (RFC 2198); none is none. */
  redDistances: z.array(count),
  packetTimeMs: z.number(),
  complexity: z.int(),
  /** As it was estimated then. */
  lossPct: pct,
  meanRunPackets: z.number(),
  /** Nothing that can be sent helps on this path. */
  wantsOtherPath: z.boolean(),
});
export type LadderStepFigures = z.infer<typeof ladderStep>;

export const qualityFigures = z.object({
  mos: mosFigures,
  /** Of the time that was played: what had to be concealed, since the start. */
  concealedPct: pct,
  /** Packets that came as copies in others (RFC 2198) and were played. */
  redRecovered: count,
  /** Of the far end's packets: runs that were lost one after another, and bursts (RFC 3611, 4.7.2). */
  lossRuns: z.object({
    runs: count,
    meanPackets: z.number(),
    longestPackets: count,
    bursts: count,
    burstDensityPct: pct,
    gapDensityPct: pct,
  }),
  /** What we send: the last steps, the newest last. */
  ladder: z.array(ladderStep),
});
export type QualityFigures = z.infer<typeof qualityFigures>;
