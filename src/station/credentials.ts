import { readFileSync } from 'node:fs';
import type { Config } from '../config/schema.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { MqttIdentity } from '../protocol/engine-api.js';

/** The station's own. @throws AppError `credentials-missing` */
export function readCredentials({ mqtt }: Config): { ca: Buffer; cert: Buffer; key: Buffer } {
  return { ca: read(mqtt.ca), cert: read(mqtt.cert), key: read(mqtt.key) };
}

/** The media process's, which can't read it itself. Null where none is configured, or it isn't there: calls then go by UDP alone. */
export function readMediaIdentity({ mqtt, media }: Config, logger: Logger): MqttIdentity | null {
  if (media.identity === undefined) return null;
  const { cert, key } = media.identity;
  try {
    return { ca: String(read(mqtt.ca)), cert: String(read(cert)), key: String(read(key)) };
  } catch (error) {
    logger.error(
      { error: errorText(error) },
      'media has no certificate of its own: where UDP is blocked nothing is heard',
    );
    return null;
  }
}

function read(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? errorText(error);
    throw new AppError('credentials-missing', `${path} can't be read (${why})`, {
      remedy: "The site host makes it at its first start, in its state folder's pki; copy it from there",
    });
  }
}
