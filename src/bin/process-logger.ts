import { pino } from 'pino';
import type { Logger } from '../core/logger.js';

/** pino on stderr, one JSON line an event, as every process of Entryphone logs. */
export function processLogger(name: string, level: 'debug' | 'info' | 'warn' = 'info'): Logger {
  return pino({ name, level: process.env.ENTRYPHONE_LOG ?? level }, pino.destination({ fd: 2, sync: true }));
}
