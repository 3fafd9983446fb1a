import { type ChildProcess, spawn } from 'node:child_process';
import { readWav } from '../../audio/wav.js';
import { AppError, errorText } from '../../core/errors.js';
import { atRate } from './at-rate.js';

/** espeak-ng's own format: 22,050 Hz, 16 bits, mono. Twice a minute of it is more than any clip may have. */
const MOST_WAV_BYTES = 44 + 2 * 22_050 * 60;
const WITHIN_MS = 5_000;
const MOST_SAID_BYTES = 500;
export const VOICE = /^[a-z0-9][a-z0-9+-]{0,31}$/;
export const MOST_TEXT = 500;

export interface Speech {
  readonly text: string;
  /** As `espeak-ng --voices` names it: `en`, `en-gb`, `cmn`, `de+f3`. */
  readonly voice: string;
}

/**
 * Text as speech, by the program `espeak-ng` of the distribution: a child that gets the text by its standard input and nothing of it in
 * its arguments, for 5 s at most, and no shell.
 * @param program another, in tests
 * @returns mono PCM at `rateHz`
 * @throws AppError `speech-invalid` for a text or a voice that it can't be given, `speech-absent` where the program is not there,
 *   `speech-failed` (an unknown voice, too slow), `speech-too-long` for more than a minute
 */
export async function speak({ text, voice }: Speech, rateHz: number, program = 'espeak-ng'): Promise<Int16Array> {
  if (text.trim() === '' || text.length > MOST_TEXT) {
    throw new AppError('speech-invalid', `a text of 1 to ${MOST_TEXT} characters is expected, not of ${text.length}`);
  }
  if (!VOICE.test(voice)) {
    throw new AppError('speech-invalid', 'the voice has other characters than a to z, 0 to 9, + and -', {
      remedy: 'espeak-ng --voices lists them',
    });
  }
  const child = spawn(program, ['-v', voice, '--stdin', '--stdout'], { stdio: ['pipe', 'pipe', 'pipe'], env: {} });
  const { samples, rateHz: fromHz } = readWav(await outputOf(child, text, program));
  if (samples.length === 0) throw new AppError('speech-failed', `${program} says nothing to this text`);
  return atRate(samples, fromHz, rateHz);
}

function outputOf(child: ChildProcess, text: string, program: string): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let [bytes, said] = [0, ''];
    const fail = (error: AppError): void => {
      clearTimeout(limit);
      child.kill('SIGKILL');
      for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy();
      reject(error);
    };
    const limit = setTimeout(
      () => fail(new AppError('speech-failed', `${program} was not done within ${WITHIN_MS / 1_000} s`)),
      WITHIN_MS,
    );
    child.stdout?.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= MOST_WAV_BYTES) chunks.push(chunk);
      else fail(new AppError('speech-too-long', 'the text takes more than a minute to say'));
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(0, MOST_SAID_BYTES);
    });
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(
        error.code === 'ENOENT'
          ? new AppError('speech-absent', `${program} is not installed on this station`, {
              remedy: 'apt install espeak-ng',
            })
          : new AppError('speech-failed', `${program}: ${errorText(error)}`),
      ),
    );
    child.on('close', (code) => {
      clearTimeout(limit);
      if (code === 0) resolve(Buffer.concat(chunks));
      else reject(new AppError('speech-failed', `${program} ended with ${code}: ${said.trim()}`));
    });
    // It may end before it has read all.
    child.stdin?.on('error', () => {}).end(text);
  });
}
