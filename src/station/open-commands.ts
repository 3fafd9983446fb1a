import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { CallControl } from './call-control.js';
import type { EngineClient } from './engine-client.js';
import type { Flows } from './flows.js';
import type { OpenUpdates } from './open-updates.js';
import type { OtherLogs } from './other-logs.js';
import { RemoteCommands } from './remote-commands.js';
import { remoteRestart } from './remote-restart.js';
import type { SelfTest } from './self-test.js';
import type { StationOptions } from './station-options.js';

/** Joins what a fleet manager may order to the rest of the station. */
export function openCommands(parts: {
  readonly options: StationOptions;
  readonly engine: EngineClient;
  readonly calls: CallControl;
  readonly flows: () => Flows | undefined;
  readonly updates: () => OpenUpdates | undefined;
  readonly link: MqttLink;
  readonly selfTest: SelfTest;
  readonly logs: OtherLogs;
  /** Keeps an event for the broker. */
  readonly note: (kind: string, body: object) => void;
}): RemoteCommands {
  const { options, engine, calls, flows, updates, link, selfTest, logs, note } = parts;
  const { config, clock, logger } = options;
  const onTrial = (): string | null => updates()?.own.onTrial ?? null;
  return new RemoteCommands({
    site: config.station.site,
    station: config.station.id,
    keys: config.fleet.commandKeys,
    link,
    selfTest: (by) => selfTest.run(by),
    restart: remoteRestart({ engine, calls, flows, onTrial, endStation: options.end, clock }),
    logTap: logs.tap,
    others: logs,
    note,
    clock,
    logger,
  });
}
