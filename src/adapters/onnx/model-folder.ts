import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { parse } from 'yaml';
import * as z from 'zod';
import { CARD_ENDING } from '../../config/models-place.js';
import { AppError, errorText } from '../../core/errors.js';
import { checkCard, checkFile, type ModelCard } from '../../inference/model-card.js';

/** A station's memory is meant for its calls. */
const MOST_MODEL_BYTES = 32 * 1024 * 1024;
const MOST_CARD_BYTES = 64 * 1024;

const share = z.number().gt(0).lte(1);
const name = z.string().min(1).max(64);

const smoothing = z.strictObject({
  threshold: share,
  releaseThreshold: share,
  meanMs: z.number().min(0).max(10_000),
  consecutive: z.int().min(1).max(100),
  refractoryMs: z.number().min(0).max(600_000),
});

/** A model's card, in YAML, beside the model: `{name}.card.yaml`. */
export const cardSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]{1,64}$/, 'must be of a-z, 0-9 and -'),
  version: z.string().min(1).max(32),
  kind: z.enum(['sound', 'keyword']),
  licence: z.string().min(1).max(128),
  file: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, "must be a file's name, in the same folder"),
  sizeBytes: z.int().min(1).max(MOST_MODEL_BYTES),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits'),
  features: z.strictObject({
    rateHz: z.int().min(8_000).max(48_000),
    windowMs: z.number().min(10).max(128),
    hopMs: z.number().min(1).max(128),
    mels: z.int().min(4).max(128),
    lowestHz: z.number().min(0).max(24_000),
    highestHz: z.number().min(0).max(24_000),
  }),
  frames: z.int().min(1).max(1_000),
  everyFrames: z.int().min(1).max(1_000),
  input: name,
  output: name,
  labels: z.array(name).min(1).max(1_000),
  decisions: z.record(name, smoothing),
});

/** A model that is as its card says, and its bytes. */
export interface CardedModel {
  readonly card: ModelCard;
  readonly bytes: Uint8Array;
}

export interface ModelFolder {
  readonly models: readonly CardedModel[];
  /** Cards whose model can't be served, and why. */
  readonly refused: readonly { readonly card: string; readonly reason: string }[];
}

/**
 * Every model of the folder that has a card; what is not in order is told, and keeps no other from being loaded.
 * @throws AppError `models-absent` where there is no such folder
 */
export async function readModelFolder(folder: string, tapRateHz: number): Promise<ModelFolder> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw new AppError('models-absent', `There is no folder of models ${folder}`, { remedy: 'Make it', cause });
  });
  const models: CardedModel[] = [];
  const refused: { card: string; reason: string }[] = [];
  for (const file of names.filter((one) => one.endsWith(CARD_ENDING)).sort()) {
    const card = join(folder, file);
    try {
      models.push(await readModel(card, tapRateHz));
    } catch (error) {
      refused.push({ card, reason: errorText(error) });
    }
  }
  return { models, refused };
}

/** @throws AppError `model-refused` with the reason */
export async function readModel(cardFile: string, tapRateHz: number): Promise<CardedModel> {
  const card = readCard(await readBounded(cardFile, MOST_CARD_BYTES), cardFile);
  checkCard(card, tapRateHz);
  const bytes = await readBounded(join(dirname(cardFile), card.file), MOST_MODEL_BYTES);
  checkFile(card, { sizeBytes: bytes.byteLength, sha256: createHash('sha256').update(bytes).digest('hex') });
  return { card, bytes };
}

function readCard(bytes: Uint8Array, file: string): ModelCard {
  const refused = (why: string, cause?: unknown): AppError =>
    new AppError('model-refused', `The card ${basename(file)} is refused: ${why}`, {
      remedy: 'Correct the card',
      cause,
    });
  let raw: unknown;
  try {
    raw = parse(Buffer.from(bytes).toString('utf8'), { maxAliasCount: 0 });
  } catch (error) {
    throw refused(`it is no YAML (${errorText(error).split('\n', 1)[0]})`, error);
  }
  const checked = cardSchema.safeParse(raw);
  if (checked.success) return checked.data;
  throw refused(checked.error.issues.map((issue) => `${issue.path.join('.') || 'it'}: ${issue.message}`).join('; '));
}

async function readBounded(file: string, mostBytes: number): Promise<Uint8Array> {
  try {
    const { size } = await stat(file);
    if (size > mostBytes) throw new Error(`${size} bytes are more than ${mostBytes}`);
    return await readFile(file);
  } catch (cause) {
    throw new AppError('model-refused', `${file} can't be read: ${errorText(cause)}`, {
      remedy: 'Copy the model and its card anew, together',
      cause,
    });
  }
}
