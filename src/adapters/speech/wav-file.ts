import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { readWav } from '../../audio/wav.js';
import { AppError, errorText } from '../../core/errors.js';
import { atRate } from './at-rate.js';

/** 30 s of 48 kHz stereo, and room for what stands before them. */
const MOST_BYTES = 30 * 48_000 * 4 + 65_536;
const MOST_S = 30;

/**
 * A WAV file of 16-bit PCM as mono at another rate.
 * @throws AppError `sound-unreadable` (no file, no right, no regular file), `sound-too-long` (30 s, 5.8 MB), `wav-invalid`
 */
export async function readSoundFile(path: string, rateHz: number): Promise<Int16Array> {
  const { samples, rateHz: fromHz } = readWav(await bytesOf(path));
  if (samples.length > MOST_S * fromHz) throw tooLong(path);
  return atRate(samples, fromHz, rateHz);
}

async function bytesOf(path: string): Promise<Uint8Array> {
  // A named pipe would be waited for without end, were it opened to wait.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
    throw new AppError('sound-unreadable', `${path} can't be read: ${errorText(error)}`);
  });
  try {
    const found = await file.stat();
    if (!found.isFile()) throw new AppError('sound-unreadable', `${path} is no file`);
    if (found.size > MOST_BYTES) throw tooLong(path);
    const bytes = Buffer.alloc(found.size);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    return bytes.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function tooLong(path: string): AppError {
  return new AppError('sound-too-long', `${path} is longer than ${MOST_S} s`, { remedy: 'Cut it' });
}
