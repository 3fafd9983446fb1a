import type { Dice } from '../src/sounds/dice.js';
import { Convolution, Dense, type Layer, type Parameters, Pooling } from './layers.js';
import type { OnnxConstant, OnnxGraph, OnnxNode } from './onnx-writer.js';

export interface NetworkShape {
  readonly frames: number;
  readonly mels: number;
  readonly labels: number;
  /** Channels of the three convolutions, and values between the two dense layers. */
  readonly channels: readonly [number, number, number];
  readonly hidden: number;
}

/** Of each band, over all that it is trained on. */
export interface Normalisation {
  readonly means: Float64Array;
  readonly scales: Float64Array;
}

/**
 * Log-mel features → each band brought to mean 0 and deviation 1 → three convolutions along time (10, 20 and 40 ms a step) →
 * mean and maximum over the window → two dense layers → one score a label, each by itself: several things may be heard at once.
 */
export class Network {
  readonly shape: NetworkShape;
  readonly parameters: readonly Parameters[];
  readonly #normalisation: Normalisation;
  readonly #convolutions: readonly Convolution[];
  readonly #dense: readonly Dense[];
  readonly #layers: readonly Layer[];
  readonly #input: Float64Array;

  constructor(shape: NetworkShape, normalisation: Normalisation, dice: Dice) {
    const { frames, mels, channels, hidden, labels } = shape;
    this.shape = shape;
    this.#normalisation = normalisation;
    this.#input = new Float64Array(frames * mels);
    const [a, b, c] = channels;
    const first = new Convolution({ frames, inputs: mels, outputs: a, width: 5, stride: 2 }, dice, true);
    const second = new Convolution({ frames: first.outFrames, inputs: a, outputs: b, width: 3, stride: 2 }, dice);
    const third = new Convolution({ frames: second.outFrames, inputs: b, outputs: c, width: 3, stride: 1 }, dice);
    this.#convolutions = [first, second, third];
    this.#dense = [new Dense(2 * c, hidden, dice), new Dense(hidden, labels, dice, true)];
    this.#layers = [...this.#convolutions, new Pooling(third.outFrames, c), ...this.#dense];
    this.parameters = this.#layers.flatMap((layer) => layer.parameters);
  }

  /**
   * @param features where `frames × mels` of them begin at `from`
   * @returns for each label the logarithm of its odds; valid until the next call
   */
  forward(features: Float32Array, from = 0): Float64Array {
    const { means, scales } = this.#normalisation;
    const { mels } = this.shape;
    let values: Float64Array = this.#input;
    for (let i = 0; i < values.length; i++) {
      const m = i % mels;
      values[i] = ((features[from + i] as number) - (means[m] as number)) * (scales[m] as number);
    }
    for (const layer of this.#layers) values = layer.forward(values);
    return values;
  }

  /** Of the sample that was asked last; `gradient` is written over. */
  backward(gradient: Float64Array): void {
    let values = gradient;
    for (let i = this.#layers.length - 1; i >= 0; i--) values = (this.#layers[i] as Layer).backward(values);
  }

  /** Weights as the file will have them: of 32 bits. */
  round(): void {
    for (const { values } of [...this.parameters])
      for (let i = 0; i < values.length; i++) values[i] = Math.fround(values[i] as number);
    for (const values of [this.#normalisation.means, this.#normalisation.scales]) {
      for (let i = 0; i < values.length; i++) values[i] = Math.fround(values[i] as number);
    }
  }

  toOnnx(name: string): OnnxGraph {
    const { frames, mels, labels } = this.shape;
    const constants: OnnxConstant[] = [];
    const nodes: OnnxNode[] = [];
    const constant = (label: string, dimensions: number[], values: ArrayLike<number>): string => {
      constants.push({ name: label, dimensions, values: Float32Array.from(values) });
      return label;
    };
    const node = (op: string, inputs: string[], output: string, attributes: OnnxNode['attributes'] = {}): string => {
      nodes.push({ op, inputs, output, attributes });
      return output;
    };
    let at = node('Sub', ['features', constant('means', [mels], this.#normalisation.means)], 'centred');
    at = node('Mul', [at, constant('scales', [mels], this.#normalisation.scales)], 'normalised');
    at = node('Transpose', [at], 'bands', { perm: [0, 2, 1] });
    for (const [i, layer] of this.#convolutions.entries()) {
      const { inputs, outputs, width, stride } = layer.shape;
      const weights = Float32Array.from({ length: outputs * inputs * width }, (_, n) => {
        const [o, rest] = [Math.floor(n / (inputs * width)), n % (inputs * width)];
        const [input, k] = [Math.floor(rest / width), rest % width];
        return layer.weights.values[(k * inputs + input) * outputs + o] as number;
      });
      const kernel = constant(`kernel${i}`, [outputs, inputs, width], weights);
      const bias = constant(`kernel${i}-bias`, [outputs], layer.biases.values);
      const half = (width - 1) / 2;
      at = node('Conv', [at, kernel, bias], `conv${i}`, {
        kernel_shape: [width],
        pads: [half, half],
        strides: [stride],
      });
      at = node('Relu', [at], `relu${i}`);
    }
    const pooled = ['ReduceMean', 'ReduceMax'].map((op) =>
      node(op, [at], op.toLowerCase(), { axes: [2], keepdims: 0 }),
    );
    at = node('Concat', pooled, 'pooled', { axis: 1 });
    for (const [i, layer] of this.#dense.entries()) {
      const weights = constant(`dense${i}-weights`, [layer.outputs, layer.inputs], layer.weights.values);
      const bias = constant(`dense${i}-bias`, [layer.outputs], layer.biases.values);
      at = node('Gemm', [at, weights, bias], `dense${i}`, { transB: 1 });
      if (!layer.isLast) at = node('Relu', [at], `dense${i}-relu`);
    }
    node('Sigmoid', [at], 'scores');
    return {
      name,
      input: { name: 'features', dimensions: [1, frames, mels] },
      output: { name: 'scores', dimensions: [1, labels] },
      constants,
      nodes,
    };
  }
}
