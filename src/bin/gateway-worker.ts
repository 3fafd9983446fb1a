import { systemClock } from '../core/clock.js';
import { RoomWorker } from '../gateway/room-worker.js';

/** A room worker of the gateway, forked by its dispatcher; it ends when the dispatcher does. */
const worker = new RoomWorker({
  clock: systemClock,
  tell: (message) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => {});
  },
});
process.on('message', (message) => worker.take(message));
process.on('disconnect', () => process.exit(0));
