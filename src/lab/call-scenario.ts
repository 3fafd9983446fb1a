import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { seededRandom } from '../core/seeded-random.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import { quantile, windowDelays } from './alignment.js';
import { type CallQuality, callQuality } from './call-quality.js';
import { ImpairedNetwork, type Line } from './impaired-network.js';
import {
  attempt,
  doorWiring,
  FIRST_RTP_PORT,
  inTime,
  type ScenarioContext,
  sleep,
  startScenarioSite,
  type Via,
  type Watches,
  watchBoth,
} from './scenario.js';
import { similarity } from './similarity.js';
import type { Site } from './site.js';
import { STATIONS, type StationId } from './site-config.js';
import { buttonLine } from './site-control.js';
import { type FlowsStatus, flowsAre, flowsStatus } from './site-flows.js';
import { DeviceRecorder, feedRecording, type Heard, type SampleTimes } from './sound-device.js';
import { LAB_RATE_HZ, type LabSpeech, labSpeech } from './speech.js';

/** One direction of the conversation, from one station's microphone to the other's speaker. */
export interface SpeechResult {
  /** Of what was fed to what was heard; see `similarity`. */
  readonly similarity: number;
  /**
   * How alike it would call what is not the speech: silence and speech-shaped noise in its place; and, against what was
   * heard, a recording that nobody fed.
   */
  readonly controls: { readonly silence: number; readonly noise: number; readonly otherRecording: number };
  /** From the feed device of one station to the loop device of the other, over windows of 400 ms with speech; NaN for none. */
  readonly mouthToEarMs: { readonly p50: number; readonly p95: number };
}

export interface CallResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /**
   * From the press at the door's pin until the first packet of the door's speech left the indoor speaker, less the time
   * from ringing indoors to the answer there, which is a person's.
   */
  readonly setupMs: number | null;
  readonly doorToIndoor: SpeechResult | null;
  readonly indoorToDoor: SpeechResult | null;
  /** Of both stations together. */
  readonly rtp: { sent: number; received: number; lost: number; late: number; concealed: number } | null;
  /** How long the relay's pin was at its open level. */
  readonly doorPulseMs: number | null;
  readonly doorPulseConfiguredMs: number;
  /** The real parts that ran. */
  readonly engine: {
    captureDevice: string;
    playbackDevice: string;
    encoder: string;
    decoder: string;
    broker: string;
    gpio: string;
    /** The suite that speech is encrypted with. */
    srtp: string;
  } | null;
  /** How it was heard, and what was done about it. */
  readonly concealedPct: number | null;
  readonly ladder: CallQuality['ladder'] | null;
  readonly mos: CallQuality['mos'] | null;
  /** What the network did to the datagrams of both stations; only where one was put between them. */
  readonly network?: { readonly carried: number; readonly lost: number };
}

const LEAST_SIMILARITY = 0.9;
/** Over a network that loses and delays. */
const LEAST_SIMILARITY_IMPAIRED = 0.8;
const SECONDS = 10;
/** Long enough that the first seconds, before the stations know of the loss, are what they are in a call: a small part. */
const SECONDS_IMPAIRED = 20;
const MOST_CONTROL = 0.5;
/** Packets of each direction: a second of speech. */
const LEAST_FORWARDED = 50;
const PULSE_TOLERANCE = 0.2;
/** From `running` until the nodes have their connections. */
const FLOWS_SETTLE_MS = 1_500;
/** A bell is heard when the indoor speaker plays something above -50 dB full scale. */
const AUDIBLE = 32_768 * 10 ** (-50 / 20);

/**
 * A visitor's call, all of it on real parts: press, bell, answer, `seconds` of speech both ways at once, the door, hang up.
 * Whatever fails is named in `failed`; nothing is thrown but what keeps the site from starting.
 */
