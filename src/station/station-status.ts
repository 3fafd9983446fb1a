import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Outbox } from '../adapters/sqlite/outbox.js';
import type { DefaultsInUse } from '../config/defaults.js';
import type { Board, Config } from '../config/schema.js';
import type { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import type { StationStatus } from '../protocol/station-api.js';
import type { CallControl } from './call-control.js';
import type { DoorControl } from './door-control.js';
import type { EdgeCounters } from './edge-counters.js';
import type { EngineClient } from './engine-client.js';
import type { Flows } from './flows.js';
import type { Hearing } from './hearing.js';
import type { Pins } from './pins.js';
import { actionText } from './press-actions.js';
import type { RemoteCommands } from './remote-commands.js';
import type { SelfTest } from './self-test.js';
import type { SiteHost } from './site-host.js';

/** What `station.status` answers: the whole of the station as it is now. */
export async function stationStatus(parts: {
  config: Config;
  board: Board;
  defaults: DefaultsInUse | null;
  link: MqttLink;
  calls: CallControl;
  door: DoorControl;
  pins: Pins;
  outbox: Outbox;
  engine: EngineClient;
  siteHost: SiteHost | undefined;
  flows: Flows | undefined;
  selfTest: SelfTest;
  hearing: Hearing;
  edge: EdgeCounters;
  refused: Counters<string>;
  commands: RemoteCommands;
}): Promise<StationStatus> {
  const { config, board, link, calls, door, pins } = parts;
  const { id, name, role } = config.station;
  const { connected, protocol, fault } = link.state;
  return {
    station: id,
    name,
    role,
    pid: process.pid,
    buttons: Object.entries(board.gpio.buttons).map(([button, { line }]) => {
      const broken = pins.buttonFault(button);
      const action = actionText(config.buttons[button]);
      return {
        name: button,
        line,
        action,
        working: broken === null,
        fault: broken === null ? null : errorText(broken),
      };
    }),
    broker: { connected, url: config.mqtt.url, protocol, fault: fault === null ? null : errorText(fault) },
    calls: calls.views(),
    door: {
      fitted: pins.relay !== undefined,
      open: pins.relay?.open ?? false,
      openings: door.openings,
      refused: door.authority.refused.all() as Record<string, number>,
    },
    microphoneLed: pins.leds.microphone?.lit ?? false,
    selfTest: parts.selfTest.last,
    gpio: pins.place(),
    outbox: parts.outbox.figures(),
    engine: await parts.engine.status(),
    siteHost: parts.siteHost?.status() ?? null,
    flows: parts.flows?.status ?? null,
    hearing: parts.hearing.status,
    defaults: defaultsTold(parts.defaults),
    edge: parts.edge.status,
    refused: {
      ...link.figures().dropped,
      ...parts.refused.all(),
      ...parts.flows?.refused.all(),
      ...parts.hearing.refused.all(),
      ...calls.refused.all(),
      ...Object.fromEntries(
        Object.entries(parts.commands.refused.all()).map(([fault, count]) => [`command-${fault}`, count ?? 0]),
      ),
    } as Record<string, number>,
  };
}

/** A hundred faults are one release that was never checked. */
const MOST_FAULTS = 16;

function defaultsTold(defaults: DefaultsInUse | null): StationStatus['defaults'] {
  if (defaults === null) return null;
  const { version, isApplied, faults } = defaults;
  const told = faults.slice(0, MOST_FAULTS).map(({ path, text }) => (path === '' ? text : `${path}: ${text}`));
  return { version, isApplied, faults: told };
}
