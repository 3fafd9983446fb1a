import { randomBytes } from 'node:crypto';
import type { Clock, Timer } from '../core/clock.js';
import type { MediaPath } from '../protocol/engine-api.js';
import { isStun, parseStunBinding, STUN_TRANSACTION_BYTES, writeStunRequest, writeStunResponse } from '../rtp/stun.js';

const TICK_MS = 100;
/** The far end may start some time after us, and a request be lost. */
const PROVE_WITHIN_MS = 1_000;
/** On UDP a question goes out so often, speech or no speech (RFC 7675, 5.1, has 5 s: a conversation can't wait so long). */
const ASK_EVERY_MS = 250;
/** On MQTT, whether UDP is back. */
const ASK_AGAIN_EVERY_MS = 500;
/** Nothing at all came by UDP: packets go both ways from here on, and after the second no longer by UDP. */
const SILENT_SUSPECT_MS = 400;
const SILENT_DEAD_MS = 800;
/** The far end is heard by UDP, but answers nothing: what we send doesn't get there. It usually tells us before the second. */
const UNANSWERED_SUSPECT_MS = 750;
const UNANSWERED_DEAD_MS = 3_000;
/** UDP must have answered for so long, without a pause of more than the second, before the call goes back to it. */
const LEAST_HOLD_MS = 3_000;
const MOST_PAUSE_MS = 1_200;
/** Each return that did not last so long doubles what the next one has to wait, up to the second. */
const LASTING_MS = 60_000;
const MOST_HOLD_MS = 60_000;
/** The other path is asked until it has answered so; a far end that is older than this never does. */
const ASK_MQTT_EVERY_MS = 1_000;
const MOST_ASKED_BY_MQTT = 5;
const MOST_QUESTIONS = 16;

/** Why a call moved: see `session.path` of the engine API. */
export type MoveReason = 'unproved' | 'silent' | 'unanswered' | 'lossy' | 'far-end' | 'returned';

export interface PathKeeperOptions {
  readonly clock: Clock;
  /** Where the far end is by UDP; null before it is known. */
  readonly remote: () => { readonly address: string; readonly port: number } | null;
  sendUdp(datagram: Uint8Array): void;
  sendMqtt(datagram: Uint8Array): void;
  /** There is a connection to the broker. */
  mqttIsUp(): boolean;
  moved(path: MediaPath, reason: MoveReason): void;
}

export interface PathFigures {
  /** How often the call changed its path. */
  readonly migrations: number;
  /** Of the last STUN question that was answered, ms; null until one was. */
  readonly probeRoundTripMs: { readonly udp: number | null; readonly mqtt: number | null };
}

/**
 * Which way a session's packets take, and when that changes. They are the same packets on each: SSRC and sequence go on, and
 * what comes twice is played once.
 *
 * ```
 *             answered        400 ms of nothing, 0.75 s unanswered     800 ms of nothing, 3 s unanswered
 *   proving ────────────▶ UDP ◀───────────────────────▶ suspect ─────────────────────────────┐
 *  by both paths           ▲     heard and answered    by both paths                          ▼
 *      │                   │                                                                MQTT
 *      └───────────────────┼──── 1 s unanswered; or the far end says that it left UDP ──────▶ │
 *                          └────────────── UDP answers for 3 s; longer after each relapse ────┘
 * ```
 * The questions are STUN Binding requests on the session's own port (RFC 8489), so that a call in which nobody speaks is
 * looked after as well; MQTT is asked in the same way, as long as UDP is used. Each end decides for itself and takes packets
 * from both paths at any time.
 */
export class PathKeeper {
  readonly #options: PathKeeperOptions;
  readonly #questions: { readonly transaction: Buffer; readonly by: MediaPath; readonly atMs: number }[] = [];
  readonly #roundTripMs: { udp: number | null; mqtt: number | null } = { udp: null, mqtt: null };
  #state: 'fixed-udp' | 'fixed-mqtt' | 'proving' | 'udp' | 'suspect' | 'mqtt' = 'fixed-udp';
  #timer: Timer | null = null;
  #tickedAtMs = 0;
  #enteredAtMs = 0;
  #heardAtMs = 0;
  #answeredAtMs = 0;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #askedMqttAtMs = Number.NEGATIVE_INFINITY;
  #askedByMqtt = 0;
  /** Since when UDP has answered, while the call is on MQTT. */
  #goodSinceMs: number | null = null;
  #holdMs = LEAST_HOLD_MS;
  #returnedAtMs = Number.NEGATIVE_INFINITY;
  #migrations = 0;