export async function runCallScenario(
  context: ScenarioContext & {
    readonly seconds?: number;
    readonly site?: Site;
    readonly flows?: boolean;
    readonly via?: Via;
    /** What is between the stations; needs a network namespace of the process's own. */
    readonly line?: Line | undefined;
  },
): Promise<CallResult> {
  const { flows: withFlows = false, via = 'direct', line } = context;
  const { seconds = line === undefined ? SECONDS : SECONDS_IMPAIRED } = context;
  const network =
    line === undefined ? undefined : await ImpairedNetwork.start(line, ImpairedNetwork.firstPorts(FIRST_RTP_PORT));
  try {
    const result = await holdCall({ ...context, seconds, flows: withFlows, via, isImpaired: network !== undefined });
    if (network === undefined) return result;
    const [carried, lost] = [network.count('received'), network.count('lost')];
    const failed = carried > 0 ? result.failed : [...result.failed, 'nothing passed the network between the stations'];
    return { ...result, ok: failed.length === 0, failed, network: { carried, lost } };
  } finally {
    await network?.stop();
  }
}

interface Conditions extends ScenarioContext {
  readonly seconds: number;
  readonly site?: Site;
  readonly flows: boolean;
  readonly via: Via;
  readonly isImpaired: boolean;
}

async function holdCall(context: Conditions): Promise<CallResult> {
  const { seconds, flows: withFlows, via } = context;
  const speech = await labSpeech(seconds);
  const site = context.site ?? (await startScenarioSite(context, { flows: withFlows, via }));
  try {
    const watches = await watchBoth(site);
    try {
      if (withFlows) await flowsTakePresses(watches);
      const result = await converse(context, site, watches, speech);
      if (!withFlows) return result;
      const failed = [...result.failed, ...(await pressesNotTaken(watches))];
      return { ...result, ok: failed.length === 0, failed };
    } finally {
      watches.door.close();
      watches.indoor.close();
    }
  } finally {
    if (context.site === undefined) await site.stop();
  }
}

/** Each press of the call went through flows: the bell and nothing else at the door; answer, door and hanging up indoors. */
const PRESSES: Readonly<Record<StationId, number>> = { door: 1, indoor: 3 };

async function flowsTakePresses(watches: Watches): Promise<void> {
  const running = { withinMs: 30_000, fits: ({ state }: FlowsStatus) => state === 'running', text: 'running' };
  await Promise.all(STATIONS.map((id) => flowsAre(watches, id, running)));
  await sleep(FLOWS_SETTLE_MS);
}

/** @returns what was not done by flows */
async function pressesNotTaken(watches: Watches): Promise<string[]> {
  const faults = await Promise.all(
    STATIONS.map(async (id) => {
      const { acknowledged = 0, ...others } = (await flowsStatus(watches, id)).presses;
      const isOurs = acknowledged === PRESSES[id] && Object.values(others).every((count) => count === 0);
      return isOurs
        ? []
        : [`flows of ${id} took ${acknowledged} of ${PRESSES[id]} presses (${JSON.stringify(others)})`];
    }),
  );
  return faults.flat();
}

async function converse(context: Conditions, site: Site, watches: Watches, speech: LabSpeech): Promise<CallResult> {
  const { log, seconds } = context;
  const failed: string[] = [];
  const listen = (station: StationId) =>
    DeviceRecorder.start({ ...deviceOptions(site, site.sound.devices(station).loop), mostSeconds: seconds + 60 });
  const [atDoor, atIndoor] = await Promise.all([listen('door'), listen('indoor')]);

  log('a press at the door');
  const setupMs = await attempt(failed, 'set-up', () => setUp(site, watches, atIndoor, failed));
  const engine = await attempt(failed, 'status', () => partsOf(watches));
  const talkingSince = systemClock.nowMs();
  log(`talking for ${seconds} s, both ways at once`);
  const feed = (station: StationId, samples: Int16Array) =>
    feedRecording({ ...deviceOptions(site, site.sound.devices(station).feed), samples });
  const fed = await attempt(failed, 'speech', () =>
    Promise.all([feed('door', speech.human), feed('indoor', speech.made)]),
  );
  await sleep(500);
  log('the door');
  const doorPulseMs = await attempt(failed, 'door', () => openDoor(site));
  log('hanging up');
  const figures = await attempt(failed, 'hang-up', () => hangUp(site, watches, context.via));
  const quality = figures === undefined ? null : callQuality(watches, figures, talkingSince);
  const [heardAtDoor, heardAtIndoor] = await Promise.all([atDoor.stop(), atIndoor.stop()]);

  log('comparing what was heard with what was said');
  const [doorFed, indoorFed] = fed ?? [];
  const doorToIndoor = doorFed === undefined ? null : judge(speech.human, speech.other, doorFed, heardAtIndoor);
  const indoorToDoor = indoorFed === undefined ? null : judge(speech.made, speech.other, indoorFed, heardAtDoor);
  const least = context.isImpaired ? LEAST_SIMILARITY_IMPAIRED : LEAST_SIMILARITY;
  failed.push(
    ...speechFaults('doorToIndoor', doorToIndoor, least),
    ...speechFaults('indoorToDoor', indoorToDoor, least),
  );
  const doorPulseConfiguredMs = site.plan.pulseMs;
  if (
    doorPulseMs !== undefined &&
    Math.abs(doorPulseMs - doorPulseConfiguredMs) > PULSE_TOLERANCE * doorPulseConfiguredMs
  ) {
    failed.push(`the door's pulse took ${Math.round(doorPulseMs)} ms, not about ${doorPulseConfiguredMs}`);
  }
  return {
    ok: failed.length === 0,
    failed,
    setupMs: setupMs ?? null,
    doorToIndoor,
    indoorToDoor,
    rtp: figures === undefined ? null : totals(figures),
    doorPulseMs: doorPulseMs ?? null,
    doorPulseConfiguredMs,
    engine: engine ?? null,
    concealedPct: quality?.concealedPct ?? null,
    ladder: quality?.ladder ?? null,
    mos: quality?.mos ?? null,
  };
}

