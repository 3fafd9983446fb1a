import { systemClock } from '../../core/clock.js';
import { FLOWS_SOCKET } from '../../protocol/flows-api.js';
import type { FlowNode, NodeRed } from '../node-red.js';
import { StationConnection } from './station-connection.js';

interface StationConfig {
  readonly name: string;
  /** Path of a station's `flows.sock`; empty: the station that runs these flows. */
  readonly socket: string;
}

/** The config node that owns the connection. */
export interface StationNode extends FlowNode {
  connection: StationConnection;
}

export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-station', function station(this: FlowNode, config: StationConfig) {
    RED.nodes.createNode(this, config);
    const path = config.socket || process.env.ENTRYPHONE_FLOWS_SOCKET || `/run/entryphone/${FLOWS_SOCKET}`;
    const connection = new StationConnection({ path, clock: systemClock });
    Object.assign(this, { connection });
    this.on('close', (_removed, done) => {
      connection.close();
      done();
    });
  });
}
