import { pino } from 'pino';
import type { LogTap } from '../core/log-tap.js';
import { type Logger, withoutSecrets } from '../core/logger.js';

/** pino on stderr, one JSON line an event, as every process of Entryphone logs; keys of SRTP are left out of each line. `tap` reads along. */
export function processLogger(name: string, level: 'debug' | 'info' | 'warn' = 'info', tap?: LogTap): Logger {
  const written = (line: string): string => {
    const text = withoutSecrets(line);
    tap?.tell(text);
    return text;
  };
  return pino(
    { name, level: process.env.ENTRYPHONE_LOG ?? level, hooks: { streamWrite: written } },
    pino.destination({ fd: 2, sync: true }),
  );
}
