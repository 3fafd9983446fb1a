import { asError, type FlowNode, type NodeRed, typedValue } from '../node-red.js';
import { joinStation, NO_STATION } from '../station-part.js';

interface LedConfig {
  readonly station: string;
  readonly led: string;
  readonly lit: string;
  readonly litType: string;
}

/** Lights an LED of the board, or puts it out. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-led', function led(this: FlowNode, config: LedConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        const lit = await typedValue(RED, this, { value: config.lit, type: config.litType }, message);
        if (typeof lit !== 'boolean') throw new Error(RED._('led.not-boolean', { value: String(lit) }));
        await part.connection.request('led.set', { led: config.led, lit });
        part.status.set({ fill: lit ? 'yellow' : 'grey', shape: lit ? 'dot' : 'ring', text: config.led });
        send(message);
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'dot', text: asError(error).message });
        done(asError(error));
      }
    });
  });
}
