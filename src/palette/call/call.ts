import { type PathChoice, pathChoice } from '../../protocol/flows-api.js';
import { asError, type FlowNode, type Message, type NodeRed, typedValue } from '../node-red.js';
import type { StationConnection } from '../station/station-connection.js';
import { joinStation, NO_STATION } from '../station-part.js';

const ACTIONS = ['place', 'answer', 'reject', 'hang-up', 'mute', 'unmute', 'volume', 'limit', 'path'] as const;
type Action = (typeof ACTIONS)[number];

interface CallConfig {
  readonly station: string;
  readonly action: Action;
  /** Whom to call, how loud in percent, how much to send in kbit/s, or which path to take. */
  readonly value: string;
  readonly valueType: string;
}

const deeds: Readonly<Record<Action, (connection: StationConnection, value: unknown) => Promise<object>>> = {
  place: (connection, value) => connection.request('call.place', { target: String(value ?? '') }),
  answer: (connection) => connection.request('call.answer', {}),
  reject: (connection) => connection.request('call.reject', {}),
  'hang-up': (connection) => connection.request('call.hangUp', {}),
  mute: (connection) => connection.request('call.mute', { muted: true }),
  unmute: (connection) => connection.request('call.mute', { muted: false }),
  volume: (connection, value) => connection.request('call.volume', { percent: Math.round(Number(value)) }),
  limit: (connection, value) => connection.request('call.limit', { bitrateBps: bitrateOf(value) }),
  path: (connection, value) => connection.request('call.path', { path: value as PathChoice }),
};

/** kbit/s; nothing, or 0, lifts the limit. */
function bitrateOf(value: unknown): number | null {
  const kbps = value === null || value === undefined || value === '' ? 0 : Number(value);
  return kbps === 0 ? null : Math.round(kbps * 1_000);
}

/** Actions with a value, and what a value of them must be; others are the station's to judge. */
const fits: Partial<Record<Action, (value: unknown) => boolean>> = {
  place: () => true,
  volume: () => true,
  limit: (value) => {
    const bitrateBps = bitrateOf(value);
    return bitrateBps === null || (bitrateBps >= 12_000 && bitrateBps <= 512_000);
  },
  path: (value) => pathChoice.safeParse(value).success,
};

/** Does one thing with the station's call. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-call', function call(this: FlowNode, config: CallConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    const inputValue = (message: Message) =>
      Object.hasOwn(fits, config.action)
        ? typedValue(RED, this, { value: config.value, type: config.valueType }, message)
        : Promise.resolve(undefined);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        if (!Object.hasOwn(deeds, config.action)) throw new Error(RED._('call.no-action'));
        const value = await inputValue(message);
        if (fits[config.action]?.(value) === false) {
          throw new Error(RED._(`call.not-${config.action}`, { value: String(value).slice(0, 40) }));
        }
        const payload = await deeds[config.action](part.connection, value);
        part.status.set({ fill: 'green', shape: 'dot', text: RED._(`call.done.${config.action}`) });
        send({ ...message, payload });
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
  });
}
