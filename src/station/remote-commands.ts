import { randomBytes, randomUUID } from 'node:crypto';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { LogTap } from '../core/log-tap.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import {
  CHALLENGE_VERB,
  COMMAND_TTL_MS,
  COMMAND_VERBS,
  type CommandOrder,
  type CommandResponse,
  type Order,
  type Restarted,
  readCommand,
} from '../protocol/command.js';
import type { SelfTestResult } from '../protocol/selftest.js';
import { topic } from '../protocol/topics.js';
import { LogStream } from './log-stream.js';

/**
 * Why an order was not carried out: this station takes none (`not-enabled`); kept by the broker; not signed by a manager of the
 * configuration; for somebody else; too many come, from anybody (`too-many`) or from one manager (`too-many-of-key`); its nonce was not
 * made here for that manager (`unknown-nonce`), was used, or is too old.
 */
export type CommandRefusal =
  | 'not-enabled'
  | 'retained'
  | 'malformed'
  | 'unknown-key'
  | 'bad-signature'
  | 'not-for-us'
  | 'unknown-verb'
  | 'too-many'
  | 'too-many-of-key'
  | 'unknown-nonce'
  | 'replayed'
  | 'late';

/** Nonces of a key that are remembered, used ones too; a manager asks for one order at a time. */
const MOST_NONCES = 32;
/**
 * Signatures that are checked, whoever's they are said to be: 60 ms of a board's CPU. Before that nobody is known: who floods with the
 * name of a key of ours, and no more, has to send as many to keep an order out.
 */
const MOST_CHECKED = 200;
/** Orders that were signed, of each key: one manager keeps no other out. */
const MOST_OF_KEY = 20;
const PER_MS = 10_000;
/** How long after an order of a kind the next is refused. */
const REST_MS: Readonly<Record<string, number>> = {
  'self-test': 30_000,
  'restart-media': 15_000,
  'restart-flows': 15_000,
  'restart-station': 60_000,
  logs: 0,
};
const ANSWER_WITHIN_S = 30;
const WORDS: Readonly<Partial<Record<CommandRefusal, string>>> = {
  'unknown-nonce': 'the order names no nonce of this start of the station',
  replayed: 'the order was carried out, or refused, before',
  late: 'the order came too late',
};

export interface RemoteCommandsOptions {
  readonly site: string;
  readonly station: string;
  /** Public keys of the managers whose orders count, in hex; none: no orders at all. */
  readonly keys: readonly string[];
  readonly link: Pick<MqttLink, 'publish'>;
  readonly selfTest: (by: string) => Promise<SelfTestResult>;
  /** Of the station itself: in a moment, after the answer. @throws AppError where that process is not there, or must not end now */
  readonly restart: (service: Restarted, reason: string) => void | Promise<void>;
  readonly logTap: LogTap;
  /** Has the station's other processes hand on what they log, too. */
  readonly others: { follow(on: boolean): void };
  /** Keeps an event for the broker: what was ordered, by whom, what came of it. */
  readonly note: (kind: string, body: object) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Carries out what a fleet manager orders (protocol/command.ts): each order authenticated, once, in time, at its pace, and audited. */
export class RemoteCommands {
  readonly refused = new Counters<CommandRefusal>();
  readonly #options: RemoteCommandsOptions;
  /** By the key of those who asked for them. */
  readonly #nonces: ReadonlyMap<string, Map<string, { readonly madeAtMs: number; usedBy: string | null }>>;
  readonly #lastMs = new Map<string, number>();
  readonly #checked: RateLimit;
  readonly #taken: ReadonlyMap<string, RateLimit>;
  readonly #warnings: RateLimit;
  #logs: LogStream | null = null;
  #seq = 0;