function deviceOptions(site: Site, device: string) {
  return { device, rateHz: LAB_RATE_HZ, clock: systemClock, env: site.sound.env };
}

async function setUp(site: Site, watches: Watches, atIndoor: DeviceRecorder, failed: string[]): Promise<number> {
  const since = systemClock.nowMs();
  const pressed = inTime(site.boards.door.reached(buttonLine(site, 'door', 'bell'), 1), 5_000, 'the press');
  const bell = heardSoon(atIndoor, 4_000);
  let ringingAtMs = 0;
  let answeredAtMs = 0;
  const answer = async () => {
    ringingAtMs = (await watches.indoor.callIs('ringing-in', since)).atMs;
    if (!(await bell)) failed.push('the bell was not heard indoors');
    answeredAtMs = systemClock.nowMs();
    await site.boards.indoor.press(buttonLine(site, 'indoor', 'bell'));
  };
  const [pressedAtMs] = await Promise.all([
    pressed,
    site.boards.door.press(buttonLine(site, 'door', 'bell')),
    answer(),
  ]);
  const heard = (station: StationId) => watches[station].told('session.heard', { since: ringingAtMs, withinMs: 5_000 });
  const [{ atMs }] = await Promise.all([heard('indoor'), heard('door')]);
  const { engine } = await watches.indoor.client.call('station.status', {});
  return atMs + (engine?.playback.delayMs ?? 0) - pressedAtMs - (answeredAtMs - ringingAtMs);
}

/** Whether the device plays anything audible from now on within `withinMs`. */
async function heardSoon(recorder: DeviceRecorder, withinMs: number): Promise<boolean> {
  let looked = recorder.soFar().length;
  for (let waitedMs = 0; waitedMs < withinMs; waitedMs += 50) {
    await sleep(50);
    const samples = recorder.soFar();
    if (samples.subarray(looked).some((sample) => Math.abs(sample) > AUDIBLE)) return true;
    looked = samples.length;
  }
  return false;
}

async function partsOf({ door }: Watches): Promise<NonNullable<CallResult['engine']>> {
  const { engine, broker, gpio } = await door.client.call('station.status', {});
  if (engine === null || gpio === null)
    throw new AppError('station-incomplete', 'the door station lacks media or GPIO');
  const srtp = engine.sessions[0]?.srtp ?? null;
  if (srtp === null) throw new AppError('not-encrypted', 'speech travels as plain RTP');
  return {
    captureDevice: engine.capture.device,
    playbackDevice: engine.playback.device,
    encoder: engine.codec.encoder,
    decoder: engine.codec.decoder,
    broker: `${broker.url}, MQTT ${broker.protocol ?? 'not connected'}`,
    gpio: `${gpio.driver}, ${gpio.chip} at ${gpio.base}`,
    srtp,
  };
}

