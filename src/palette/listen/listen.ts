import type { FlowNode, NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';

interface ListenConfig {
  readonly station: string;
  readonly source: 'microphone' | 'speaker';
}

const SILENCE_DBFS = -96;

/** Sends how loud the microphone or the speaker is, five times a second while its card is open. Never what is said. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-listen', function listen(this: FlowNode, config: ListenConfig) {
    RED.nodes.createNode(this, config);
    let wasOpen = false;
    const part = joinStation(RED, this, config, {
      wantsLevels: true,
      level: (level) => {
        const dbfs = config.source === 'speaker' ? level.speakerDbfs : level.microphoneDbfs;
        const isOpen = dbfs !== null;
        part?.status.set({
          fill: isOpen && dbfs > SILENCE_DBFS ? 'green' : 'grey',
          shape: isOpen ? 'dot' : 'ring',
          text: isOpen ? `${Math.round(dbfs)} dBFS` : RED._('listen.closed'),
        });
        if (isOpen || wasOpen) this.send({ topic: config.source, payload: dbfs });
        wasOpen = isOpen;
      },
    });
  });
}
