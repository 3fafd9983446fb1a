import { pino } from 'pino';
import { type Logger, withoutSecrets } from '../core/logger.js';

/** pino on stderr, one JSON line an event, as every process of Entryphone logs; keys of SRTP are left out of each line. */
export function processLogger(name: string, level: 'debug' | 'info' | 'warn' = 'info'): Logger {
  return pino(
    { name, level: process.env.ENTRYPHONE_LOG ?? level, hooks: { streamWrite: withoutSecrets } },
    pino.destination({ fd: 2, sync: true }),
  );
}
