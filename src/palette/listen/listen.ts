import { asError, type FlowNode, type NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';
import { TapPart } from '../tap-part.js';
import { PcmChunks } from './pcm-chunks.js';

interface ListenConfig {
  readonly station: string;
  readonly source: 'microphone' | 'speaker';
  /** Flows of before know levels alone. */
  readonly output?: 'level' | 'pcm';
  readonly chunkMs?: number | string;
}

const SILENCE_DBFS = -96;
const [LEAST_CHUNK_MS, MOST_CHUNK_MS] = [20, 2_000];

/** Sends how loud the microphone or the speaker is, five times a second while its card is open; or its very sound, where that is granted. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-listen', function listen(this: FlowNode, config: ListenConfig) {
    RED.nodes.createNode(this, config);
    if (config.output === 'pcm') listenToSound(RED, this, config);
    else listenToLevel(RED, this, config);
  });
}

function listenToLevel(RED: NodeRed, node: FlowNode, config: ListenConfig): void {
  let wasOpen = false;
  const part = joinStation(RED, node, config, {
    wantsLevels: true,
    level: (level) => {
      const dbfs = config.source === 'speaker' ? level.speakerDbfs : level.microphoneDbfs;
      const isOpen = dbfs !== null;
      part?.status.set({
        fill: isOpen && dbfs > SILENCE_DBFS ? 'green' : 'grey',
        shape: isOpen ? 'dot' : 'ring',
        text: isOpen ? `${Math.round(dbfs)} dBFS` : RED._('listen.closed'),
      });
      if (isOpen || wasOpen) node.send({ topic: config.source, payload: dbfs });
      wasOpen = isOpen;
    },
  });
}

function listenToSound(RED: NodeRed, node: FlowNode, config: ListenConfig): void {
  const chunkMs = 10 * Math.round(Number(config.chunkMs ?? 100) / 10);
  if (!(chunkMs >= LEAST_CHUNK_MS && chunkMs <= MOST_CHUNK_MS)) {
    node.status({ fill: 'red', shape: 'ring', text: RED._('listen.bad-settings') });
    node.error(RED._('listen.bad-settings'));
    return;
  }
  const part = joinStation(RED, node, config);
  let lostMs = 0;
  const chunks = new PcmChunks(chunkMs, (chunk) => {
    lostMs += chunk.lostMs;
    part?.status.set({
      fill: lostMs === 0 ? 'green' : 'yellow',
      shape: 'dot',
      text: lostMs === 0 ? RED._('listen.hears') : RED._('listen.lost', { ms: lostMs }),
    });
    node.send({ topic: config.source, ...chunk });
  });
  const taps = new TapPart(part?.connection, [config.source], {
    sound: (_source, sound) => chunks.push(sound),
    refused: (error) => {
      part?.status.set({ fill: 'red', shape: 'ring', text: asError(error).message });
      node.error(asError(error));
    },
  });
  taps.open();
  node.on('close', (_removed, done) => {
    taps.close();
    done();
  });
}
