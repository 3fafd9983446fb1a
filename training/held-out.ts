import type { LoadedModel } from '../src/adapters/onnx/onnx-model.js';
import { Dice } from '../src/sounds/dice.js';
import { EVENT_LABELS, type EventLabel } from '../src/sounds/made-sound.js';
import { type SceneBackground, type SceneOptions, sceneOf } from '../src/sounds/scene.js';
import { decisionsOf, scoresOf } from './hearing.js';
import { plannedScene, seedsOf, sharedVoices } from './scene-plan.js';

/** A kind of scene, and what was told of it. */
export interface Row {
  readonly name: string;
  readonly event: SceneOptions['event'];
  readonly over: SceneBackground;
  scenes: number;
  /** In how many of them each label was told of. */
  readonly told: Map<string, number>;
  nothing: number;
}

export interface Recall {
  readonly label: EventLabel;
  /** Of scenes at 0 to 10, 10 to 20, 20 to 30 dB, and where nothing else is to be heard. */
  readonly bySnr: { heard: number; of: number }[];
  /** From the first sample to the decision. */
  readonly latenciesMs: number[];
}

export interface HeldOut {
  readonly rows: readonly Row[];
  readonly recalls: readonly Recall[];
  /** Of minutes in which nothing happens: how often each label was told of. */
  readonly streams: readonly { readonly name: string; readonly minutes: number; readonly told: Map<string, number> }[];
}

export interface HeldOutSize {
  /** Of each row. */
  readonly scenes: number;
  /** Of each stream. */
  readonly minutes: number;
  /** Different sentences, and different cries. */
  readonly voices: number;
}

const STREAM_SCENE_S = 10;

/** What a model makes of sounds whose seeds are of one use: each event over each background, and long stretches of nothing. */
export async function listenTo(model: LoadedModel, use: 'heldOut' | 'thresholds', size: HeldOutSize): Promise<HeldOut> {
  const { card } = model;
  const seeds = seedsOf(use, 99_000);
  const sounds = sharedVoices({ first: seeds[0] ?? 0 }, size.voices);
  let next = 0;
  const rows: Row[] = [];
  const recalls: Recall[] = EVENT_LABELS.map((label) => ({
    label,
    bySnr: Array.from({ length: 4 }, () => ({ heard: 0, of: 0 })),
    latenciesMs: [],
  }));
  const row = async (name: string, event: Row['event'], over: SceneBackground): Promise<void> => {
    const counted: Row = { name, event, over, scenes: size.scenes, told: new Map(), nothing: 0 };
    rows.push(counted);
    for (let n = 0; n < size.scenes; n++) {
      const plan = { ...plannedScene(seeds[next++] ?? 0), event, over, sounds };
      const { samples } = await sceneOf(plan);
      const starts = decisionsOf(card, await scoresOf(model, samples)).filter(({ edge }) => edge === 'start');
      const labels = new Set(starts.map(({ label }) => label));
      for (const label of labels) count(counted.told, label);
      if (labels.size === 0) counted.nothing += 1;
      const recall = recalls.find(({ label }) => label === event);
      if (recall === undefined) continue;
      const cell = recall.bySnr[over === 'silence' ? 3 : Math.min(2, Math.floor(plan.snrDb / 10))];
      const first = starts.find(({ label }) => label === event);
      if (cell !== undefined) cell.of += 1;
      if (first === undefined) continue;
      if (cell !== undefined) cell.heard += 1;
      recall.latenciesMs.push(first.atMs - 1000 * plan.eventAtS);
    }
  };
  for (const event of EVENT_LABELS) {
    await row(`${event}, alone`, event, 'silence');
    await row(`${event} over noise`, event, 'noise');
    await row(`${event} over hum`, event, 'hum');
    await row(`${event} over speech`, event, 'speech');
  }
  await row('speech', 'speech', 'noise');
  await row('trifles', 'trifle', 'noise');
  for (const over of ['hum', 'noise', 'silence'] as const) await row(over, null, over);

  const stream = async (name: string, over: readonly SceneBackground[], events: readonly Row['event'][]) => {
    const told = new Map<string, number>();
    const parts: Int16Array[] = [];
    for (let seconds = 0; seconds < size.minutes * 60; seconds += STREAM_SCENE_S) {
      const seed = seeds[next++] ?? 0;
      const dice = new Dice(seed, 'stream');
      const plan = {
        ...plannedScene(seed),
        seconds: STREAM_SCENE_S,
        over: dice.pick(over),
        event: dice.pick(events),
        sounds,
      };
      parts.push((await sceneOf(plan)).samples);
    }
    for (const { edge, label } of decisionsOf(card, await scoresOf(model, joined(parts)))) {
      if (edge === 'start') count(told, label);
    }
    return { name, minutes: size.minutes, told };
  };
  const streams = [
    await stream('speech', ['speech'], [null]),
    await stream('hum, noise and silence', ['hum', 'noise', 'noise', 'silence'], [null]),
    await stream('trifles, over all of them', ['hum', 'noise', 'silence', 'speech'], ['trifle']),
  ];
  return { rows, recalls, streams };
}

function count(counts: Map<string, number>, label: string): void {
  counts.set(label, (counts.get(label) ?? 0) + 1);
}

function joined(parts: readonly Int16Array[]): Int16Array {
  const out = new Int16Array(parts.length * STREAM_SCENE_S * 16_000);
  for (const [i, part] of parts.entries()) out.set(part, i * STREAM_SCENE_S * 16_000);
  return out;
}