  constructor(options: PathKeeperOptions) {
    this.#options = options;
  }

  get path(): MediaPath {
    return this.#state === 'mqtt' || this.#state === 'fixed-mqtt' ? 'mqtt' : 'udp';
  }

  get figures(): PathFigures {
    return { migrations: this.#migrations, probeRoundTripMs: { ...this.#roundTripMs } };
  }

  /** Takes this path and no other, whatever becomes of it. */
  fix(path: MediaPath): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#state = path === 'udp' ? 'fixed-udp' : 'fixed-mqtt';
  }

  /** Finds out what the far end can be reached by; begins anew where it is another, or has moved. */
  prove(): void {
    const nowMs = this.#options.clock.nowMs();
    this.#enter('proving');
    this.#answeredAtMs = nowMs;
    this.#heardAtMs = nowMs;
    this.#tickedAtMs = nowMs;
    this.#askedByMqtt = 0;
    this.#timer?.cancel();
    this.#tick();
  }

  /** The far end says that UDP does not carry: it would be heard no longer. */
  leaveUdp(): void {
    if (this.#timer !== null && this.#state !== 'mqtt') this.#leave('far-end');
  }

  /** So much is lost of what we send by UDP that no copies help. Where there is no broker, that is still the best. */
  lossy(): void {
    const isByUdp = this.#state === 'udp' || this.#state === 'suspect';
    if (this.#timer !== null && isByUdp && this.#options.mqttIsUp()) this.#leave('lossy');
  }

  stop(): void {
    this.fix(this.path);
  }

  /** Takes the datagram over. */
  send(datagram: Uint8Array): void {
    const { sendUdp, sendMqtt, mqttIsUp } = this.#options;
    switch (this.#state) {
      case 'fixed-udp':
      case 'udp':
        sendUdp(datagram);
        return;
      case 'fixed-mqtt':
        sendMqtt(datagram);
        return;
      case 'mqtt':
        // Where there is no broker either, whatever comes back first is taken.
        if (mqttIsUp()) sendMqtt(datagram);
        else sendUdp(datagram);
        return;
      default:
        sendUdp(datagram);
        if (mqttIsUp()) sendMqtt(datagram);
    }
  }

  /** What came from the far end. @returns whether it was STUN, and so is no media */
  take(datagram: Uint8Array, by: MediaPath): boolean {
    const nowMs = this.#options.clock.nowMs();
    if (by === 'udp') {
      this.#heardAtMs = nowMs;
      if (this.#state === 'suspect' && !this.#isInDoubt(nowMs)) this.#enter('udp');
    }
    if (!isStun(datagram)) return false;
    const binding = parseStunBinding(datagram);
    const remote = this.#options.remote();
    if (binding?.kind === 'request' && remote !== null) {
      this.#sendBy(by, writeStunResponse(binding.transaction, remote));
    } else if (binding?.kind === 'response') {
      this.#answered(binding.transaction, nowMs);
    }
    return true;
  }

  #answered(transaction: Uint8Array, nowMs: number): void {
    const at = this.#questions.findIndex((one) => one.transaction.equals(transaction));
    const [question] = at < 0 ? [] : this.#questions.splice(at, 1);
    if (question === undefined) return;
    this.#roundTripMs[question.by] = nowMs - question.atMs;
    if (question.by === 'mqtt') return;
    this.#answeredAtMs = nowMs;
    this.#goodSinceMs ??= nowMs;
    if (this.#state === 'proving') this.#enter('udp');
    else if (this.#state === 'suspect' && !this.#isInDoubt(nowMs)) this.#enter('udp');
    else if (this.#state === 'mqtt' && !this.#options.mqttIsUp()) this.#return();
  }

  #tick(): void {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    this.#timer = clock.after(TICK_MS, () => this.#tick());
    // A tick that comes late says that this process stood still; what came meanwhile has not been read yet.
    const stoodStillMs = nowMs - this.#tickedAtMs - TICK_MS;
    this.#tickedAtMs = nowMs;
    if (stoodStillMs > TICK_MS) {
      this.#heardAtMs += stoodStillMs;
      this.#answeredAtMs += stoodStillMs;
      this.#enteredAtMs += stoodStillMs;
    }
    this.#judge(nowMs);
    this.#ask(nowMs);
  }

  #judge(nowMs: number): void {
    switch (this.#state) {
      case 'proving':
        if (nowMs - this.#enteredAtMs >= PROVE_WITHIN_MS) this.#leave('unproved');
        return;
      case 'udp':
        if (this.#isInDoubt(nowMs)) this.#enter('suspect');
        return;
      case 'suspect':
        if (nowMs - this.#heardAtMs >= SILENT_DEAD_MS) this.#leave('silent');
        else if (nowMs - this.#answeredAtMs >= UNANSWERED_DEAD_MS) this.#leave('unanswered');
        return;
      case 'mqtt':
        if (nowMs - this.#answeredAtMs > MOST_PAUSE_MS) this.#goodSinceMs = null;
        if (this.#goodSinceMs !== null && nowMs - this.#goodSinceMs >= this.#holdMs) this.#return();
    }
  }

  #isInDoubt(nowMs: number): boolean {
    return nowMs - this.#heardAtMs >= SILENT_SUSPECT_MS || nowMs - this.#answeredAtMs >= UNANSWERED_SUSPECT_MS;
  }

  #ask(nowMs: number): void {
    const isInDoubt = this.#state === 'proving' || this.#state === 'suspect';
    const everyMs = this.#state === 'mqtt' ? ASK_AGAIN_EVERY_MS : isInDoubt ? TICK_MS : ASK_EVERY_MS;
    if (nowMs - this.#askedAtMs >= everyMs) {
      this.#askedAtMs = nowMs;
      this.#question('udp', nowMs);
    }
    const mayAskMqtt = this.#roundTripMs.mqtt === null && this.#askedByMqtt < MOST_ASKED_BY_MQTT;
    if (mayAskMqtt && nowMs - this.#askedMqttAtMs >= ASK_MQTT_EVERY_MS && this.#options.mqttIsUp()) {
      this.#askedMqttAtMs = nowMs;
      this.#askedByMqtt += 1;
      this.#question('mqtt', nowMs);
    }
  }

  #question(by: MediaPath, atMs: number): void {
    const transaction = randomBytes(STUN_TRANSACTION_BYTES);
    this.#questions.push({ transaction, by, atMs });
    if (this.#questions.length > MOST_QUESTIONS) this.#questions.shift();
    this.#sendBy(by, writeStunRequest(transaction));
  }

  #sendBy(by: MediaPath, datagram: Uint8Array): void {
    if (by === 'udp') this.#options.sendUdp(datagram);
    else this.#options.sendMqtt(datagram);
  }

  #leave(reason: MoveReason): void {
    const nowMs = this.#options.clock.nowMs();
    const didLast = nowMs - this.#returnedAtMs >= LASTING_MS;
    this.#holdMs = didLast ? LEAST_HOLD_MS : Math.min(MOST_HOLD_MS, 2 * this.#holdMs);
    this.#goodSinceMs = null;
    this.#move('mqtt', reason);
  }

  #return(): void {
    const nowMs = this.#options.clock.nowMs();
    this.#returnedAtMs = nowMs;
    this.#heardAtMs = nowMs;
    this.#answeredAtMs = nowMs;
    this.#move('udp', 'returned');
  }

  #move(path: MediaPath, reason: MoveReason): void {
    this.#enter(path);
    this.#migrations += 1;
    this.#options.moved(path, reason);
  }

  #enter(state: 'proving' | 'udp' | 'suspect' | 'mqtt'): void {
    this.#state = state;
    this.#enteredAtMs = this.#options.clock.nowMs();
  }
}
