import type { FlowNode, NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';

interface CallEventConfig {
  readonly station: string;
  /** `any`, or the one state that is told. */
  readonly state: 'any' | 'inviting' | 'ringing-out' | 'ringing-in' | 'answered' | 'ended';
}

/** Sends a message whenever the station's call comes into another state. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-call-event', function callEvent(this: FlowNode, config: CallEventConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config, {
      call: (view) => {
        const isOver = view.state === 'ended';
        const peer = view.peerName || view.peer;
        part?.status.set({
          fill: isOver ? 'grey' : 'blue',
          shape: isOver ? 'ring' : 'dot',
          text: `${view.state} ${peer}${view.reason === null ? '' : `: ${view.reason}`}`,
        });
        if (config.state === 'any' || config.state === view.state) this.send({ topic: view.state, payload: view });
      },
    });
  });
}
