import { systemClock } from '../../core/clock.js';
import { VoiceActivity } from '../../inference/voice-activity.js';
import { L16_RATE_HZ } from '../../rtp/l16.js';
import { type HeardConfig, sendHeard, tellHeard } from '../heard-part.js';
import { asError, type FlowNode, type NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';
import { TapPart } from '../tap-part.js';

interface VoiceConfig extends HeardConfig {
  /** `station`: its inference process says so; `node`: this one does, by a tap, where no inference runs. */
  readonly by: 'station' | 'node';
  readonly hangoverMs: number | string;
}

/** As the station's inference has it: so far above the noise is 1. */
const FULL_SCORE_DB = 30;
const FRAME_SAMPLES = L16_RATE_HZ / 100;

/** Tells when somebody speaks, and when nobody does any more. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-voice', function voice(this: FlowNode, config: VoiceConfig) {
    RED.nodes.createNode(this, config);
    if (config.by === 'node') tellVoice(RED, this, config);
    else tellHeard(RED, this, { station: config.station }, 'voice');
  });
}

function tellVoice(RED: NodeRed, node: FlowNode, config: VoiceConfig): void {
  const part = joinStation(RED, node, config);
  const hangoverMs = Math.max(50, Math.min(10_000, Number(config.hangoverMs) || 300));
  const voice = new VoiceActivity(L16_RATE_HZ, { hangoverMs });
  const taps = new TapPart(part?.connection, ['microphone'], {
    sound: (_source, { samples, endsAtMs, isAfterGap }) => {
      if (isAfterGap) voice.reset();
      for (let at = 0; at < samples.length; at += FRAME_SAMPLES) {
        const capturedAtMs = endsAtMs - (samples.length - at - FRAME_SAMPLES) / (L16_RATE_HZ / 1_000);
        const frame = { samples: samples.subarray(at, at + FRAME_SAMPLES), rateHz: L16_RATE_HZ, capturedAtMs } as const;
        const decision = voice.push(frame);
        if (decision === null) continue;
        const { kind, label, edge } = decision;
        const score = Math.max(0, Math.min(1, decision.score / FULL_SCORE_DB));
        sendHeard(part, node, { kind, label, edge, score, atMs: Math.round(systemClock.wallMs()), model: null });
      }
    },
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
