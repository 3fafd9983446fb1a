import { type RpcServer, serveRpc } from '../adapters/sockets/rpc.js';
import type { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { type StationStatus, stationNotifications, stationRequests } from '../protocol/station-api.js';
import type { CallControl } from './call-control.js';
import type { CallDigits } from './call-digits.js';
import type { DoorControl } from './door-control.js';
import type { SelfTest } from './self-test.js';
import type { StationUpdates } from './station-updates.js';

export type LocalApi = RpcServer<typeof stationNotifications>;

/** Serves the station's local API (protocol/station-api.ts) on a Unix socket. @throws AppError `socket-taken`, `socket-failed` */
export function serveLocalApi(options: {
  path: string;
  calls: CallControl;
  digits: CallDigits;
  door: DoorControl;
  selfTest: SelfTest;
  updates: StationUpdates | undefined;
  status: () => Promise<StationStatus>;
  logger: Logger;
  refused: Counters<string>;
}): Promise<LocalApi> {
  const { path, calls, digits, door, selfTest, updates, status, logger, refused } = options;
  return serveRpc({
    path,
    requests: stationRequests,
    notifications: stationNotifications,
    handlers: {
      'call.place': ({ target }) => ({ callId: calls.place(target) }),
      'call.answer': ({ callId }) => ({ callId: calls.answer(callId) }),
      'call.reject': ({ callId }) => ({ callId: calls.reject(callId) }),
      'call.hangUp': async ({ callId }) => {
        const ended = calls.hangUp(callId);
        return { callId: ended, figures: await calls.figures(ended) };
      },
      'call.dtmf': async (params) => ({ callId: await digits.send(params.digits, params.durationMs) }),
      'door.open': () => door.open(),
      'selftest.run': () => selfTest.run('local'),
      'station.status': status,
      'update.status': () => needed(updates).status(),
      'update.install': ({ folder }) => needed(updates).installFrom(folder),
      'update.cancel': async ({ jobId }) => {
        await needed(updates).cancel(jobId, 'by somebody at the station');
        return {};
      },
    },
    logger,
    refused,
  });
}

function needed(updates: StationUpdates | undefined): StationUpdates {
  if (updates !== undefined) return updates;
  throw new AppError('updates-off', 'this station does not run from slots', {
    remedy: 'Install it with slots: docs/board.md',
  });
}
