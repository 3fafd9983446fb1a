import { systemClock } from '../../core/clock.js';
import type { FlowNode, NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';
import { DigitCode } from './digit-code.js';

interface DtmfEventConfig {
  readonly station: string;
  readonly collect: 'each' | 'code';
  readonly pauseMs: number | string;
}

const PAUSE_MS = 3_000;

/** Sends what the peer of the call presses: each digit, or a code when it is whole. Its status says how many, never which. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-dtmf-event', function dtmfEvent(this: FlowNode, config: DtmfEventConfig) {
    RED.nodes.createNode(this, config);
    const told = (topic: 'digit' | 'code', payload: string, callId: string): void => {
      part?.status.set({
        fill: 'green',
        shape: 'dot',
        text: RED._(`dtmf-event.told.${topic}`, { digits: payload.length, at: new Date().toLocaleTimeString('en-GB') }),
      });
      this.send({ topic, payload, callId });
    };
    const code = new DigitCode({
      clock: systemClock,
      pauseMs: Number(config.pauseMs) > 0 ? Number(config.pauseMs) : PAUSE_MS,
      onCode: (digits, callId) => told('code', digits, callId),
    });
    const part = joinStation(RED, this, config, {
      digit: ({ digit, callId }) => {
        if (config.collect === 'each') return told('digit', digit, callId);
        code.digit(digit, callId);
        if (code.length > 0) {
          part?.status.set({
            fill: 'blue',
            shape: 'ring',
            text: RED._('dtmf-event.so-far', { digits: code.length }),
          });
        }
      },
      call: ({ state }) => {
        if (state === 'ended') code.clear();
      },
    });
    this.on('close', (_removed, done) => {
      code.clear();
      done();
    });
  });
}
