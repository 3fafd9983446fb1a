import { readFileSync } from 'node:fs';
import { AppError } from '../../core/errors.js';

const VARIABLE = 'ENTRYPHONE_PASSPHRASE';
const FILE_VARIABLE = 'ENTRYPHONE_PASSPHRASE_FILE';
const CTRL_C = '\u0003';
const MOST_CHARS = 1_000;

/** Taken out of the environment at once: no process that we start inherits it. */
const given = process.env[VARIABLE];
delete process.env[VARIABLE];

/**
 * The passphrase of a key: of ENTRYPHONE_PASSPHRASE, of the file that ENTRYPHONE_PASSPHRASE_FILE names (its first line), or
 * typed, unseen.
 * @throws AppError `usage` where there is none and nobody to ask, `cancelled`
 */
export async function passphraseFor(what: string): Promise<string> {
  if (given !== undefined) return given;
  const file = process.env[FILE_VARIABLE];
  if (file !== undefined) return fromFile(file);
  if (!process.stdin.isTTY) {
    throw new AppError('usage', `no passphrase for ${what}`, {
      remedy: `Set ${FILE_VARIABLE} to a file that holds it, or ${VARIABLE}, or type it at a terminal`,
    });
  }
  return typed(`passphrase for ${what}: `);
}

/** For a key that is made: asked twice where it is typed. @throws AppError `usage` where the two differ */
export async function newPassphraseFor(what: string): Promise<string> {
  const first = await passphraseFor(what);
  if (given !== undefined || process.env[FILE_VARIABLE] !== undefined) return first;
  if ((await typed('the same again: ')) === first) return first;
  throw new AppError('usage', 'the two passphrases differ', { remedy: 'Nothing was made; try again' });
}

function fromFile(file: string): string {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0] ?? '';
  } catch (error) {
    throw new AppError('usage', `${FILE_VARIABLE}: ${file} can't be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

function typed(prompt: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(prompt);
  stdin.setRawMode(true).setEncoding('utf8').resume();
  return new Promise<string>((resolve, reject) => {
    let text = '';
    const onData = (piece: string) => {
      for (const character of piece) {
        if (character === CTRL_C) return done(() => reject(new AppError('cancelled', 'cancelled')));
        if (character === '\r' || character === '\n') return done(() => resolve(text));
        if (character === '\u007f' || character === '\b') text = [...text].slice(0, -1).join('');
        else if (text.length < MOST_CHARS) text += character;
      }
    };
    const done = (end: () => void) => {
      stdin.off('data', onData).setRawMode(false).pause();
      stderr.write('\n');
      end();
    };
    stdin.on('data', onData);
  });
}
