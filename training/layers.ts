import type { Dice } from '../src/sounds/dice.js';

/** What is learned, and what the last samples say it should be changed by. */
export interface Parameters {
  readonly values: Float64Array;
  readonly gradients: Float64Array;
}

/**
 * A layer of a network, one sample at a time. What it returns is valid until it is asked again. All sums run in one fixed order, so that
 * the same samples make the same weights, bit by bit.
 */
export interface Layer {
  readonly parameters: readonly Parameters[];
  forward(input: Float64Array): Float64Array;
  /** Adds to the gradients of its parameters. @returns the gradient of what went in */
  backward(gradient: Float64Array): Float64Array;
}

export interface ConvolutionShape {
  readonly frames: number;
  readonly inputs: number;
  readonly outputs: number;
  /** Odd; the ends are padded with zeros by half of it. */
  readonly width: number;
  readonly stride: number;
}

function parameters(count: number, draw: () => number): Parameters {
  return { values: Float64Array.from({ length: count }, draw), gradients: new Float64Array(count) };
}

/** Along time, all bands into all channels, then the positive part (ReLU). Rows are frames: `frames × inputs` → `outFrames × outputs`. */
export class Convolution implements Layer {
  readonly shape: ConvolutionShape;
  readonly outFrames: number;
  /** `[width][inputs][outputs]`. */
  readonly weights: Parameters;
  readonly biases: Parameters;
  readonly parameters: readonly Parameters[];
  readonly #isFirst: boolean;
  readonly #out: Float64Array;
  readonly #back: Float64Array;
  #input: Float64Array = new Float64Array(0);

  /** @param isFirst nobody asks for the gradient of what went in */
  constructor(shape: ConvolutionShape, dice: Dice, isFirst = false) {
    const { frames, inputs, outputs, width, stride } = shape;
    this.shape = shape;
    this.#isFirst = isFirst;
    this.outFrames = Math.floor((frames - 1) / stride) + 1;
    const spread = Math.sqrt(2 / (inputs * width));
    this.weights = parameters(width * inputs * outputs, () => spread * dice.normal());
    this.biases = parameters(outputs, () => 0);
    this.parameters = [this.weights, this.biases];
    this.#out = new Float64Array(this.outFrames * outputs);
    this.#back = new Float64Array(isFirst ? 0 : frames * inputs);
  }

