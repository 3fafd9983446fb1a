import { asError, type FlowNode, type NodeRed } from '../node-red.js';
import { joinStation, NO_STATION } from '../station-part.js';

/** Opens the door: in a call the peer's, without one the station's own. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-door', function door(this: FlowNode, config: { readonly station: string }) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        const answer = await part.connection.request('door.open', {});
        part.status.set({
          fill: answer.opened ? 'green' : 'red',
          shape: 'dot',
          text: `${answer.reason} ${new Date().toLocaleTimeString('en-GB')}`,
        });
        const told = { ...message, payload: answer };
        send(answer.opened ? [told, null] : [null, told]);
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
  });
}
