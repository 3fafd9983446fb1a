import { createPrivateKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { newPrivateKey, type SigningKey, signingKey } from '../adapters/tuf/signing-key.js';
import { createDurably } from '../core/durable-file.js';
import { AppError } from '../core/errors.js';

/**
 * The key that signs orders to stations; made at the first start (mode 0600), as the broker's certificates are: it is online, and worth
 * no more than the machine that it is on. @throws AppError `key-invalid` for a file that is none
 */
export async function commandKey(path: string): Promise<SigningKey> {
  const pem = newPrivateKey().export({ type: 'pkcs8', format: 'pem' });
  await createDurably(path, pem);
  try {
    const key = createPrivateKey(await readFile(path, 'utf8'));
    if (key.asymmetricKeyType === 'ed25519') return signingKey(key);
  } catch {
    // Told below; OpenSSL's words might quote.
  }
  throw new AppError('key-invalid', `${path} is no Ed25519 key`, {
    remedy: 'Bring it back, or remove it: another is made, whose public half stations must be given',
  });
}
