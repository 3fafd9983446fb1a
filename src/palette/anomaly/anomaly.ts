import { systemClock } from '../../core/clock.js';
import { asError, type FlowNode, type NodeRed, type NodeStatus, typedValue } from '../node-red.js';
import { StatusLine } from '../status-line.js';
import {
  type AnomalyWatch,
  LevelShiftWatch,
  type Reading,
  type Side,
  ThresholdWatch,
  TrendWatch,
} from './anomaly-watch.js';

interface AnomalyConfig {
  readonly value: string;
  readonly valueType: string;
  readonly watch: 'threshold' | 'shift' | 'trend';
  readonly side: Side | 'either';
  readonly limit: number | string;
  readonly hysteresis: number | string;
  readonly learn: number | string;
  readonly alarm: number | string;
  readonly least: number | string;
  readonly windowS: number | string;
  readonly horizonS: number | string;
}

const MOST = 1e15;

/** Says when a number, any number, goes wrong, and when it is well again: beyond a limit, at another level, or on its way to a limit. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-anomaly', function anomaly(this: FlowNode, config: AnomalyConfig) {
    RED.nodes.createNode(this, config);
    const status = new StatusLine(this, systemClock);
    let watch = watchOf(config);
    let isWrong = false;
    if (watch === undefined) {
      status.set({ fill: 'red', shape: 'ring', text: RED._('anomaly.bad-settings') });
      this.error(RED._('anomaly.bad-settings'));
    }
    this.on('input', async (message, send, done) => {
      try {
        if (message.reset === true) {
          watch = watchOf(config);
          isWrong = false;
          status.set({ fill: 'grey', shape: 'ring', text: RED._('anomaly.anew') });
          return done();
        }
        if (watch === undefined) throw new Error(RED._('anomaly.bad-settings'));
        const given = await typedValue(RED, this, { value: config.value, type: config.valueType }, message);
        const value = numberOf(given);
        if (value === undefined) throw new Error(RED._('anomaly.not-number', { value: String(given).slice(0, 40) }));
        const reading = watch.take(value, systemClock.nowMs());
        status.set(shown(RED, value, reading));
        if (reading.isWrong !== isWrong) {
          isWrong = reading.isWrong;
          const { learning: _, ...finding } = reading;
          const told = { ...message, payload: { watch: config.watch, value, ...finding } };
          send(isWrong ? [told, null] : [null, told]);
        }
        done();
      } catch (error) {
        done(asError(error));
      }
    });
    this.on('close', (_removed, done) => {
      status.close();
      done();
    });
  });
}

/** undefined where the settings make no sense. */
function watchOf(config: AnomalyConfig): AnomalyWatch | undefined {
  const { watch, side } = config;
  const [limit, hysteresis, least] = [config.limit, config.hysteresis || 0, config.least || 0].map(Number) as Three;
  const [learn, alarm] = [Math.round(Number(config.learn)), Number(config.alarm)];
  const [windowMs, horizonMs] = [Number(config.windowS) * 1_000, Number(config.horizonS) * 1_000];
  if (watch === 'shift') {
    const makesSense = learn >= 10 && learn <= 10_000 && alarm > 0 && alarm <= 100 && least >= 0 && least <= MOST;
    return makesSense ? new LevelShiftWatch({ learn, alarm, side, least }) : undefined;
  }
  if (side === 'either' || String(config.limit).trim() === '' || !(Math.abs(limit) <= MOST)) return undefined;
  if (watch === 'threshold') {
    return hysteresis >= 0 ? new ThresholdWatch({ limit, side, hysteresis }) : undefined;
  }
  return windowMs > 0 && horizonMs > 0 ? new TrendWatch({ limit, side, windowMs, horizonMs }) : undefined;
}
type Three = [number, number, number];

/** A number, or the text of one, as messages from elsewhere have it. */
function numberOf(given: unknown): number | undefined {
  if (typeof given !== 'number' && (typeof given !== 'string' || given.trim() === '')) return undefined;
  const value = Number(given);
  return Math.abs(value) <= MOST ? value : undefined;
}

function shown(RED: NodeRed, value: number, { isWrong, learning, limitInMs, deviation }: Reading): NodeStatus {
  const number = brief(value);
  if (learning > 0) {
    return {
      fill: isWrong ? 'red' : 'grey',
      shape: 'ring',
      text: RED._('anomaly.learning', { number, left: learning }),
    };
  }
  const light = { fill: isWrong ? 'red' : 'green', shape: 'dot' } as const;
  if (limitInMs !== null) return { ...light, text: RED._('anomaly.forecast', { number, time: duration(limitInMs) }) };
  if (deviation !== null)
    return { ...light, text: `${number} (${deviation < 0 ? '−' : '+'}${brief(Math.abs(deviation))} σ)` };
  return { ...light, text: number };
}

function brief(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function duration(ms: number): string {
  const minutes = ms / 60_000;
  if (minutes < 2) return `${Math.round(ms / 1_000)} s`;
  if (minutes < 120) return `${Math.round(minutes)} min`;
  return minutes < 2_880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1_440)} d`;
}
