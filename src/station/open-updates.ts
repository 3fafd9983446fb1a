import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Notifier } from '../adapters/supervisor/notify.js';
import type { DefaultsInUse } from '../config/defaults.js';
import type { Board, Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { installedVersion } from '../core/package-root.js';
import { type UpdateView, viewOfJob } from '../protocol/update.js';
import { configTarget } from './config-target.js';
import type { EngineClient } from './engine-client.js';
import { FleetUpdates } from './fleet-updates.js';
import type { Flows } from './flows.js';
import { flowsTarget } from './flows-target.js';
import type { Hearing } from './hearing.js';
import { modelsTarget } from './models-target.js';
import type { SelfTest } from './self-test.js';
import type { StationReports } from './station-reports.js';
import { StationUpdates } from './station-updates.js';

/** Nobody can call meanwhile. */
const MEDIA_WITHIN_MS = 45_000;
/** They may take half a minute to start on a small board, and buttons ring without them. */
const FLOWS_WITHIN_MS = 120_000;

/** The station's own updates, and what the fleet manager says of them. */
export interface OpenUpdates {
  readonly own: StationUpdates;
  readonly fleet: FleetUpdates;
  close(): void;
}

/**
 * Joins a station's updates to the rest of it.
 * @returns undefined where it does not run from slots
 * @throws AppError `folder-unusable`, `trust-root-invalid`
 */
export async function openUpdates(parts: {
  readonly config: Config;
  readonly board: Board;
  readonly file: string;
  readonly defaults: DefaultsInUse | null;
  readonly link: MqttLink;
  readonly reports: StationReports;
  readonly engine: EngineClient;
  readonly flows: () => Flows | undefined;
  readonly hearing: Hearing;
  readonly isInCall: () => boolean;
  readonly isDoorOpen: () => boolean;
  readonly selfTest: SelfTest;
  readonly notify: Pick<Notifier, 'restart'>;
  readonly told: (view: UpdateView) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}): Promise<OpenUpdates | undefined> {
  const { config, board, file, defaults, link, engine, reports, flows, hearing, isInCall, isDoorOpen } = parts;
  const { selfTest, notify, told, clock, logger } = parts;
  const { slots } = config.update;
  if (slots === undefined) return undefined;
  const fleet = await FleetUpdates.open({ config, link, reports, isInCall, clock, logger });
  const own = await StationUpdates.open({
    ...{ config, board, notify, clock, logger },
    firmware: installedVersion(),
    noise: () => (isInCall() ? 'a call lives' : isDoorOpen() ? 'the door is open' : null),
    lacks: async () => {
      if ((await engine.status()) === null) return { text: 'media does not run', withinMs: MEDIA_WITHIN_MS };
      const { state = 'running', fault = null } = flows()?.status ?? {};
      if (state === 'running' || state === 'idle') return null;
      const text = `flows do not run (${state}${fault === null ? '' : `: ${fault.text}`})`;
      return { text, withinMs: FLOWS_WITHIN_MS };
    },
    isOnBroker: () => link.state.connected,
    selfTest: () => selfTest.run('update'),
    fleetSource: (origin) => fleet.fetcher(origin),
    repository: fleet.repository,
    others: ({ station, diskOf, logger: about }) => ({
      flows: flowsTarget({ flows: flows(), disk: diskOf('flows'), config, clock, logger: about }),
      config: configTarget(station, { slots, file, defaults, clock }),
      models: modelsTarget({ slots, config, hearing, clock }),
    }),
    told: (journal) => {
      told(viewOfJob(journal));
      fleet.changed(journal);
    },
  });
  if (own === undefined) return undefined;
  // First what was begun before this process was: a job that the broker says again is known by then.
  await own.resume().catch((error: unknown) => logger.error({ error: errorText(error) }, 'updates'));
  await fleet.serve(own);
  return {
    own,
    fleet,
    close: () => {
      own.close();
      fleet.close();
    },
  };
}
