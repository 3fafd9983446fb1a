import { asError, type FlowNode, type Message, type NodeRed, typedValue } from '../node-red.js';
import type { StationConnection } from '../station/station-connection.js';
import { joinStation, NO_STATION } from '../station-part.js';

const ACTIONS = ['place', 'answer', 'reject', 'hang-up', 'mute', 'unmute', 'volume'] as const;
type Action = (typeof ACTIONS)[number];

interface CallConfig {
  readonly station: string;
  readonly action: Action;
  /** Whom to call, or how loud in percent. */
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
};

/** Does one thing with the station's call. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-call', function call(this: FlowNode, config: CallConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    const inputValue = (message: Message) =>
      config.action === 'place' || config.action === 'volume'
        ? typedValue(RED, this, { value: config.value, type: config.valueType }, message)
        : Promise.resolve(undefined);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        if (!Object.hasOwn(deeds, config.action)) throw new Error(RED._('call.no-action'));
        const payload = await deeds[config.action](part.connection, await inputValue(message));
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