  forward(input: Float64Array): Float64Array {
    const { frames, inputs, outputs, width, stride } = this.shape;
    const [weights, biases, out] = [this.weights.values, this.biases.values, this.#out];
    this.#input = input;
    for (let t = 0; t < this.outFrames; t++) {
      const to = t * outputs;
      for (let o = 0; o < outputs; o++) out[to + o] = biases[o] as number;
      for (let k = 0; k < width; k++) {
        const frame = t * stride + k - (width - 1) / 2;
        if (frame < 0 || frame >= frames) continue;
        for (let i = 0; i < inputs; i++) {
          const x = input[frame * inputs + i] as number;
          if (x === 0) continue;
          const at = (k * inputs + i) * outputs;
          for (let o = 0; o < outputs; o++) out[to + o] = (out[to + o] as number) + x * (weights[at + o] as number);
        }
      }
      for (let o = 0; o < outputs; o++) if ((out[to + o] as number) < 0) out[to + o] = 0;
    }
    return out;
  }

  backward(gradient: Float64Array): Float64Array {
    const { frames, inputs, outputs, width, stride } = this.shape;
    const [weights, input, out, back] = [this.weights.values, this.#input, this.#out, this.#back];
    const [forWeights, forBiases] = [this.weights.gradients, this.biases.gradients];
    back.fill(0);
    for (let t = 0; t < this.outFrames; t++) {
      const from = t * outputs;
      for (let o = 0; o < outputs; o++) {
        if ((out[from + o] as number) <= 0) gradient[from + o] = 0;
        else forBiases[o] = (forBiases[o] as number) + (gradient[from + o] as number);
      }
      for (let k = 0; k < width; k++) {
        const frame = t * stride + k - (width - 1) / 2;
        if (frame < 0 || frame >= frames) continue;
        for (let i = 0; i < inputs; i++) {
          const x = input[frame * inputs + i] as number;
          const at = (k * inputs + i) * outputs;
          if (x !== 0) {
            for (let o = 0; o < outputs; o++) {
              forWeights[at + o] = (forWeights[at + o] as number) + x * (gradient[from + o] as number);
            }
          }
          if (this.#isFirst) continue;
          let sum = 0;
          for (let o = 0; o < outputs; o++) sum += (weights[at + o] as number) * (gradient[from + o] as number);
          back[frame * inputs + i] = (back[frame * inputs + i] as number) + sum;
        }
      }
    }
    return back;
  }
}

/** Of each channel its mean over time, then of each its maximum. */
export class Pooling implements Layer {
  readonly parameters = [];
  readonly #frames: number;
  readonly #channels: number;
  readonly #out: Float64Array;
  readonly #back: Float64Array;
  readonly #loudest: Int32Array;

  constructor(frames: number, channels: number) {
    this.#frames = frames;
    this.#channels = channels;
    this.#out = new Float64Array(2 * channels);
    this.#back = new Float64Array(frames * channels);
    this.#loudest = new Int32Array(channels);
  }

  forward(input: Float64Array): Float64Array {
    const [frames, channels, out] = [this.#frames, this.#channels, this.#out];
    for (let c = 0; c < channels; c++) {
      let [sum, most, loudest] = [0, Number.NEGATIVE_INFINITY, 0];
      for (let t = 0; t < frames; t++) {
        const x = input[t * channels + c] as number;
        sum += x;
        if (x <= most) continue;
        most = x;
        loudest = t;
      }
      out[c] = sum / frames;
      out[channels + c] = most;
      this.#loudest[c] = loudest;
    }
    return out;
  }

  backward(gradient: Float64Array): Float64Array {
    const [frames, channels, back] = [this.#frames, this.#channels, this.#back];
    for (let c = 0; c < channels; c++) {
      const each = (gradient[c] as number) / frames;
      for (let t = 0; t < frames; t++) back[t * channels + c] = each;
      const at = (this.#loudest[c] as number) * channels + c;
      back[at] = (back[at] as number) + (gradient[channels + c] as number);
    }
    return back;
  }
}

/** All to all; then the positive part, unless it is the last. */
export class Dense implements Layer {
  readonly inputs: number;
  readonly outputs: number;
  readonly isLast: boolean;
  /** `[outputs][inputs]`. */
  readonly weights: Parameters;
  readonly biases: Parameters;
  readonly parameters: readonly Parameters[];
  readonly #out: Float64Array;
  readonly #back: Float64Array;
  #input: Float64Array = new Float64Array(0);

  constructor(inputs: number, outputs: number, dice: Dice, isLast = false) {
    this.inputs = inputs;
    this.outputs = outputs;
    this.isLast = isLast;
    const spread = Math.sqrt((isLast ? 1 : 2) / inputs);
    this.weights = parameters(inputs * outputs, () => spread * dice.normal());
    this.biases = parameters(outputs, () => 0);
    this.parameters = [this.weights, this.biases];
    this.#out = new Float64Array(outputs);
    this.#back = new Float64Array(inputs);
  }

  forward(input: Float64Array): Float64Array {
    this.#input = input;
    const [weights, out] = [this.weights.values, this.#out];
    for (let o = 0; o < this.outputs; o++) {
      let sum = this.biases.values[o] as number;
      const at = o * this.inputs;
      for (let i = 0; i < this.inputs; i++) sum += (weights[at + i] as number) * (input[i] as number);
      out[o] = this.isLast ? sum : Math.max(0, sum);
    }
    return out;
  }

  backward(gradient: Float64Array): Float64Array {
    const [weights, input, back, forWeights] = [this.weights.values, this.#input, this.#back, this.weights.gradients];
    back.fill(0);
    for (let o = 0; o < this.outputs; o++) {
      if (!this.isLast && (this.#out[o] as number) <= 0) continue;
      const g = gradient[o] as number;
      this.biases.gradients[o] = (this.biases.gradients[o] as number) + g;
      const at = o * this.inputs;
      for (let i = 0; i < this.inputs; i++) {
        forWeights[at + i] = (forWeights[at + i] as number) + g * (input[i] as number);
        back[i] = (back[i] as number) + g * (weights[at + i] as number);
      }
    }
    return back;
  }
}
