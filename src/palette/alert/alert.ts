import { systemClock } from '../../core/clock.js';
import { errorText } from '../../core/errors.js';
import { type AlertBody, alertDetection, MOST_CLIP_BYTES } from '../../protocol/alert.js';
import { asError, type FlowNode, type Message, type NodeRed, typedValue } from '../node-red.js';
import { joinStation, NO_STATION } from '../station-part.js';
import { CoolDown } from './cool-down.js';

interface AlertConfig {
  readonly station: string;
  readonly kind: string;
  readonly text: string;
  readonly textType: string;
  readonly withClip: boolean;
  readonly coolDownS: number | string;
}

const KIND = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;
const MOST_TEXT = 500;
const CLIP_TYPE = 'audio/ogg; codecs=opus';

/** Raises an alert: by the station's outbox to the broker, with what was heard and a clip of it where the message has them. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-alert', function alert(this: FlowNode, config: AlertConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config);
    const coolDown = new CoolDown(Number(config.coolDownS || 0) * 1_000, systemClock);
    let heldBack = 0;
    this.on('input', async (message, send, done) => {
      try {
        if (part === undefined) throw new Error(RED._(NO_STATION));
        if (!KIND.test(config.kind)) throw new Error(RED._('alert.bad-kind', { kind: config.kind }));
        const text = await typedValue(RED, this, { value: config.text, type: config.textType }, message);
        if (typeof text !== 'string' || text === '' || text.length > MOST_TEXT) {
          throw new Error(RED._('alert.no-text', { type: typeof text, most: MOST_TEXT }));
        }
        const body: AlertBody = {
          kind: config.kind,
          text,
          ...detectionOf(RED, message),
          ...clipOf(RED, config, message),
        };
        const key = body.detection?.label ?? config.kind;
        if (!coolDown.admits(key)) {
          heldBack += 1;
          part.status.set({ fill: 'grey', shape: 'dot', text: RED._('alert.held-back', { count: heldBack }) });
          send([null, message]);
          return done();
        }
        const payload = await part.connection.request('alert.raise', body).catch((error: unknown) => {
          coolDown.forget(key);
          throw error;
        });
        part.status.set({ fill: 'red', shape: 'dot', text: `${key} ${new Date().toLocaleTimeString('en-GB')}` });
        send([{ ...message, payload }, null]);
        done();
      } catch (error) {
        part?.status.set({ fill: 'red', shape: 'ring', text: asError(error).message });
        done(new Error(errorText(error)));
      }
    });
  });
}

function detectionOf(RED: NodeRed, { detection }: Message): Pick<AlertBody, 'detection'> {
  if (detection === undefined || detection === null) return {};
  const checked = alertDetection.safeParse(detection);
  if (checked.success) return { detection: checked.data };
  const [fault] = checked.error.issues;
  throw new Error(RED._('alert.bad-detection', { fault: `${fault?.path.join('.')}: ${fault?.message}` }));
}

/** What a record node made; a payload that is no buffer is none, as where the recording was refused. */
function clipOf(RED: NodeRed, { withClip }: AlertConfig, message: Message): Pick<AlertBody, 'clip'> {
  const { payload, contentType, recording } = message;
  if (!withClip || !Buffer.isBuffer(payload) || payload.length === 0) return {};
  if (payload.length > MOST_CLIP_BYTES) {
    throw new Error(RED._('alert.too-large', { kb: Math.ceil(payload.length / 1_024), most: MOST_CLIP_BYTES / 1_024 }));
  }
  const durationMs = (recording as { durationMs?: unknown } | undefined)?.durationMs;
  return {
    clip: {
      contentType: typeof contentType === 'string' ? contentType : CLIP_TYPE,
      data: payload.toString('base64'),
      ...(typeof durationMs === 'number' ? { durationMs: Math.round(durationMs) } : {}),
    },
  };
}
