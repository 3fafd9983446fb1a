import { Dice } from '../src/sounds/dice.js';
import type { LabelledFeatures } from './labelled-features.js';
import { Network, type NetworkShape, type Normalisation } from './network.js';
import { VariedWindow } from './varied-window.js';

export interface TrainingOptions {
  readonly shape: Omit<NetworkShape, 'mels' | 'labels'>;
  readonly epochs: number;
  /** Windows that are taken of each recording, at other places in each epoch. */
  readonly windows: number;
  readonly batch: number;
  /** Of the first epoch; it falls to nothing by half a cosine (Loshchilov and Hutter 2017). */
  readonly learningRate: number;
  /** How much worse a false alarm is than a miss. */
  readonly falseAlarmWeight: number;
  readonly seed: number;
}

/** Adam's constants (Kingma and Ba 2015), and the decay of weights apart from it (Loshchilov and Hutter 2019). */
const [MEAN_KEPT, SQUARE_KEPT, TINY] = [0.9, 0.999, 1e-8];
const WEIGHT_DECAY = 1e-4;
/** No window's gradient moves the weights by more than its share. */
const MOST_ODDS = 30;

/**
 * A network that was trained on these recordings: the same for the same recordings and options, to the last bit.
 * @param log told of each epoch
 */
export function train(
  recordings: readonly LabelledFeatures[],
  options: TrainingOptions,
  log: (line: string) => void,
): Network {
  const first = recordings[0];
  if (first === undefined) throw new RangeError('There is nothing to train on');
  const { mels } = first;
  const labels = first.labels.length;
  const dice = new Dice(options.seed, 'training');
  const network = new Network({ ...options.shape, mels, labels }, normalisationOf(recordings), dice);
  const optimiser = network.parameters.map(({ values }) => ({
    means: new Float64Array(values.length),
    squares: new Float64Array(values.length),
  }));
  const { frames } = options.shape;
  const count = recordings.length * options.windows;
  const steps = options.epochs * Math.ceil(count / options.batch);
  const gradient = new Float64Array(labels);
  const window = new VariedWindow(frames, mels, labels);
  let step = 0;
  for (let epoch = 0; epoch < options.epochs; epoch++) {
    const order = Int32Array.from({ length: count }, (_, i) => i % recordings.length);
    for (let i = order.length - 1; i > 0; i--) {
      const j = dice.whole(0, i);
      const held = order[i] as number;
      order[i] = order[j] as number;
      order[j] = held;
    }
    let [loss, losses] = [0, 0];
    for (let from = 0; from < count; from += options.batch) {
      const batch = order.subarray(from, from + options.batch);
      for (const index of batch) {
        const recording = recordings[index] as LabelledFeatures;
        window.draw(recording, recordings, dice);
        const odds = network.forward(window.values);
        for (let label = 0; label < labels; label++) {
          const target = window.targets[label] ?? null;
          const score = 1 / (1 + Math.exp(-Math.max(-MOST_ODDS, Math.min(MOST_ODDS, odds[label] as number))));
          const weight = target === null ? 0 : target === 1 ? 1 : options.falseAlarmWeight;
          gradient[label] = weight * (score - (target ?? 0));
          if (target === null) continue;
          loss -= weight * Math.log(Math.max(1e-12, target === 1 ? score : 1 - score));
          losses += 1;
        }
        network.backward(gradient);
      }
      const rate = options.learningRate * 0.5 * (1 + Math.cos((Math.PI * step) / steps)) * Math.min(1, (step + 1) / 50);
      step += 1;
      for (const [p, { values, gradients }] of network.parameters.entries()) {
        const { means, squares } = optimiser[p] as { means: Float64Array; squares: Float64Array };
        const [meanBias, squareBias] = [1 - MEAN_KEPT ** step, 1 - SQUARE_KEPT ** step];
        for (let i = 0; i < values.length; i++) {
          const g = (gradients[i] as number) / batch.length;
          const mean = MEAN_KEPT * (means[i] as number) + (1 - MEAN_KEPT) * g;
          const square = SQUARE_KEPT * (squares[i] as number) + (1 - SQUARE_KEPT) * g * g;
          means[i] = mean;
          squares[i] = square;
          const change =
            mean / meanBias / (Math.sqrt(square / squareBias) + TINY) + WEIGHT_DECAY * (values[i] as number);
          values[i] = (values[i] as number) - rate * change;
        }
        gradients.fill(0);
      }
    }
    log(`epoch ${epoch + 1} of ${options.epochs}: loss ${(loss / losses).toFixed(4)}`);
  }
  network.round();
  return network;
}

function normalisationOf(recordings: readonly LabelledFeatures[]): Normalisation {
  const mels = recordings[0]?.mels ?? 0;
  const [sums, squares] = [new Float64Array(mels), new Float64Array(mels)];
  let count = 0;
  for (const { features } of recordings) {
    for (let i = 0; i < features.length; i++) {
      const value = features[i] as number;
      sums[i % mels] = (sums[i % mels] as number) + value;
      squares[i % mels] = (squares[i % mels] as number) + value * value;
    }
    count += features.length / mels;
  }
  const means = sums.map((sum) => sum / count);
  const scales = squares.map((sum, m) => 1 / Math.sqrt(Math.max(1e-3, sum / count - (means[m] as number) ** 2)));
  return { means, scales };
}
