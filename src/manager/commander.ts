import { randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { SigningKey } from '../adapters/tuf/signing-key.js';
import type { Clock, Timer } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import {
  CHALLENGE_VERB,
  COMMAND_TTL_MS,
  type CommandOrder,
  type CommandResponse,
  type Order,
  readResponse,
  signedCommand,
} from '../protocol/command.js';
import type { OrderOutcome } from '../protocol/manager-api.js';
import { MANAGER_ID, topic } from '../protocol/topics.js';

/** A self-test waits for others that call the echo extension. */
const ANSWER_WITHIN_MS = 60_000;
const CHALLENGE_WITHIN_MS = 10_000;
/** Streams of log lines that are passed on; longer than the ten minutes that a station sends them. */
const LOGS_FOR_MS = 11 * 60_000;
const MOST_STREAMS = 64;

type Answer = Extract<CommandResponse, { type: 'answer' }>;
type LogLines = Extract<CommandResponse, { type: 'log' }>;

interface Waiting {
  readonly site: string;
  readonly station: string;
  readonly type: 'challenge' | 'answer';
  readonly take: (response: CommandResponse) => void;
}

export interface CommanderOptions {
  readonly link: Pick<MqttLink, 'publish'>;
  readonly key: SigningKey;
  readonly refused: Counters<string>;
  readonly onLog: (
    of: { site: string; station: string; commandId: string } & Pick<LogLines, 'lines' | 'dropped' | 'ended'>,
  ) => void;
  readonly clock: Clock;
}

/** Has stations do what they may be told: asks for a nonce, signs the order with it, waits for the answer. One order at a time each. */
export class Commander {
  readonly #options: CommanderOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #busy = new Set<string>();
  readonly #streams = new Map<string, { readonly site: string; readonly station: string; readonly timer: Timer }>();
  #seq = 0;

  constructor(options: CommanderOptions) {
    this.#options = options;
  }

  /**
   * @throws AppError `busy` while another order to this station is on its way; `no-answer`; what the link says of what it could not send.
   * An order that the station refused is no error: see `ok`.
   */
  async run(site: string, station: string, order: CommandOrder, by: string): Promise<OrderOutcome> {
    const name = `${station}@${site}`;
    if (this.#busy.has(name)) {
      throw new AppError('busy', `another order to ${name} is on its way`, { remedy: 'Wait for its answer' });
    }
    this.#busy.add(name);
    try {
      const ask = { site, station, client: MANAGER_ID, by };
      const asked = await this.#exchange(
        { ...ask, id: randomUUID(), challenge: null, order: { verb: CHALLENGE_VERB } },
        'challenge',
        CHALLENGE_WITHIN_MS,
      );
      const commandId = randomUUID();
      const challenge = asked.type === 'challenge' ? asked.nonce : null;
      if (order.verb === 'logs' && order.minutes > 0) this.#follow(site, station, commandId);
      const answered = await this.#exchange({ ...ask, id: commandId, challenge, order }, 'answer', ANSWER_WITHIN_MS);
      const { ok, code, text, remedy, result } = answered as Answer;
      if (!ok) this.#forget(commandId);
      return { ok, code, text, remedy, result, commandId };
    } finally {
      this.#busy.delete(name);
    }
  }

  /** A message of `up/res/{us}`. Never throws. */
  take(site: string, station: string, body: Uint8Array): void {
    const read = readResponse(body);
    if (!read.ok) this.#options.refused.count('malformed-answer');
    else if (read.value.type === 'log') this.#takeLog(site, station, read.value);
    else this.#takeAnswer(site, station, read.value);
  }

  close(): void {
    for (const commandId of [...this.#streams.keys()]) this.#forget(commandId);
  }

  #takeAnswer(site: string, station: string, response: CommandResponse): void {
    const waiting = this.#waiting.get(response.to);
    // Else a second copy, or one that came too late; or of a station that answers for another.
    if (waiting?.site === site && waiting.station === station && waiting.type === response.type) waiting.take(response);
    else this.#options.refused.count('unexpected-answer');
  }

  #takeLog(site: string, station: string, { to: commandId, lines, dropped, ended }: LogLines): void {
    const stream = this.#streams.get(commandId);
    if (stream?.site !== site || stream.station !== station) {
      this.#options.refused.count('unexpected-log');
      return;
    }
    if (ended !== null) this.#forget(commandId);
    this.#options.onLog({ site, station, commandId, lines, dropped, ended });
  }

  async #exchange(order: Omit<Order, 'purpose'>, type: Waiting['type'], withinMs: number): Promise<CommandResponse> {
    const { link, key, clock } = this.#options;
    const { site, station, id } = order;
    let timer: Timer | undefined;
    const answered = new Promise<CommandResponse>((resolve, reject) => {
      timer = clock.after(withinMs, () =>
        reject(
          new AppError('no-answer', `${station}@${site} did not answer within ${withinMs / 1_000} s`, {
            remedy: 'Is it online? Does its configuration name our key (fleet.commandKeys)? See: entryphone fleet key',
          }),
        ),
      );
      this.#waiting.set(id, { site, station, type, take: resolve });
    });
    // Who fails to send waits for no answer.
    answered.catch(() => {});
    try {
      await link.publish({
        topic: topic(site, station, 'down', `cmd/${order.order.verb}`),
        body: signedCommand(order, key, this.#seq++),
        qos: 1,
        priority: 'state',
        expiryS: COMMAND_TTL_MS / 1_000,
        mustBeHeard: true,
      });
      return await answered;
    } finally {
      timer?.cancel();
      this.#waiting.delete(id);
    }
  }

  #follow(site: string, station: string, commandId: string): void {
    const timer = this.#options.clock.after(LOGS_FOR_MS, () => this.#forget(commandId));
    this.#streams.set(commandId, { site, station, timer });
    for (const oldest of this.#streams.keys()) {
      if (this.#streams.size <= MOST_STREAMS) break;
      this.#forget(oldest);
    }
  }

  #forget(commandId: string): void {
    this.#streams.get(commandId)?.timer.cancel();
    this.#streams.delete(commandId);
  }
}
