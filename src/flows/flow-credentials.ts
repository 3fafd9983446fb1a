import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import * as z from 'zod';
import {
  type EncryptedCredentials,
  encryptedCredentials,
  MOST_CREDENTIALS_BYTES,
} from '../adapters/node-red/admin-api.js';
import { writeDurably } from '../core/durable-file.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { EditorAccess } from './editor-access.js';
import { FLOW_FILE } from './flow-file.js';

const said = z.strictObject({ credentials: encryptedCredentials });

/**
 * What nodes keep as secret, for the station alone, by its own token, and encrypted: GET hands it over, PUT keeps it for the next start.
 * Node-RED gives secrets away with the nodes that a deployment leaves out, and takes them back into memory alone.
 */
export function credentialsPage(
  dir: string,
  access: EditorAccess,
  logger: Logger,
): (request: IncomingMessage, response: ServerResponse) => void {
  const file = join(dir, FLOW_FILE.replace('.json', '_cred.json'));
  const answer = async (request: IncomingMessage): Promise<{ status: number; body: object }> => {
    if (!access.isOfStation(request)) return { status: 401, body: {} };
    if (request.method === 'GET') return { status: 200, body: { credentials: credentialsIn(file) } };
    if (request.method !== 'PUT') return { status: 405, body: {} };
    const { credentials } = said.parse(JSON.parse(await bodyOf(request)));
    await writeDurably(file, JSON.stringify(credentials, null, 4));
    return { status: 200, body: {} };
  };
  return (request, response) => {
    answer(request)
      .catch((error: unknown) => {
        logger.warn({ error: errorText(error) }, 'the secrets of flows were not kept');
        return { status: 400, body: {} };
      })
      .then(({ status, body }) => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      });
  };
}

/** Null where there is nothing, or nothing that can be handed on. */
function credentialsIn(file: string): EncryptedCredentials | null {
  try {
    return encryptedCredentials.parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch {
    return null;
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > 2 * MOST_CREDENTIALS_BYTES) throw new AppError('oversized', `more than ${bytes} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString();
}
