import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { Restarted } from '../protocol/command.js';
import type { CallControl } from './call-control.js';
import type { EngineClient } from './engine-client.js';
import type { Flows } from './flows.js';

/** The answer that it will restart gets out before it does. */
const ANSWER_FIRST_MS = 300;
/** A call that came in that moment is not ended: whether it is over is looked at so often. */
const LOOK_EVERY_MS = 1_000;

/**
 * How each process of a station is restarted from afar: by its supervisor. Media comes back within the same call; the station itself ends
 * no call for it. None is restarted while a release is on trial.
 */
export function remoteRestart(parts: {
  engine: Pick<EngineClient, 'restart'>;
  calls: Pick<CallControl, 'current'>;
  flows: () => Flows | undefined;
  /** The version of a release that has yet to prove itself; null where there is none. */
  onTrial: () => string | null;
  /** Has this process end, to be started again; undefined where nobody would start it. */
  endStation: (() => void) | undefined;
  clock: Clock;
}): (service: Restarted, reason: string) => Promise<void> {
  const { engine, calls, flows, onTrial, endStation, clock } = parts;
  const absent = (service: Restarted): AppError =>
    new AppError('service-absent', `this station has no ${service} process that could be restarted`);
  const restart: Readonly<Record<Restarted, (reason: string) => void | Promise<void>>> = {
    media: () => engine.restart(),
    flows: (reason) => {
      const running = flows();
      if (running === undefined) throw absent('flows');
      running.restart(reason);
    },
    station: () => {
      if (endStation === undefined) throw absent('station');
      if (calls.current !== undefined) {
        throw new AppError('line-busy', 'a call lives', { remedy: 'Restart the station when it is over' });
      }
      const endQuietly = (): void => {
        if (calls.current === undefined) endStation();
        else clock.after(LOOK_EVERY_MS, endQuietly);
      };
      clock.after(ANSWER_FIRST_MS, endQuietly);
    },
  };
  return async (service, reason) => {
    const version = onTrial();
    // Each start of the station counts against the release, and without media or flows it fails its proofs.
    if (version !== null) {
      throw new AppError('release-on-trial', `release ${version} is on trial`, {
        remedy: 'Restart it when the release is confirmed, or has gone back: in a few minutes',
      });
    }
    return restart[service](reason);
  };
}
