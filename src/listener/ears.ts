import type { LoadedModel } from '../adapters/onnx/onnx-model.js';
import { type AudioFrame, FRAME_MS, frameSamples } from '../audio/frame.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { Decision } from '../inference/decision.js';
import { ModelEar } from '../inference/model-ear.js';
import { SoundGate } from '../inference/sound-gate.js';
import { VoiceActivity } from '../inference/voice-activity.js';
import type { HeardDecision, HearingFigures } from '../protocol/hearing.js';
import { L16_RATE_HZ, type L16Sound } from '../rtp/l16.js';

const FRAME_SAMPLES = frameSamples(L16_RATE_HZ);
const PACKET_FRAMES = 2;
/** Of a sound a model hears the end as well: so long after its window a model is asked on, in frames. */
const HOLD_FRAMES = 50;
/** While nothing stands out a model is asked this seldom: what grew slowly is found all the same, if later. */
const SELDOM = 8;
/** A model that fails so often in a row is asked no more. */
const MOST_FAILURES = 5;
/** The card's clock may be so much slower than ours: ms a packet (500 ppm of 20). */
const DRIFT_MS = 0.01;
/** Of voice activity's level above the noise, that is a score of 1. */
const FULL_SCORE_DB = 30;

interface Asked {
  readonly model: LoadedModel;
  readonly ear: ModelEar;
  isBusy: boolean;
  /** Times in a row that it was not asked. */
  skipped: number;
  failures: number;
}

export interface EarsOptions {
  readonly models: readonly LoadedModel[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly listener: {
    decided(decision: HeardDecision): void;
    /** It failed again and again, and is asked no more. */
    failed(model: LoadedModel, reason: string): void;
  };
}

/**
 * From the tap's packets to decisions.
 *
 * ```
 *   packet ──▶ frames of 10 ms ──▶ VoiceActivity ────────────────────────────────────────▶ decided
 *                             ├──▶ ModelEar: features, always ──▶ the model, where the gate ──▶ smoothing ──▶ decided
 *                             └──▶ SoundGate ──────────────────── lets it be asked
 * ```
 * Features are kept up whatever the gate says, so that the first look at a sound has all of it.
 */
export class Ears {
  /** `model-busy`, `model-failed` */
  readonly refused = new Counters<string>();
  readonly #options: EarsOptions;
  readonly #voice = new VoiceActivity(L16_RATE_HZ);
  readonly #gate = new SoundGate();
  #asked: readonly Asked[];
  /** The frame that all of them are given, again and again. */
  readonly #frame = { samples: new Int16Array(FRAME_SAMPLES), rateHz: L16_RATE_HZ, capturedAtMs: 0 };
  /** From the stream's clock to ours. */
  #offsetMs = Number.POSITIVE_INFINITY;
  readonly #counts = { receivedFrames: 0, lostFrames: 0, inferredFrames: 0, modelRuns: 0, skippedRuns: 0 };

  constructor(options: EarsOptions) {
    this.#options = options;
    this.#asked = options.models.map((model) => ({
      model,
      ear: new ModelEar(model.card, L16_RATE_HZ),
      isBusy: false,
      skipped: 0,
      failures: 0,
    }));
  }

  get figures(): Omit<HearingFigures, 'cpuMs' | 'memoryRssBytes' | 'refused'> {
    return { ...this.#counts };
  }

  /** A packet of the tap. @param arrivalMs monotonic */
  sound({ samples, endsAtMs, lostPackets, isAfterGap }: L16Sound, arrivalMs: number): void {
    this.#counts.lostFrames += PACKET_FRAMES * lostPackets;
    if (isAfterGap) this.#afterGap();
    this.#offsetMs = Math.min(this.#offsetMs + DRIFT_MS, arrivalMs - endsAtMs);
    const frame = this.#frame;
    for (let end = FRAME_SAMPLES; end <= samples.length; end += FRAME_SAMPLES) {
      for (let i = 0, at = end - FRAME_SAMPLES; i < FRAME_SAMPLES; i++) frame.samples[i] = samples[at + i] as number;
      frame.capturedAtMs = this.#offsetMs + endsAtMs - ((samples.length - end) / FRAME_SAMPLES) * FRAME_MS;
      this.#hear(frame);
    }
  }

  /** No sound comes any more: what is on ends. */
  silence(): void {
    const nowMs = this.#options.clock.nowMs();
    const voice = this.#voice.end(nowMs);
    if (voice !== null) this.#decided(voice, null);
    for (const { ear, model } of this.#asked) for (const one of ear.end(nowMs)) this.#decided(one, model);
  }

  async close(): Promise<void> {
    await Promise.all(this.#asked.map(({ model }) => model.close()));
  }

  #hear(frame: AudioFrame): void {
    this.#counts.receivedFrames += 1;
    this.#counts.inferredFrames += 1;
    const voice = this.#voice.push(frame);
    if (voice !== null) this.#decided(voice, null);
    this.#gate.push(frame.samples);
    for (const asked of this.#asked) {
      const window = asked.ear.hear(frame);
      if (window === null) continue;
      if (this.#isWorthAsking(asked)) void this.#ask(asked, window, frame.capturedAtMs);
      else this.#counts.skippedRuns += 1;
    }
  }

  #isWorthAsking(asked: Asked): boolean {
    const isSound = this.#gate.framesSinceSound <= asked.model.card.frames + HOLD_FRAMES;
    if (!isSound && !asked.ear.isOn && asked.skipped < SELDOM - 1) {
      asked.skipped += 1;
      return false;
    }
    asked.skipped = 0;
    if (asked.isBusy) this.refused.count('model-busy');
    return !asked.isBusy;
  }

  async #ask(asked: Asked, window: Float32Array, atMs: number): Promise<void> {
    const { logger, listener } = this.#options;
    const { model, ear } = asked;
    asked.isBusy = true;
    this.#counts.modelRuns += 1;
    try {
      const scores = await model.run(window);
      for (const decision of ear.scored(scores, atMs)) this.#decided(decision, model);
      asked.failures = 0;
    } catch (error) {
      this.refused.count('model-failed');
      asked.failures += 1;
      if (asked.failures === 1) logger.warn({ error: errorText(error) }, 'a model failed');
      if (asked.failures >= MOST_FAILURES) {
        this.#asked = this.#asked.filter((one) => one !== asked);
        listener.failed(model, errorText(error));
      }
    } finally {
      asked.isBusy = false;
    }
  }

  #afterGap(): void {
    this.#offsetMs = Number.POSITIVE_INFINITY;
    this.#voice.reset();
    this.#gate.reset();
    for (const { ear } of this.#asked) ear.reset();
  }

  #decided({ kind, label, edge, atMs, score }: Decision, model: LoadedModel | null): void {
    const { clock, listener } = this.#options;
    const of =
      model === null ? null : { name: model.card.name, version: model.card.version, sha256: model.card.sha256 };
    const share = model === null ? score / FULL_SCORE_DB : score;
    listener.decided({
      kind,
      label,
      edge,
      atMs: Math.round(clock.wallMs() - clock.nowMs() + atMs),
      score: Math.max(0, Math.min(1, share)),
      model: of,
    });
  }
}
