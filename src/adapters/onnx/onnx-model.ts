import { InferenceSession, Tensor } from 'onnxruntime-node';
import { AppError, errorText } from '../../core/errors.js';
import { checkShape, type ModelCard, type TensorShape } from '../../inference/model-card.js';
import type { CardedModel } from './model-folder.js';

/** A model that runs: what a `ModelEar` is told to ask goes in, the scores that it wants come out. */
export interface LoadedModel {
  readonly card: ModelCard;
  /**
   * @param window `frames × mels` features; copied at once, so that who gave it may write over it
   * @returns a score for each label
   * @throws RangeError of another length
   * @throws AppError `model-failed` where the model itself fails
   */
  run(window: Float32Array): Promise<Float32Array>;
  close(): Promise<void>;
}

/** One thread, and no memory kept beyond what a run takes: a station's processor and memory are meant for its calls. */
const OPTIONS: InferenceSession.SessionOptions = {
  executionProviders: ['cpu'],
  executionMode: 'sequential',
  intraOpNumThreads: 1,
  interOpNumThreads: 1,
  enableCpuMemArena: false,
  enableMemPattern: false,
  logSeverityLevel: 4,
};

/**
 * Has ONNX Runtime load a model whose file is as its card says (`readModel`), and asks it once, of silence: what fails only when
 * it runs is refused as well. A run takes the thread that it is called on, for as long as it lasts.
 * @throws AppError `model-refused`: no ONNX, cut off, of operators that the runtime lacks, or of another shape than its card says
 */
export async function loadModel({ card, bytes }: CardedModel): Promise<LoadedModel> {
  const session = await InferenceSession.create(bytes, OPTIONS).catch((cause: unknown) => {
    throw refused(card, `${card.file} can't be loaded (${firstLine(cause)})`, cause);
  });
  try {
    checkShape(card, {
      inputs: session.inputMetadata.map(shapeOf),
      outputs: session.outputMetadata.map(shapeOf),
    });
    const model = new OnnxModel(card, session);
    const scores = await model.run(new Float32Array(card.frames * card.features.mels)).catch((cause: unknown) => {
      throw refused(card, `it does not run (${firstLine(cause)})`, cause);
    });
    if (scores.length !== card.labels.length || scores.some((score) => !(score >= 0 && score <= 1))) {
      throw refused(card, `of silence it gives ${[...scores.subarray(0, 8)]}, which are no scores of 0 … 1`);
    }
    return model;
  } catch (error) {
    await session.release();
    throw error;
  }
}

class OnnxModel implements LoadedModel {
  readonly card: ModelCard;
  readonly #session: InferenceSession;
  readonly #dimensions: readonly number[];
  readonly #length: number;

  constructor(card: ModelCard, session: InferenceSession) {
    this.card = card;
    this.#session = session;
    this.#dimensions = [1, card.frames, card.features.mels];
    this.#length = card.frames * card.features.mels;
  }

  async run(window: Float32Array): Promise<Float32Array> {
    if (window.length !== this.#length) {
      throw new RangeError(`${window.length} features where ${this.#length} were expected`);
    }
    const input = new Tensor('float32', window.slice(), this.#dimensions);
    const { output } = this.card;
    const given = await this.#session.run({ [this.card.input]: input }, [output]).catch((cause: unknown) => {
      throw new AppError('model-failed', `The model ${this.card.name} failed: ${firstLine(cause)}`, {
        remedy: 'Take another version of it',
        cause,
      });
    });
    const scores = given[output]?.data;
    if (scores instanceof Float32Array) return scores;
    throw new AppError('model-failed', `The model ${this.card.name} gave no ${output} of float32`, {
      remedy: 'Take a model of that contract',
    });
  }

  close(): Promise<void> {
    return this.#session.release();
  }
}

function shapeOf(one: InferenceSession.ValueMetadata): TensorShape {
  if (!one.isTensor) return { name: one.name, type: 'no tensor', dimensions: [] };
  return {
    name: one.name,
    type: one.type,
    dimensions: one.shape.map((dimension) => (typeof dimension === 'number' ? dimension : null)),
  };
}

function firstLine(error: unknown): string {
  return errorText(error).split('\n', 1)[0]?.slice(0, 300) ?? '';
}

function refused(card: ModelCard, why: string, cause?: unknown): AppError {
  return new AppError('model-refused', `The model ${card.name} ${card.version} is refused: ${why}`, {
    remedy: 'Copy the model and its card anew, together, or take a model of that contract',
    cause,
  });
}
