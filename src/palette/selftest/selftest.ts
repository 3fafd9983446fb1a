import { asError, type FlowNode, type NodeRed } from '../node-red.js';
import { joinStation, NO_STATION } from '../station-part.js';

interface SelfTestConfig {
  readonly station: string;
}

/** The station waits for others that call the echo extension. */
const MOST_MS = 40_000;
const COLOURS = { pass: 'green', fail: 'red', undecided: 'yellow' } as const;

/** Has the station test itself: the first output gets a test that passed, the second any other. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-selftest', function selftest(this: FlowNode, config: SelfTestConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        part.status.set({ fill: 'blue', shape: 'dot', text: RED._('selftest.runs') });
        const result = await part.connection.request('selftest.run', {}, { timeoutMs: MOST_MS });
        const { verdict, failed, ok } = result;
        const why = failed.length === 0 ? '' : `: ${failed.join(', ')}`;
        part.status.set({ fill: COLOURS[verdict], shape: 'dot', text: RED._(`selftest.${verdict}`) + why });
        const told = { ...message, topic: 'selftest', payload: result };
        send(ok ? [told, null] : [null, told]);
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
  });
}
