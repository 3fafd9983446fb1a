import * as z from 'zod';

/**
 * A station's self-test: what it tries, and what it found. Each check passes, fails or was skipped, with a word for programs,
 * a sentence for people, and figures whose names carry their units.
 */
export const SELF_TEST_CHECKS = ['broker', 'relay', 'sound', 'call'] as const;
export type SelfTestName = (typeof SELF_TEST_CHECKS)[number];

const count = z.int().min(0);
const cardState = z.enum(['closed', 'up', 'down']);
const fault = z.object({ code: z.string(), text: z.string() }).nullable();

/** What the microphone heard of the test signal, as the media process measured it. */
export const loopMeasurement = z.object({
  verdict: z.enum(['heard', 'not-heard', 'too-quiet', 'distorted', 'clipped']),
  /** Of the sweep with what was heard where it fits best, 0 to 1; 0 where nothing was recorded. */
  correlation: z.number(),
  /** What came back against what was played, dB; null while it is not heard. */
  levelDb: z.number().nullable(),
  /** From the frame that was given to the speaker until the microphone gave it back: both cards, and the air between them. */
  delayMs: z.number().nullable(),
  /** Of the tone: harmonics and what else was not there before, against the tone (THD+N, IEC 60268-3), in percent. */
  distortionPct: z.number().nullable(),
  /** Samples at the end of the scale. */
  clippedSamples: count,
  /** Before the signal; null where there was digital silence, or nothing. */
  backgroundDbfs: z.number().nullable(),
  signalDbfs: z.number(),
  microphone: z.object({
    state: cardState,
    fault,
    /** Of 10 ms. */
    frames: count,
    /** Every sample had the same value: digital silence, which no microphone gives that hears. */
    isDead: z.boolean(),
  }),
  speaker: z.object({
    state: cardState,
    fault,
    /** Of the signal's frames, how many the card took. */
    takenPct: z.number(),
    /** Since the measurement began. */
    xruns: count,
    starvedFrames: count,
  }),
});
export type LoopMeasurement = z.infer<typeof loopMeasurement>;

/** What a session that probes has heard of its own signal. */
export const probeResult = z.object({
  /** How the session is heard now (E-model, listening), 1 to 4.5; null while nothing can be said. */
  mos: z.number().nullable(),
  correlation: z.number(),
  /** From the frame that was sent until it came back, decoded; null while nothing has. */
  roundTripMs: z.number().nullable(),
  levelDb: z.number().nullable(),
});
export type ProbeResult = z.infer<typeof probeResult>;

export const selfTestCheck = z.object({
  name: z.enum(SELF_TEST_CHECKS),
  outcome: z.enum(['pass', 'fail', 'skipped']),
  /** `heard`, `not-heard`, `relay-stuck`, `broker-unreachable`, …; `interrupted` and `not-allowed` where it was skipped. */
  reason: z.string().max(64),
  text: z.string().max(500),
  /** What to do next; null where there is nothing to be done. */
  remedy: z.string().max(500).nullable(),
  figures: z.record(z.string(), z.union([z.number(), z.string(), z.boolean(), z.null()])),
});
export type SelfTestCheck = z.infer<typeof selfTestCheck>;

export const selfTestResult = z.object({
  /** Every check passed or may be skipped, see `judge`. */
  ok: z.boolean(),
  verdict: z.enum(['pass', 'fail', 'undecided']),
  /** `name: reason` of each that failed, or was needed and not tried. */
  failed: z.array(z.string()),
  checks: z.array(selfTestCheck),
  /** Who asked: `local`, `flows`, `schedule`, `update`. */
  by: z.string().max(32),
  /** When it began: milliseconds since 1970. */
  at: z.number(),
  durationMs: z.number(),
});
export type SelfTestResult = z.infer<typeof selfTestResult>;

/** What no station is well without. A relay has a contact sensor on few boards, and a pulse opens a door. */
export const NEEDED_CHECKS: readonly SelfTestName[] = ['broker', 'sound', 'call'];

/**
 * Whether a station is well, by its checks: `fail` as soon as one failed; `undecided` where a needed one was not tried (a visitor
 * called in the middle of it): to be tried again; else `pass`. Pure: an update is confirmed by the same rule.
 */
export function judge(
  checks: readonly SelfTestCheck[],
  needed: readonly SelfTestName[] = NEEDED_CHECKS,
): Pick<SelfTestResult, 'ok' | 'verdict' | 'failed'> {
  const failed = checks.filter(({ outcome }) => outcome === 'fail');
  const passed = new Set(checks.filter(({ outcome }) => outcome === 'pass').map(({ name }) => name));
  const hasFailed = new Set(failed.map(({ name }) => name));
  const untried = needed.filter((name) => !passed.has(name) && !hasFailed.has(name));
  const whyNot = (name: SelfTestName) => checks.find((check) => check.name === name)?.reason ?? 'not-tried';
  const verdict = failed.length > 0 ? 'fail' : untried.length > 0 ? 'undecided' : 'pass';
  return {
    ok: verdict === 'pass',
    verdict,
    failed: [
      ...failed.map(({ name, reason }) => `${name}: ${reason}`),
      ...untried.map((name) => `${name}: ${whyNot(name)}`),
    ],
  };
}