  constructor(options: RemoteCommandsOptions) {
    this.#options = options;
    const { keys, clock } = options;
    this.#nonces = new Map(keys.map((key) => [key, new Map()]));
    this.#checked = new RateLimit({ most: MOST_CHECKED, perMs: PER_MS, clock });
    this.#taken = new Map(keys.map((key) => [key, new RateLimit({ most: MOST_OF_KEY, perMs: PER_MS, clock })]));
    this.#warnings = new RateLimit({ most: 5, perMs: 60_000, clock: options.clock });
  }

  /** A message of `down/cmd/{verb}`. Never throws. */
  take(verb: string, message: Pick<LinkMessage, 'body' | 'retained'>): void {
    const read = this.#read(verb, message);
    if (typeof read === 'string') this.#refuse(read, verb);
    else if (read.order.order.verb === CHALLENGE_VERB) this.#challenge(read.order, read.key);
    else void this.#carryOut(read.order, read.order.order, read.key);
  }

  close(): void {
    this.#logs?.end('station-stopped');
  }

  #read(
    verb: string,
    { body, retained }: Pick<LinkMessage, 'body' | 'retained'>,
  ): { readonly order: Order; readonly key: string } | CommandRefusal {
    const { keys, site, station } = this.#options;
    if (keys.length === 0) return 'not-enabled';
    if (retained) return 'retained';
    if (verb !== CHALLENGE_VERB && !COMMAND_VERBS.some((known) => known === verb)) return 'unknown-verb';
    const read = readCommand(body, keys, () => this.#checked.admit() !== undefined);
    if (!read.ok) return read.fault;
    const { order, key } = read;
    if (this.#taken.get(key)?.admit() === undefined) return 'too-many-of-key';
    if (order.site !== site || order.station !== station) return 'not-for-us';
    return order.order.verb === verb ? { order, key } : 'malformed';
  }

  #challenge({ id, client }: Order, key: string): void {
    const nonce = randomBytes(24).toString('base64url');
    const own = this.#nonces.get(key);
    own?.set(nonce, { madeAtMs: this.#options.clock.nowMs(), usedBy: null });
    for (const oldest of own?.keys() ?? []) {
      if ((own?.size ?? 0) <= MOST_NONCES) break;
      own?.delete(oldest);
    }
    this.#say(client, { to: id, type: 'challenge', nonce, ttlMs: COMMAND_TTL_MS });
  }

  async #carryOut(order: Order, what: CommandOrder, key: string): Promise<void> {
    const refusal = this.#redeem(order, key);
    // The broker's own second copy of a message, or ours after a lost acknowledgement, is no attack.
    if (refusal === 'same') return;
    if (refusal !== null) {
      this.#refuse(refusal, what.verb);
      this.#answer(order, { ok: false, code: refusal, text: WORDS[refusal] ?? refusal, remedy: 'Order it anew' });
      return;
    }
    const { by, id } = order;
    const { logger, note } = this.#options;
    const told = { order: { ...what }, by, commandId: id };
    logger.warn(told, 'a fleet manager ordered something');
    try {
      const { text, result } = await this.#do(order, what);
      note('command', { ...told, outcome: 'done' });
      this.#answer(order, { ok: true, code: 'done', text, result });
    } catch (error) {
      const code = error instanceof AppError ? error.code : 'failed';
      const remedy = error instanceof AppError ? (error.remedy ?? null) : null;
      const text = error instanceof AppError ? error.message : 'it failed; the log of the station says why';
      if (!(error instanceof AppError)) logger.error({ ...told, error: errorText(error) }, 'an order failed');
      note('command', { ...told, outcome: code });
      this.#answer(order, { ok: false, code, text, remedy });
    }
  }

  /** @returns why not; `same` for a copy of the order that used it */
  #redeem({ challenge, id }: Order, key: string): CommandRefusal | 'same' | null {
    const made = challenge === null ? undefined : this.#nonces.get(key)?.get(challenge);
    if (made === undefined) return 'unknown-nonce';
    if (made.usedBy !== null) return made.usedBy === id ? 'same' : 'replayed';
    made.usedBy = id;
    return this.#options.clock.nowMs() - made.madeAtMs > COMMAND_TTL_MS ? 'late' : null;
  }

  async #do(
    order: Order,
    what: CommandOrder,
  ): Promise<{ readonly text: string; readonly result?: Record<string, unknown> }> {
    const name = what.verb === 'restart' ? `restart-${what.service}` : what.verb;
    const before = this.#lastMs.get(name);
    this.#mayNow(name);
    this.#lastMs.set(name, this.#options.clock.nowMs());
    try {
      switch (what.verb) {
        case 'self-test': {
          const result = await this.#options.selfTest('fleet');
          return { text: `self-test: ${result.verdict}`, result };
        }
        case 'restart':
          return await this.#restart(order, what.service);
        case 'logs':
          return this.#follow(order, what);
      }
    } catch (error) {
      // What was not done needs no rest after it.
      if (before === undefined) this.#lastMs.delete(name);
      else this.#lastMs.set(name, before);
      throw error;
    }
  }

