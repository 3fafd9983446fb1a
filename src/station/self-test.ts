import { randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { MediaPath } from '../call/sdp.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CallMessage } from '../protocol/call-message.js';
import { judge, type SelfTestCheck, type SelfTestResult } from '../protocol/selftest.js';
import { topic } from '../protocol/topics.js';
import type { EngineClient } from './engine-client.js';
import type { Pins } from './pins.js';
import { checkRelay } from './relay-check.js';
import { callCheck, failedCheck, passed, skipped, soundCheck } from './self-test-checks.js';
import { SelfTestSchedule } from './self-test-schedule.js';
import type { Signalling } from './signalling.js';
import { TestCall } from './test-call.js';

const BROKER_WITHIN_S = 2;
/** The echo extension has two calls at a time, of some seconds each. */
const ECHO_BUSY_MS = 3_000;
const ECHO_TRIES = 4;
/** A flow that asks and asks would have the signal sound all the time. */
const FLOWS = 'flows';
const FLOWS_REST_MS = 60_000;

export interface SelfTestOptions {
  readonly config: Config;
  readonly link: MqttLink;
  readonly engine: EngineClient;
  readonly signalling: Signalling;
  readonly pins: () => Pick<Pins, 'relay' | 'contact'>;
  /** A call of the station lives. */
  readonly isInCall: () => boolean;
  /** The relay is about to be pulsed. */
  readonly onPulse: () => void;
  readonly onDone: (result: SelfTestResult) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The station tries itself: the broker, the relay where that is allowed, the sound from its loudspeaker to its microphone, a
 * call to the site's echo. Some ten seconds; it gives way at once to a press and to a call.
 */
export class SelfTest {
  readonly #options: SelfTestOptions;
  #running: Promise<SelfTestResult> | null = null;
  #testCall: TestCall | null = null;
  #isInterrupted = false;
  #last: SelfTestResult | null = null;
  #flowsMayFromMs = Number.NEGATIVE_INFINITY;
  readonly #schedule: SelfTestSchedule;

  constructor(options: SelfTestOptions) {
    this.#options = options;
    const { config, clock, logger } = options;
    this.#schedule = new SelfTestSchedule({ times: config.selftest, run: () => this.run('schedule'), clock, logger });
  }

  /** What came of the last; null before the first. */
  get last(): SelfTestResult | null {
    return this.#last;
  }

  /** Who comes while it runs gets the result of that run. @throws AppError `line-busy`, of flows `too-soon` (as a rejection) */
  run(by: string): Promise<SelfTestResult> {
    if (this.#running !== null) return this.#running;
    if (this.#options.isInCall()) {
      return Promise.reject(new AppError('line-busy', 'a call lives', { remedy: 'Test the station when it is over' }));
    }
    const nowMs = this.#options.clock.nowMs();
    if (by === FLOWS && nowMs < this.#flowsMayFromMs) {
      return Promise.reject(
        new AppError('too-soon', 'the station has been tested within the last minute', { remedy: 'Wait a minute' }),
      );
    }
    if (by === FLOWS) this.#flowsMayFromMs = nowMs + FLOWS_REST_MS;
    this.#isInterrupted = false;
    this.#running = this.#run(by).finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  /** Somebody needs the station: what has not been tried is skipped, a test call is hung up. */
  interrupt(): void {
    if (this.#running === null) return;
    this.#isInterrupted = true;
    this.#testCall?.end('interrupted');
  }

  /** @returns whether the message is the test call's */
  take(message: CallMessage): boolean {
    return this.#testCall?.take(message) ?? false;
  }

  /** A session has moved to another path; the test call's is told of. */
  moved(sessionId: string, path: MediaPath): void {
    this.#testCall?.moved(sessionId, path);
  }

  close(): void {
    this.#schedule.close();
    this.interrupt();
  }

  async #run(by: string): Promise<SelfTestResult> {
    const { clock, logger, onDone, pins, config, onPulse } = this.#options;
    const at = clock.wallMs();
    const startedMs = clock.nowMs();
    const { relay: isAllowed, relayPulseMs: pulseMs } = config.selftest;
    const checks: SelfTestCheck[] = [await this.#broker()];
    const isInterrupted = () => this.#isInterrupted;
    checks.push(await checkRelay({ ...pins(), isAllowed, pulseMs, isInterrupted, onPulse, clock }));
    checks.push(await this.#sound());
    checks.push(await this.#call());
    const result = { ...judge(checks), checks, by, at, durationMs: Math.round(clock.nowMs() - startedMs) };
    const { verdict, failed } = result;
    if (result.ok) logger.info({ by }, 'the self-test passed');
    else logger.warn({ by, verdict, failed }, 'the self-test did not pass');
    this.#last = result;
    onDone(result);
    return result;
  }

  /** A message of its own that the broker acknowledges. */
  async #broker(): Promise<SelfTestCheck> {
    const { link, clock, config } = this.#options;
    const { connected, fault, protocol } = link.state;
    if (!connected) {
      return failedCheck('broker', 'broker-unreachable', {
        text: fault === null ? 'there is no connection to the broker' : errorText(fault),
        remedy: 'See whether the site host runs, and its broker: entryphone status',
      });
    }
    const { site, id } = config.station;
    const body = JSON.stringify({ v: 1, id: randomUUID(), seq: 0, at: clock.wallMs(), data: {} });
    const startedMs = clock.nowMs();
    try {
      await link.publish({
        topic: topic(site, id, 'up', 'telemetry/selftest'),
        body,
        qos: 1,
        priority: 'call',
        expiryS: BROKER_WITHIN_S,
      });
    } catch (error) {
      return failedCheck('broker', 'broker-unreachable', {
        text: `the broker did not acknowledge a message: ${errorText(error)}`,
        remedy: 'See whether the site host runs, and its broker: entryphone status',
      });
    }
    const roundTripMs = Math.round((clock.nowMs() - startedMs) * 10) / 10;
    return passed('broker', 'acknowledged', `the broker acknowledges within ${roundTripMs} ms`, {
      roundTripMs,
      protocol,
    });
  }

  async #sound(): Promise<SelfTestCheck> {
    if (this.#isInterrupted) return interrupted('sound');
    const { engine, config } = this.#options;
    const { signalDbfs, leastLevelDb } = config.selftest;
    try {
      return soundCheck(await engine.measureLoop({ signalDbfs, leastLevelDb }));
    } catch (error) {
      const code = error instanceof AppError ? error.code : '';
      if (this.#isInterrupted || code === 'interrupted' || code === 'busy') return interrupted('sound');
      return failedCheck('sound', 'media-unreachable', {
        text: `the media process does not measure: ${errorText(error)}`,
        remedy: 'See whether it runs, and its log',
      });
    }
  }

  async #call(): Promise<SelfTestCheck> {
    const { link, config, signalling, engine, clock, logger } = this.#options;
    for (let tries = 1; ; tries++) {
      if (this.#isInterrupted) return interrupted('call');
      if (!link.state.connected) return skipped('call', 'no-broker', 'without the broker nobody can be called');
      const target = config.selftest.echo;
      this.#testCall = new TestCall({ config, signalling, engine, clock, logger, target });
      const outcome = await this.#testCall.done;
      this.#testCall = null;
      if (outcome.reason !== 'busy' || tries === ECHO_TRIES) return callCheck(outcome);
      await new Promise<void>((resolve) => clock.after(ECHO_BUSY_MS, resolve));
    }
  }
}

function interrupted(name: SelfTestCheck['name']): SelfTestCheck {
  return skipped(name, 'interrupted', 'somebody called, or pressed a button, in the middle of it');
}
