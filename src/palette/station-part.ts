import { systemClock } from '../core/clock.js';
import type { FlowNode, NodeRed, NodeStatus } from './node-red.js';
import type { StationNode } from './station/station.js';
import type { StationConnection, StationListener } from './station/station-connection.js';
import { StatusLine } from './status-line.js';

/** Said by every node; its text is the config node's. */
export const NO_STATION = '@entryphone/node-red/entryphone-station:station.none';

/** What every node of the palette has: the config node's connection, a status, and an end. */
export interface StationPart {
  readonly connection: StationConnection;
  readonly status: StatusLine;
}

/**
 * Makes a node part of its station: listens, shows whether the station is there, and undoes both when the node closes.
 * @param idle what the status says while the station is there and nothing has happened
 * @returns undefined, and an error on the node, where no station is chosen
 */
export function joinStation(
  RED: NodeRed,
  node: FlowNode,
  config: { readonly station: string },
  listener: StationListener & { readonly idle?: NodeStatus } = {},
): StationPart | undefined {
  const status = new StatusLine(node, systemClock);
  const station = RED.nodes.getNode(config.station) as StationNode | null | undefined;
  if (station?.connection === undefined) {
    status.set({ fill: 'red', shape: 'ring', text: RED._(NO_STATION) });
    node.error(RED._(NO_STATION));
    return undefined;
  }
  const { connection } = station;
  const leave = connection.listen({
    ...listener,
    state: (state) => {
      listener.state?.(state);
      if (state === 'connected') status.set(listener.idle ?? { fill: 'green', shape: 'ring', text: '' });
      else
        status.set({ fill: 'red', shape: 'ring', text: RED._('@entryphone/node-red/entryphone-station:station.away') });
    },
  });
  node.on('close', (_removed, done) => {
    leave();
    status.close();
    done();
  });
  return { connection, status };
}
