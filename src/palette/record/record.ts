import { systemClock } from '../../core/clock.js';
import { errorText } from '../../core/errors.js';
import { asError, type FlowNode, type Message, type NodeRed, typedValue } from '../node-red.js';
import type { TapSource } from '../station/shared-taps.js';
import { joinStation, NO_STATION } from '../station-part.js';
import { TapPart } from '../tap-part.js';
import { newClipEncoder } from './clip-encoder.js';
import { Recorder, type RecorderOptions, type Recording } from './recorder.js';
import { RecordingFile } from './recording-file.js';

interface RecordConfig {
  readonly station: string;
  readonly source: TapSource | 'both';
  /** `clip`: each message gets a clip of its own; `switch`: messages start and stop one recording. */
  readonly mode: 'clip' | 'switch';
  readonly preRollS: number | string;
  /** Of what comes after the message; of a recording that is switched the most. */
  readonly lengthS: number | string;
  readonly mostKb: number | string;
  readonly bitrateKbps: number | string;
  readonly into: 'buffer' | 'file';
  readonly file: string;
  readonly fileType: string;
}

interface Switched {
  recording?: Recording;
  /** Before it had begun. */
  isOff?: boolean;
}

const CONTENT_TYPE = 'audio/ogg; codecs=opus';
const [MOST_PRE_ROLL_S, MOST_LENGTH_S] = [30, 3_600];
const MOST_KB = { buffer: 4_096, file: 65_536 } as const;

/** Records the microphone, the speaker or both, as Ogg Opus, into a message or a file below the flows' folder. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-record', function record(this: FlowNode, config: RecordConfig) {
    RED.nodes.createNode(this, config);
    const settings = settingsOf(config);
    if (settings === undefined) {
      this.status({ fill: 'red', shape: 'ring', text: RED._('record.bad-settings') });
      this.error(RED._('record.bad-settings'));
      this.on('input', (_message, _send, done) => done(new Error(RED._('record.bad-settings'))));
      return;
    }
    const part = joinStation(RED, this, config, { idle: { fill: 'grey', shape: 'ring', text: RED._('record.ready') } });
    const show = (fill: 'red' | 'green', shape: 'dot' | 'ring', text: string) =>
      part?.status.set({ fill, shape, text });
    const recorder = new Recorder(settings);
    const taps = new TapPart(part?.connection, settings.sources, {
      sound: (source, sound) => recorder.sound(source, sound),
      refused: (error) => show('red', 'ring', asError(error).message),
    });
    // What came before a message is there only if somebody listened.
    if (settings.preRollMs > 0) taps.open();
    const running = new Set<Promise<void>>();
    /** Of the recording that is switched on. */
    let current: Switched | undefined;

    const fileFor = async (message: Message): Promise<RecordingFile> => {
      const name = await typedValue(RED, this, { value: config.file, type: config.fileType }, message);
      if (typeof name !== 'string') throw new Error(RED._('record.no-name', { type: typeof name }));
      const stamp = new Date().toISOString().replace(/[:.]/g, '-');
      return RecordingFile.create(RED.settings.userDir ?? '.', name || stamp);
    };
    /** Until the recording has ended, and its message is sent. */
    const recorded = async (message: Message, started: (recording: Recording) => void): Promise<void> => {
      if (part === undefined) throw new Error(RED._(NO_STATION));
      if (!recorder.mayStart) throw new Error(RED._('record.too-many'));
      taps.open();
      await taps.granted();
      const file = config.into === 'file' ? await fileFor(message) : undefined;
      const parts: Uint8Array[] = [];
      const sink = file ?? { write: async (bytes: Uint8Array) => void parts.push(bytes) };
      try {
        const recording = recorder.start({ sink, lengthMs: settings.lengthMs, mostBytes: settings.mostBytes });
        started(recording);
        show('red', 'dot', RED._('record.records'));
        const figures = await recording.done;
        // A file is kept as far as it goes; a message has nobody to go to any more.
        if (figures.endedBy === 'closed' && file === undefined) return;
        if (figures.durationMs <= 0) throw new Error(RED._('record.nothing-heard'));
        await file?.finish();
        const text = { seconds: (figures.durationMs / 1_000).toFixed(1), kb: Math.ceil(figures.sizeBytes / 1_024) };
        show('green', 'dot', RED._('record.recorded', text));
        const payload = file?.path ?? Buffer.concat(parts);
        this.send({ ...message, payload, contentType: CONTENT_TYPE, recording: figures });
      } catch (error) {
        await file?.discard();
        throw error;
      }
    };
    const run = async (message: Message, started: (recording: Recording) => void = () => {}): Promise<void> => {
      const one = recorded(message, started);
      running.add(one);
      try {
        await one;
      } finally {
        running.delete(one);
        if (running.size === 0 && settings.preRollMs === 0) taps.close();
      }
    };
    const switched = async (message: Message): Promise<void> => {
      const order = message.payload === 'toggle' ? current === undefined : ORDERS.get(message.payload);
      if (order === undefined)
        throw new Error(RED._('record.no-order', { value: String(message.payload).slice(0, 40) }));
      if (!order) {
        if (current !== undefined) current.isOff = true;
        return current?.recording?.stop('stopped');
      }
      if (current !== undefined) return;
      const own: Switched = {};
      current = own;
      await run(message, (recording) => {
        own.recording = recording;
        if (own.isOff === true) recording.stop('stopped');
      }).finally(() => {
        current = undefined;
      });
    };

    this.on('input', async (message, _send, done) => {
      try {
        await (config.mode === 'clip' ? run(message) : switched(message));
        done();
      } catch (error) {
        show('red', 'dot', asError(error).message);
        done(new Error(errorText(error)));
      }
    });
    this.on('close', (_removed, done) => {
      recorder.close();
      taps.close();
      void Promise.allSettled(running).then(() => done());
    });
  });
}

const ORDERS: ReadonlyMap<unknown, boolean> = new Map<unknown, boolean>([
  ['start', true],
  [true, true],
  ['stop', false],
  [false, false],
]);

/** undefined where the settings make no sense. */
function settingsOf(config: RecordConfig): (RecorderOptions & { lengthMs: number; mostBytes: number }) | undefined {
  const [preRollS, lengthS] = [Number(config.preRollS || 0), Number(config.lengthS || 0)];
  const [mostKb, bitrateKbps] = [Number(config.mostKb), Number(config.bitrateKbps)];
  const makesSense =
    preRollS >= 0 &&
    preRollS <= MOST_PRE_ROLL_S &&
    lengthS >= 0 &&
    lengthS <= MOST_LENGTH_S &&
    preRollS + lengthS > 0 &&
    mostKb >= 1 &&
    mostKb <= MOST_KB[config.into] &&
    bitrateKbps >= 6 &&
    bitrateKbps <= 64;
  if (!makesSense) return undefined;
  return {
    sources: config.source === 'both' ? ['microphone', 'speaker'] : [config.source],
    preRollMs: preRollS * 1_000,
    lengthMs: lengthS * 1_000,
    mostBytes: mostKb * 1_024,
    newEncoder: () => newClipEncoder(bitrateKbps * 1_000),
    clock: systemClock,
  };
}
