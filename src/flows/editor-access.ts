import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import * as z from 'zod';
import { createDurably } from '../core/durable-file.js';
import { AppError } from '../core/errors.js';
import { EDITOR_USER } from '../protocol/flows-api.js';

/** 128 bits of salt, and work factors as OWASP's password storage sheet has them for scrypt: 16 MiB, some 50 ms. */
const WORK = { N: 2 ** 14, r: 8, p: 5 } as const;
const hashed = z.object({
  v: z.literal(1),
  salt: z.base64(),
  hash: z.base64(),
  /** Node-RED's own: encrypts the credentials that nodes keep. */
  credentialSecret: z.string().min(32),
});

/**
 * Who may open the editor. At the first start a password is made. Its hash stays in `editor.json`; the password itself is in
 * `editor-password` (both of mode 0600), for the installer to note and then to delete. Both files deleted: a new one is made.
 */
export class EditorAccess {
  readonly credentialSecret: string;
  readonly #salt: Buffer;
  readonly #hash: Buffer;
  /** Of the station, for the Admin API; changes with each start of the station. */
  #stationToken: Buffer | undefined;

  private constructor(file: z.infer<typeof hashed>) {
    this.credentialSecret = file.credentialSecret;
    this.#salt = Buffer.from(file.salt, 'base64');
    this.#hash = Buffer.from(file.hash, 'base64');
  }

  /** @throws AppError `editor-access-damaged`, and whatever keeps the folder from being written */
  static async open(dir: string): Promise<EditorAccess> {
    const file = join(dir, 'editor.json');
    if (await isAbsent(file)) {
      // The password is there before its hash is: a start that is cut off in between makes both anew.
      const password = await passwordOf(join(dir, 'editor-password'));
      const salt = randomBytes(16);
      const made: z.infer<typeof hashed> = {
        v: 1,
        salt: salt.toString('base64'),
        hash: (await derive(password, salt)).toString('base64'),
        credentialSecret: randomBytes(32).toString('base64url'),
      };
      await createDurably(file, JSON.stringify(made));
    }
    const parsed = hashed.safeParse(jsonOf(readFileSync(file, 'utf8')));
    if (parsed.success) return new EditorAccess(parsed.data);
    throw new AppError('editor-access-damaged', `${file} is damaged`, {
      remedy: 'Delete it and editor-password beside it: a new password is made at the next start',
    });
  }

  set stationToken(token: string) {
    this.#stationToken = Buffer.from(token);
  }

  /** Whether a request bears the station's own token. */
  isOfStation({ headers }: IncomingMessage): boolean {
    const [, token] = /^Bearer (\S{1,100})$/.exec(headers.authorization ?? '') ?? [];
    return token !== undefined && this.#isStation(token);
  }

  /** Node-RED's `adminAuth`. */
  get adminAuth(): object {
    const installer = { username: EDITOR_USER, permissions: '*' };
    const userOf = (name: string) => (name === EDITOR_USER ? installer : null);
    return {
      type: 'credentials',
      users: async (name: string) => userOf(name),
      authenticate: async (name: string, password: string) => ((await this.#fits(password)) ? userOf(name) : null),
      tokens: async (token: string) => (this.#isStation(token) ? { username: 'station', permissions: '*' } : null),
    };
  }

  async #fits(password: unknown): Promise<boolean> {
    if (typeof password !== 'string' || password.length > 200) return false;
    return timingSafeEqual(await derive(password, this.#salt), this.#hash);
  }

  #isStation(token: string): boolean {
    const given = Buffer.from(token);
    const expected = this.#stationToken;
    return expected !== undefined && given.length === expected.length && timingSafeEqual(given, expected);
  }
}

async function passwordOf(file: string): Promise<string> {
  // 20 characters of 32, without those that look alike: 100 bits.
  const letters = 'abcdefghjkmnpqrstuvwxyz23456789-';
  const made = [...randomBytes(20)].map((byte) => letters[byte % 32]).join('');
  await createDurably(file, `${made}\n`);
  return readFileSync(file, 'utf8').trim();
}

async function isAbsent(file: string): Promise<boolean> {
  try {
    readFileSync(file);
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    throw error;
  }
}

function derive(password: string, salt: Buffer): Promise<Buffer> {
  const options: ScryptOptions = { ...WORK, maxmem: 64 * 2 ** 20 };
  return new Promise((resolve, reject) => {
    scrypt(password, salt, 32, options, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