  async #restart({ by }: Order, service: Restarted): Promise<{ readonly text: string }> {
    await this.#options.restart(service, `ordered by ${by} (fleet)`);
    return { text: `${service} restarts` };
  }

  #follow(order: Order, { minutes, level }: Extract<CommandOrder, { verb: 'logs' }>): { readonly text: string } {
    const { logTap, others, clock } = this.#options;
    this.#logs?.end(minutes === 0 ? 'stopped' : 'replaced');
    this.#logs = null;
    if (minutes === 0) return { text: 'the log is not sent any more' };
    const tell = (batch: { lines: string[]; dropped: number; ended: string | null }): void => {
      if (batch.ended !== null) others.follow(false);
      this.#say(order.client, { to: order.id, type: 'log', ...batch });
    };
    others.follow(true);
    this.#logs = new LogStream({ tap: logTap, clock, forMs: minutes * 60_000, level, tell });
    return { text: `the log is sent for ${minutes} min` };
  }

  #mayNow(name: string): void {
    const last = this.#lastMs.get(name);
    const restMs = last === undefined ? 0 : last + (REST_MS[name] ?? 0) - this.#options.clock.nowMs();
    if (restMs <= 0) return;
    throw new AppError('too-soon', `${name} was ordered a moment ago`, {
      remedy: `It may be ordered again in ${Math.ceil(restMs / 1_000)} s`,
    });
  }

  #answer(
    order: Order,
    said: {
      ok: boolean;
      code: string;
      text: string;
      remedy?: string | null;
      result?: Record<string, unknown> | undefined;
    },
  ): void {
    const { ok, code, text, remedy = null, result = null } = said;
    this.#say(order.client, { to: order.id, type: 'answer', ok, code, text: text.slice(0, 500), remedy, result });
  }

  #say(client: string, response: ResponseContent): void {
    const { link, site, station, logger } = this.#options;
    const body = JSON.stringify({ v: 1, id: randomUUID(), seq: this.#seq++, ...response });
    const isLog = response.type === 'log';
    link
      .publish({
        topic: topic(site, station, 'up', `res/${client}`),
        body,
        qos: 1,
        priority: isLog ? 'telemetry' : 'state',
        expiryS: ANSWER_WITHIN_S,
      })
      // At debug: a line of the log that could not be sent must not make another.
      .catch((error: unknown) => logger.debug({ error: errorText(error) }, 'an answer did not get out'));
  }

  #refuse(refusal: CommandRefusal, verb: string): void {
    this.refused.count(refusal);
    const held = this.#warnings.admit();
    if (held === undefined) return;
    this.#options.logger.warn({ refusal, verb: verb.slice(0, 32), held }, 'an order of a fleet manager was refused');
    this.#options.note('command', { order: { verb: verb.slice(0, 32) }, by: null, outcome: refusal });
  }
}

type ResponseContent = CommandResponse extends infer R
  ? R extends unknown
    ? Omit<R, 'v' | 'id' | 'seq'>
    : never
  : never;
