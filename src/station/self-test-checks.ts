import type { LoopMeasurement, SelfTestCheck } from '../protocol/selftest.js';
import { LEAST_MOS, type TestCallOutcome } from './test-call.js';

type Check = SelfTestCheck;
type Figures = Check['figures'];

export function passed(name: Check['name'], reason: string, text: string, figures: Figures = {}): Check {
  return { name, outcome: 'pass', reason, text, remedy: null, figures };
}

export function failedCheck(
  name: Check['name'],
  reason: string,
  options: { readonly text: string; readonly remedy: string; readonly figures?: Figures },
): Check {
  return {
    name,
    outcome: 'fail',
    reason,
    text: options.text.slice(0, 500),
    remedy: options.remedy,
    figures: options.figures ?? {},
  };
}

export function skipped(name: Check['name'], reason: string, text: string): Check {
  return { name, outcome: 'skipped', reason, text, remedy: null, figures: {} };
}

/** Less of the signal, and nothing can be said of what was heard. */
const LEAST_TAKEN_PCT = 90;

/**
 * What a measurement says of loudspeaker and microphone. Where the cards' own facts tell which of them it is, so does the reason;
 * where only the air between them is silent, it says that.
 */
export function soundCheck(measured: LoopMeasurement): Check {
  const { verdict, microphone, speaker, backgroundDbfs } = measured;
  const figures: Figures = {
    levelDb: rounded(measured.levelDb),
    delayMs: rounded(measured.delayMs),
    distortionPct: rounded(measured.distortionPct),
    correlation: Math.round(measured.correlation * 100) / 100,
    backgroundDbfs: rounded(backgroundDbfs),
    clippedSamples: measured.clippedSamples,
    speakerXruns: speaker.xruns,
    speakerTakenPct: speaker.takenPct,
  };
  const fails = (reason: string, text: string, remedy: string) =>
    failedCheck('sound', reason, { text, remedy, figures });
  if (verdict === 'heard') {
    return passed('sound', 'heard', `the microphone hears the loudspeaker (${figures.levelDb} dB)`, figures);
  }
  if (microphone.state !== 'up' || microphone.frames === 0) {
    const why = microphone.fault?.text ?? 'it gives no sound';
    return fails(
      'microphone-down',
      `the microphone's card is down: ${why}`,
      'See whether it is plugged in: arecord -L lists cards',
    );
  }
  if (speaker.state !== 'up' || speaker.takenPct < LEAST_TAKEN_PCT) {
    const why = speaker.fault?.text ?? `it took ${speaker.takenPct} % of the signal`;
    return fails(
      'speaker-down',
      `the loudspeaker's card is down: ${why}`,
      'See whether it is plugged in: aplay -L lists cards',
    );
  }
  switch (verdict) {
    case 'not-heard':
      if (microphone.isDead) {
        return fails(
          'microphone-silent',
          'the microphone gives digital silence: not even the noise of its own amplifier',
          "See its wire, and its control in the card's mixer (alsamixer): it may be off",
        );
      }
      return fails(
        'not-heard',
        `nothing came from the loudspeaker to the microphone, which hears ${level(backgroundDbfs)}; both cards work. ` +
          'Mostly the loudspeaker, its amplifier or their wire; a microphone that hears its own noise alone looks the same',
        'Ring the station and listen at it: if the bell sounds, it is the microphone',
      );
    case 'too-quiet':
      return fails(
        'too-quiet',
        `the loudspeaker is heard with ${figures.levelDb} dB, less than it should be`,
        "See the card's mixer (alsamixer), and whether something covers the loudspeaker or the microphone",
      );
    case 'distorted':
      return fails(
        'distorted',
        `${figures.distortionPct} % of what is heard is not the signal`,
        'Lower the loudspeaker in the mixer; a torn membrane or a loose case sounds so too',
      );
    case 'clipped':
      return fails(
        'clipped',
        `the microphone is at the end of its scale (${measured.clippedSamples} samples)`,
        "Lower the microphone in the card's mixer (alsamixer)",
      );
  }
}

/** What a test call says of the way to other stations, and of both media processes. */
export function callCheck(outcome: TestCallOutcome): Check {
  const { reason, setUpMs, probe, figures: session } = outcome;
  const received = session?.received ?? 0;
  const lost = session?.lost ?? 0;
  const mos = session?.quality.mos.listening ?? null;
  const figures: Figures = {
    setUpMs: rounded(setUpMs),
    roundTripMs: rounded(probe.roundTripMs),
    networkRoundTripMs: rounded(session?.roundTripMs ?? null),
    lossPct: received + lost === 0 ? null : Math.round((1_000 * lost) / (received + lost)) / 10,
    mos: mos === null ? null : Math.round(mos * 100) / 100,
    correlation: Math.round(probe.correlation * 100) / 100,
    srtp: session?.srtp ?? null,
    path: session?.path ?? null,
  };
  const fails = (why: string, text: string, remedy: string) => failedCheck('call', why, { text, remedy, figures });
  switch (reason) {
    case 'heard':
      if (mos !== null && mos < LEAST_MOS) {
        return fails(
          'poor',
          `a test call was heard with a MOS of ${figures.mos}`,
          'See the network: entryphone status',
        );
      }
      return passed(
        'call',
        'heard',
        `a test call was heard ${session?.path === 'mqtt' ? 'inside MQTT, not by UDP' : 'by UDP'} (MOS ${figures.mos})`,
        figures,
      );
    case 'interrupted':
      return skipped('call', 'interrupted', 'somebody called, or pressed a button, in the middle of it');
    case 'busy':
      return skipped('call', 'echo-busy', 'other stations are calling the echo extension');
    case 'not-heard':
      return fails(
        'not-heard',
        `a test call was answered, but nothing of it came back (${received} packets did)`,
        'See whether UDP goes both ways between this station and the site host (rtp.ports); where it can not, media.path: auto ' +
          'and media.identity of both let calls go inside MQTT',
      );
    case 'unknown':
      return fails(
        'no-echo',
        'the site has no echo extension',
        'siteHost.echo of the site host and selftest.echo here name it',
      );
    case 'unreachable':
      return fails('unreachable', 'a test call was not answered', 'See whether the site host runs: entryphone status');
    case 'media-failed':
      return fails('media-failed', 'the media process could not hold a test call', 'See its log');
    default:
      return fails('call-failed', `a test call ended: ${reason.slice(0, 100)}`, "See the site host's log");
  }
}

function rounded(value: number | null): number | null {
  return value === null ? null : Math.round(value * 10) / 10;
}

function level(dbfs: number | null): string {
  return dbfs === null ? 'nothing at all' : `its surroundings (${Math.round(dbfs)} dB below full scale)`;
}
