import { randomUUID } from 'node:crypto';
import { readSoundFile } from '../../adapters/speech/wav-file.js';
import { CLIP_RATE_HZ, type ClipEnd, type ClipPlace, piecesOf } from '../../protocol/clip-api.js';
import type { FlowsSound } from '../../protocol/flows-api.js';
import { asError, type FlowNode, type Message, type NodeRed, typedValue } from '../node-red.js';
import type { StationConnection } from '../station/station-connection.js';
import { joinStation, NO_STATION } from '../station-part.js';

interface SayConfig {
  readonly station: string;
  readonly what: 'text' | 'tone' | 'file';
  readonly to: ClipPlace;
  /** The text, the tone's frequency in Hz, or the file's path. */
  readonly value: string;
  readonly valueType: string;
  readonly voice: string;
  /** Of a tone. */
  readonly durationMs: number | string;
}

/** Sounds that were over before it was known which they are: a short one can be. */
const MOST_EARLY = 8;

/** Plays a text, a tone or a WAV file, on the speaker or into the call; done when it is over. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-say', function say(this: FlowNode, config: SayConfig) {
    RED.nodes.createNode(this, config);
    const playing = new Map<string, (reason: ClipEnd) => void>();
    const early = new Map<string, ClipEnd>();
    const part = joinStation(RED, this, config, {
      state: (state) => {
        // Who closes the connection has the sounds end; who loses it does not know.
        const reason = state === 'closed' ? 'stopped' : 'media-lost';
        if (state !== 'connected') for (const over of [...playing.values()]) over(reason);
      },
      soundEnded: (playId, reason) => {
        const over = playing.get(playId);
        if (over !== undefined) return over(reason);
        early.set(playId, reason);
        if (early.size > MOST_EARLY) early.delete([...early.keys()][0] ?? '');
      },
    });
    const isOver = (playId: string) =>
      new Promise<ClipEnd>((resolve) => {
        const reason = early.get(playId);
        early.delete(playId);
        if (reason !== undefined) return resolve(reason);
        playing.set(playId, (end) => {
          playing.delete(playId);
          resolve(end);
        });
      });
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        const sound = await soundOf(RED, this, config, message, part.connection);
        const { playId, durationMs } = await part.connection.request('sound.play', { to: config.to, sound });
        part.status.set({
          fill: 'green',
          shape: 'dot',
          text: RED._('say.plays', { s: (durationMs / 1_000).toFixed(1) }),
        });
        const reason = await isOver(playId);
        if (playing.size === 0) part.status.set({ fill: 'grey', shape: 'ring', text: RED._(`say.end.${reason}`) });
        if (reason === 'not-played' || reason === 'media-lost') throw new Error(RED._(`say.end.${reason}`));
        send({ ...message, payload: { playId, to: config.to, durationMs, reason } });
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
    this.on('close', (_removed, done) => {
      for (const [playId, over] of [...playing]) {
        part?.connection.request('sound.stop', { playId }).catch(() => {});
        over('stopped');
      }
      done();
    });
  });
}

async function soundOf(
  RED: NodeRed,
  node: FlowNode,
  config: SayConfig,
  message: Message,
  connection: StationConnection,
): Promise<FlowsSound> {
  const given = await typedValue(RED, node, { value: config.value, type: config.valueType }, message);
  switch (config.what) {
    case 'tone': {
      const [hz, durationMs] = [Number(given), Math.round(Number(config.durationMs || 500))];
      const isFit = (typeof given === 'number' || typeof given === 'string') && hz >= 50 && hz <= 7_000;
      if (!isFit) throw new Error(RED._('say.not-tone', { value: shown(given) }));
      if (!(durationMs >= 10 && durationMs <= 30_000)) throw new Error(RED._('say.not-duration'));
      return { kind: 'tone', hz, durationMs };
    }
    case 'file': {
      if (typeof given !== 'string' || given === '') throw new Error(RED._('say.not-file', { type: typeof given }));
      const soundId = randomUUID();
      for (const pcm of piecesOf(await readSoundFile(given, CLIP_RATE_HZ))) {
        await connection.request('sound.load', { soundId, pcm });
      }
      return { kind: 'pcm', soundId };
    }
    case 'text': {
      if (typeof given !== 'string' && typeof given !== 'number') {
        throw new Error(RED._('say.not-text', { type: typeof given }));
      }
      const text = String(given).trim();
      if (text === '' || text.length > 500) throw new Error(RED._('say.not-length', { length: text.length }));
      return { kind: 'text', text, voice: config.voice || 'en' };
    }
    default:
      throw new Error(RED._('say.no-kind'));
  }
}

function shown(value: unknown): string {
  return String(value).slice(0, 40);
}