async function openDoor(site: Site): Promise<number> {
  const board = site.boards.door;
  const { relayLine } = doorWiring(site);
  const opened = inTime(board.reached(relayLine, 1), 5_000, 'the door opens');
  await Promise.all([opened, site.boards.indoor.press(buttonLine(site, 'indoor', 'open'))]);
  const shut = inTime(board.reached(relayLine, 0), site.plan.pulseMs + 5_000, 'the door shuts');
  return (await shut) - (await opened);
}

async function hangUp(site: Site, watches: Watches, via: Via): Promise<Record<StationId, SessionFigures>> {
  const forwarded = (await site.cloud?.forwarded()) ?? [];
  const since = systemClock.nowMs();
  await site.boards.indoor.press(buttonLine(site, 'indoor', 'bell'));
  const ended = (station: StationId) =>
    watches[station].told('call.changed', { since, withinMs: 8_000, fits: ({ state }) => state === 'ended' });
  const [door, indoor] = (await Promise.all([ended('door'), ended('indoor')])).map(({ params }) => params.figures);
  if (!door || !indoor) throw new AppError('figures-missing', 'a station gave no figures of its session');
  const expected = via === 'mqtt' ? 'mqtt' : 'udp';
  if (via === 'gateway' && !(forwarded.length === 2 && forwarded.every((count) => count >= LEAST_FORWARDED))) {
    throw new AppError('other-path', `the gateway forwarded ${forwarded.join(' and ') || 'nothing'}`);
  }
  const stray = [door, indoor].find(({ path }) => path !== expected);
  if (stray !== undefined) throw new AppError('other-path', `speech went by ${stray.path}, not by ${expected}`);
  return { door, indoor };
}

function totals({ door, indoor }: Readonly<Record<StationId, SessionFigures>>): NonNullable<CallResult['rtp']> {
  const total = (of: (figures: SessionFigures) => number) => of(door) + of(indoor);
  return {
    sent: total(({ sent }) => sent),
    received: total(({ received }) => received),
    lost: total(({ lost }) => lost),
    late: total(({ late }) => late),
    concealed: total(({ concealed }) => concealed),
  };
}

/** Compares what was heard from the moment on when `said` began to be fed. */
export function judge(said: Int16Array, other: Int16Array, fed: SampleTimes, heard: Heard): SpeechResult {
  const start = Math.max(0, Math.round(heard.times.indexAt(fed.timeOfMs(0))));
  const part = heard.samples.subarray(start, start + said.length + 2 * LAB_RATE_HZ);
  const score = (reference: Int16Array, what: Int16Array) => similarity(reference, what, LAB_RATE_HZ).similarity;
  const delaysMs = windowDelays(said, part, LAB_RATE_HZ).map(
    ({ at, delaySamples }) => heard.times.timeOfMs(start + at + delaySamples) - fed.timeOfMs(at),
  );
  return {
    similarity: score(said, part),
    controls: {
      silence: score(said, new Int16Array(said.length)),
      noise: score(said, speechShapedNoise(said.length)),
      otherRecording: score(other, part),
    },
    mouthToEarMs: { p50: quantile(delaysMs, 0.5), p95: quantile(delaysMs, 0.95) },
  };
}

/** Noise that falls with frequency as speech does in the long run: 6 dB an octave above some 550 Hz. */
function speechShapedNoise(length: number): Int16Array {
  const random = seededRandom(1);
  let value = 0;
  return new Int16Array(length).map(() => {
    value = 0.93 * value + 0.07 * (random() - 0.5) * 60_000;
    return value;
  });
}

function speechFaults(direction: string, result: SpeechResult | null, least: number): string[] {
  if (result === null) return [];
  const faults: string[] = [];
  if (!(result.similarity >= least)) faults.push(`${direction} is similar by ${result.similarity.toFixed(3)}`);
  for (const [name, value] of Object.entries(result.controls)) {
    if (!(value <= MOST_CONTROL)) faults.push(`${direction}: the control ${name} is similar by ${value.toFixed(3)}`);
  }
  if (Number.isNaN(result.mouthToEarMs.p50)) faults.push(`${direction}: no window of speech was found again`);
  return faults;
}
