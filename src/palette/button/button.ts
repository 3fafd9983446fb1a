import { asError, type FlowNode, type NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';

interface ButtonConfig {
  readonly station: string;
  readonly button: string;
  readonly press: boolean;
  readonly long: boolean;
  readonly double: boolean;
}

/** Sends a message for each press that it takes: first it takes it, then it sends. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-button', function button(this: FlowNode, config: ButtonConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config, {
      button: { name: config.button, presses: config.press, gestures: config.long || config.double },
      pressed: async ({ pressId, kind }) => {
        if (part === undefined || !config[kind]) return;
        const { connection, status } = part;
        const message = { topic: config.button, payload: kind, pressId, call: connection.call };
        try {
          if (kind === 'press') await connection.request('press.acknowledge', { pressId });
        } catch (error) {
          // The station does it itself by now: a second time would be once too many.
          status.set({ fill: 'yellow', shape: 'ring', text: RED._('button.late') });
          this.warn(asError(error).message);
          return;
        }
        status.set({ fill: 'green', shape: 'dot', text: `${kind} ${new Date().toLocaleTimeString('en-GB')}` });
        this.send(message);
      },
    });
  });
}
