import { AppError } from '../core/errors.js';
import type { CallControl } from './call-control.js';
import type { EngineClient } from './engine-client.js';

/** Digits of a telephone in the call that is talked in (RFC 4733). What they are is in no log: they may be somebody's code. */
export class CallDigits {
  readonly #calls: Pick<CallControl, 'current'>;
  readonly #engine: Pick<EngineClient, 'sendDigits'>;

  constructor(parts: { calls: Pick<CallControl, 'current'>; engine: Pick<EngineClient, 'sendDigits'> }) {
    this.#calls = parts.calls;
    this.#engine = parts.engine;
  }

  /**
   * @param durationMs of each
   * @returns the call's id, once the digits wait to be sent
   * @throws AppError `no-call` where nobody talks here, and what the media process says: `events-not-agreed`, `events-full`
   */
  async send(digits: string, durationMs: number): Promise<string> {
    const call = this.#calls.current;
    if (call?.state !== 'answered') throw new AppError('no-call', 'there is no answered call at this station');
    await this.#engine.sendDigits(call.callId, digits, durationMs);
    return call.callId;
  }

  /** Whether digits of this session are those of the call that is talked in. */
  isFrom(sessionId: string): boolean {
    const call = this.#calls.current;
    return call?.state === 'answered' && call.callId === sessionId;
  }
}
