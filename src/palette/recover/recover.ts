import { asError, type FlowNode, type NodeRed } from '../node-red.js';
import type { StationConnection } from '../station/station-connection.js';
import { joinStation, NO_STATION } from '../station-part.js';

const ACTIONS = ['media', 'inference', 'flows'] as const;
type Action = (typeof ACTIONS)[number];

interface RecoverConfig {
  readonly station: string;
  readonly action: Action;
}

const deeds: Readonly<Record<Action, (connection: StationConnection) => Promise<object>>> = {
  media: (connection) => connection.request('service.restart', { service: 'media' }),
  inference: (connection) => connection.request('service.restart', { service: 'inference' }),
  flows: (connection) => connection.request('flows.fallBack', {}),
};

/** Restarts a part of the station that loses nothing by it, or puts the last good flows in the place of these. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-recover', function recover(this: FlowNode, config: RecoverConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        if (!Object.hasOwn(deeds, config.action)) throw new Error(RED._('recover.no-action'));
        await deeds[config.action](part.connection);
        part.status.set({ fill: 'green', shape: 'dot', text: RED._(`recover.done.${config.action}`) });
        send({ ...message, payload: { action: config.action } });
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
  });
}
