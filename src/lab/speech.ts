import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { resample } from '../audio/resample.js';
import { type Recording, readWav } from '../audio/wav.js';
import { AppError } from '../core/errors.js';

/** All recordings of the lab are 48 kHz mono, as its cards are. */
export const LAB_RATE_HZ = 48_000;
export const PAUSE_MS = 120;

const HUMAN_FOLDER = '/usr/share/sounds/alsa';
const HUMAN_FILES = [
  'Front_Left.wav',
  'Rear_Right.wav',
  'Side_Left.wav',
  'Front_Center.wav',
  'Rear_Left.wav',
  'Side_Right.wav',
  'Rear_Center.wav',
  'Front_Right.wav',
];

const MADE_TEXT =
  'Good morning, you have reached the second floor. Please take the lift on your left hand, ' +
  'and wait in the bright room by the window until somebody fetches you. The parcel may stay with the porter downstairs.';

const OTHER_TEXT =
  'Eleven ships went out before the storm, yet only seven were counted home. ' +
  'My grandmother kept bees, sold honey at every market, and never once was stung. Choose whichever cup pleases you.';

/** What the lab speaks, each `seconds` long at 48 kHz mono. */
export interface LabSpeech {
  /** A person: Debian's alsa-utils, with short pauses. */
  readonly human: Int16Array;
  /** Made by espeak-ng. */
  readonly made: Int16Array;
  /** A third recording, which nobody feeds: the control. */
  readonly other: Int16Array;
}

/** @throws AppError `speech-absent` where alsa-utils or espeak-ng is not installed */
export async function labSpeech(seconds: number): Promise<LabSpeech> {
  const [human, made, other] = await Promise.all([
    humanSpeech(),
    madeSpeech(MADE_TEXT),
    madeSpeech(OTHER_TEXT, 'en-us+f3'),
  ]);
  return { human: fit(human, seconds), made: fit(made, seconds), other: fit(other, seconds) };
}

/** The recordings of alsa-utils in a fixed order (or just `files`), 120 ms of silence after each; 48 kHz mono. */
export async function humanSpeech(files: readonly string[] = HUMAN_FILES): Promise<Int16Array> {
  const spoken = await Promise.all(
    files.map((file) =>
      readFile(`${HUMAN_FOLDER}/${file}`).catch((cause: unknown) => {
        throw new AppError('speech-absent', `No recording ${HUMAN_FOLDER}/${file}`, {
          remedy: 'Install alsa-utils',
          cause,
        });
      }),
    ),
  );
  const pause = new Int16Array((LAB_RATE_HZ * PAUSE_MS) / 1000);
  return join(spoken.flatMap((file) => [toLabRate(readWav(file)), pause]));
}

/** `text` spoken by espeak-ng, 48 kHz mono. */
export async function madeSpeech(text: string, voice = 'en-gb'): Promise<Int16Array> {
  const run = promisify(execFile);
  const { stdout } = await run('espeak-ng', ['--stdout', '-v', voice, '-s', '155', text], {
    encoding: 'buffer',
    maxBuffer: 16 * 1024 * 1024,
  }).catch((cause: unknown) => {
    throw new AppError('speech-absent', 'espeak-ng did not speak', { remedy: 'Install espeak-ng', cause });
  });
  return toLabRate(readWav(stdout));
}

/** `seconds` of `speech`, begun anew where it is shorter. */
export function fit(speech: Int16Array, seconds: number): Int16Array {
  const out = new Int16Array(Math.round(seconds * LAB_RATE_HZ));
  for (let at = 0; at < out.length; at += speech.length) out.set(speech.subarray(0, out.length - at), at);
  return out;
}

function toLabRate(recording: Recording): Int16Array {
  return resample(recording.samples, { fromHz: recording.rateHz, toHz: LAB_RATE_HZ });
}

/** Recordings one after another. */
export function join(parts: readonly Int16Array[]): Int16Array {
  const out = new Int16Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
