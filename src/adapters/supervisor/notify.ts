import * as z from 'zod';
import { type Logger, silentLogger } from '../../core/logger.js';
import { sdNotify } from './systemd-notify.js';

/** What a process tells its supervisor; the words of systemd's sd_notify(3). */
export const notice = z.discriminatedUnion('notice', [
  z.object({ notice: z.literal('ready') }),
  z.object({ notice: z.literal('watchdog') }),
  z.object({ notice: z.literal('status'), text: z.string().max(500) }),
  z.object({ notice: z.literal('stopping') }),
  z.object({ notice: z.literal('restart'), service: z.string().max(64), reason: z.string().max(500) }),
]);
export type Notice = z.infer<typeof notice>;

export interface Notifier {
  /** Start-up is done: what the process offers can be used. */
  ready(): void;
  /** The event loop turns. The supervisor ends a process whose watchdog stays silent. */
  watchdog(): void;
  /** One line for people, as `systemctl status` shows it. */
  status(text: string): void;
  /** Asks for another process of this station to be restarted. systemd hears it from a path unit, not from here. */
  restart(service: string, reason: string): void;
}

/** What the `main` of a process may say beside. */
export interface ProcessNotifier extends Notifier {
  /** It has begun to end, of its own will or on a signal. */
  stopping(): void;
}

/**
 * The way to whoever started this process:
 *
 *   an IPC channel      the foreground supervisor. The channel doesn't keep the process alive. When the supervisor dies the
 *                       process asks itself to end (SIGTERM): a station without one has nobody to make its door safe
 *   NOTIFY_SOCKET       systemd, or another that speaks sd_notify(3). Taken out of the environment, since no child of ours
 *                       may speak for us
 *   neither             nothing is sent
 * @throws AppError `notify-unavailable`
 */
export function notifier(logger: Logger = silentLogger): ProcessNotifier {
  const send = channelOf(logger);
  return {
    ready: () => send({ notice: 'ready' }),
    watchdog: () => send({ notice: 'watchdog' }),
    status: (text) => send({ notice: 'status', text: text.slice(0, 500) }),
    stopping: () => send({ notice: 'stopping' }),
    restart: (service, reason) => send({ notice: 'restart', service, reason: reason.slice(0, 500) }),
  };
}

function channelOf(logger: Logger): (message: Notice) => void {
  const address = process.env.NOTIFY_SOCKET;
  for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete process.env[name];
  if (process.channel !== undefined && process.channel !== null) {
    process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
    process.channel.unref();
    return (message) => {
      if (process.connected) process.send?.(message, undefined, undefined, () => {});
    };
  }
  if (address === undefined) return () => {};
  const tell = sdNotify(address, logger);
  return (message) => {
    if (message.notice !== 'restart') tell(stateOf(message));
  };
}

/** A line feed would begin another assignment. */
function stateOf(message: Exclude<Notice, { notice: 'restart' }>): string {
  if (message.notice === 'status') return `STATUS=${message.text.replaceAll(/[\r\n]+/g, ' ')}`;
  return `${message.notice.toUpperCase()}=1`;
}
