import { asError, type FlowNode, type NodeRed, typedValue } from '../node-red.js';
import { joinStation, NO_STATION } from '../station-part.js';

interface DtmfConfig {
  readonly station: string;
  readonly digits: string;
  readonly digitsType: string;
  readonly durationMs: number | string;
}

const DIGITS = /^[0-9*#A-D]{1,32}$/;

/** Sends digits of a telephone into the call. What they are it neither shows nor says: they may be somebody's code. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-dtmf', function dtmf(this: FlowNode, config: DtmfConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        const given = await typedValue(RED, this, { value: config.digits, type: config.digitsType }, message);
        // A number has lost its leading zeros, and knows no star: whoever sends one finds out now, not at the far end.
        if (typeof given !== 'string') throw new Error(RED._('dtmf.not-text', { type: typeof given }));
        if (!DIGITS.test(given)) throw new Error(RED._('dtmf.not-digits', { length: given.length }));
        const durationMs = Math.round(Number(config.durationMs || 100));
        const payload = await part.connection.request('call.dtmf', { digits: given, durationMs });
        part.status.set({ fill: 'green', shape: 'dot', text: RED._('dtmf.sent', { digits: given.length }) });
        send({ ...message, payload });
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
  });
}
