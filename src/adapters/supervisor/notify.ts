import { z } from 'zod';

/** What a process tells its supervisor; the same three words that systemd's sd_notify(3) knows. */
export const notice = z.discriminatedUnion('notice', [
  z.object({ notice: z.literal('ready') }),
  z.object({ notice: z.literal('watchdog') }),
  z.object({ notice: z.literal('status'), text: z.string().max(500) }),
]);
export type Notice = z.infer<typeof notice>;

export interface Notifier {
  /** Start-up is done: what the process offers can be used. */
  ready(): void;
  /** The event loop turns. The supervisor ends a process whose watchdog stays silent. */
  watchdog(): void;
  status(text: string): void;
}

/**
 * Notices over the IPC channel that the supervisor opened; without one, nothing is sent. The channel doesn't keep the
 * process alive. When the supervisor dies the process asks itself to end (SIGTERM): a station without one has nobody to
 * make its door safe.
 */
export function notifier(): Notifier {
  const send = (message: Notice): void => {
    if (process.connected) process.send?.(message, undefined, undefined, () => {});
  };
  if (process.channel !== undefined && process.channel !== null) {
    process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
    process.channel.unref();
  }
  return {
    ready: () => send({ notice: 'ready' }),
    watchdog: () => send({ notice: 'watchdog' }),
    status: (text) => send({ notice: 'status', text }),
  };
}
