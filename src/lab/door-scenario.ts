import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { silentLogger } from '../core/logger.js';
import { type CallMessage, callMessageSchema, parseBody } from '../protocol/call-message.js';
import { topic } from '../protocol/topics.js';
import {
  attempt,
  doorWiring,
  inTime,
  type ScenarioContext,
  sleep,
  startScenarioSite,
  talk,
  watchBoth,
} from './scenario.js';
import type { Site } from './site.js';
import { buttonLine } from './site-control.js';

export interface DoorResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** How long the pin was at its open level when the station was ended by SIGKILL, 300 ms into the pulse. */
  readonly killed: { readonly openMs: number | null };
  /** The same for SIGSTOP: a station that hangs is ended by its watchdog. */
  readonly hung: { readonly openMs: number | null };
  /** The longest of them. */
  readonly openMs: number | null;
  /** How often the pin opened though nobody had pressed for it: must be 0. */
  readonly openedByReplay: number;
  /** What was sent to open it, by kind. */
  readonly replayed: {
    readonly copies: number;
    readonly retained: number;
    readonly late: number;
    readonly afterCall: number;
    readonly afterRestart: number;
  };
  /** What of it the door station says that it refused, by why: proof that it got there. */
  readonly refused: Readonly<Record<string, number>>;
}

const MID_PULSE_MS = 300;
const GRACE_MS = 2_500;
/** Within it an opening would show at the pin; a relay takes milliseconds, a message over the broker some tens. */
const SETTLE_MS = 600;
const LATE_BY_MS = 300;
const MUST_BE_REFUSED = ['replayed', 'retained', 'late', 'no-call'];

type DoorMessage<T extends CallMessage['type']> = Extract<CallMessage, { type: T }>;

/**
 * Whatever happens to the station, the door shuts; and whatever is sent, it opens for a press alone. Openings are replayed
 * through the real broker with the certificates of those who may write there: the panel's, and the switchboard's.
 */
export async function runDoorScenario(context: ScenarioContext): Promise<DoorResult> {
  const { log } = context;
  const failed: string[] = [];
  const site = await startScenarioSite(context);
  const pin = new DoorPin(site);
  const broker = new Burglar(site);
  const replayed = { copies: 0, retained: 0, late: 0, afterCall: 0, afterRestart: 0 };
  try {
    await broker.connected();
    log('openings are replayed, kept by the broker, and sent late');
    const refused = (await attempt(failed, 'replay', () => replay(site, pin, broker, replayed))) ?? {};
    for (const why of MUST_BE_REFUSED) {
      if ((refused[why] ?? 0) === 0) failed.push(`no opening reached the door that it had to refuse as ${why}`);
    }
    log('the station is killed with the door open');
    const killedMs = await attempt(failed, 'killed', () => endMidPulse(site, pin, 'SIGKILL'));
    await sleep(SETTLE_MS); // retained openings come again to the station that has started anew
    replayed.afterRestart = replayed.retained;
    log('the station hangs with the door open');
    const hungMs = await attempt(failed, 'hung', () => endMidPulse(site, pin, 'SIGSTOP'));
    await sleep(SETTLE_MS);
    const limitMs = site.plan.pulseMs + GRACE_MS;
    for (const [how, ms] of Object.entries({ killed: killedMs, hung: hungMs })) {
      if (ms !== undefined && ms > limitMs) failed.push(`${how}: the door was open for ${Math.round(ms)} ms`);
    }
    if (pin.unasked > 0) failed.push(`the door opened ${pin.unasked} times unasked`);
    const measured = [killedMs, hungMs].filter((ms) => ms !== undefined);
    return {
      ok: failed.length === 0,
      failed,
      killed: { openMs: killedMs ?? null },
      hung: { openMs: hungMs ?? null },
      openMs: measured.length === 2 ? Math.max(...measured) : null,
      openedByReplay: pin.unasked,
      replayed,
      refused,
    };
  } finally {
    await broker.close();
    await site.stop();
  }
}

/** The relay's pin: how long it is open when asked for, and how often it opens unasked. */
class DoorPin {
  unasked = 0;
  readonly #site: Site;
  readonly #line: number;
  #asked = 0;

  constructor(site: Site) {
    this.#site = site;
    this.#line = doorWiring(site).relayLine;
    site.boards.door.onLevel((line, level) => {
      if (line !== this.#line || level === 0) return;
      if (this.#asked > 0) this.#asked -= 1;
      else this.unasked += 1;
    });
  }

  /** Presses for the door indoors. Resolves with when it opened, and the promise of how long it will have been open. */
  async pressed(): Promise<{ openMs: Promise<number> }> {
    const board = this.#site.boards.door;
    if (board.level(this.#line) !== 0) throw new AppError('door-still', 'the door is open before it is asked for');
    this.#asked += 1;
    const press = this.#site.boards.indoor.press(buttonLine(this.#site, 'indoor', 'open'));
    const opened = inTime(board.reached(this.#line, 1), 5_000, 'the door opens');
    const [openedAtMs] = await Promise.all([opened, press]);
    const openMs = inTime(board.reached(this.#line, 0), 15_000, 'the door shuts').then((atMs) => atMs - openedAtMs);
    openMs.catch(() => {}); // who awaits it is told
    return { openMs };
  }
}

async function endMidPulse(site: Site, pin: DoorPin, signal: 'SIGKILL' | 'SIGSTOP'): Promise<number> {
  const watches = await watchBoth(site);
  try {
    await talk(site, watches);
    const { station } = site.services.door;
    const { pid } = station;
    if (pid === undefined) throw new AppError('station-incomplete', 'the door station does not run');
    const again = new Promise<void>((resolve) => station.once('ready', () => resolve()));
    const { openMs } = await pin.pressed();
    await sleep(MID_PULSE_MS);
    process.kill(pid, signal);
    const took = await openMs;
    await inTime(again, 15_000, 'the station is back');
    await watches.indoor.client.call('call.hangUp', {}).catch(() => {}); // it may have ended by itself
    await idle(site);
    return took;
  } finally {
    watches.door.close();
    watches.indoor.close();
  }
}

/** Both stations are on the broker and without a call. */
async function idle(site: Site): Promise<void> {
  const watches = await watchBoth(site);
  try {
    for (let waitedMs = 0; waitedMs < 12_000; waitedMs += 100) {
      const both = await Promise.all(
        [watches.door, watches.indoor].map(({ client }) => client.call('station.status', {})),
      );
      if (both.every(({ broker, calls }) => broker.connected && calls.every(({ state }) => state === 'ended'))) return;
      await sleep(100);
    }
    throw new AppError('station-incomplete', 'the stations did not come to rest');
  } finally {
    watches.door.close();
    watches.indoor.close();
  }
}

async function replay(
  site: Site,
  pin: DoorPin,
  broker: Burglar,
  replayed: { copies: number; retained: number; late: number; afterCall: number },
): Promise<Record<string, number>> {
  const watches = await watchBoth(site);
  try {
    const { callId } = await talk(site, watches);
    const { openMs } = await pin.pressed();
    const spent = await broker.overheard('door-open', callId);
    await openMs;
    await sleep(SETTLE_MS);

    const copy = { ...spent, id: randomUUID(), seq: spent.seq + 100 };
    for (const message of [spent, copy]) {
      await broker.asPanel(message);
      await broker.asSwitchboard(message);
      replayed.copies += 2;
    }
    await sleep(SETTLE_MS);

    // What an honest panel would send for an authorisation that is good, but kept by the broker.
    const kept = await broker.authorised(callId);
    await broker.asSwitchboard(kept, true);
    await broker.asPanel({ ...kept, id: randomUUID(), seq: kept.seq + 1 }, true);
    replayed.retained += 2;
    await sleep(SETTLE_MS);

    const late = await broker.authorised(callId);
    await sleep(doorWiring(site).ttlMs + LATE_BY_MS);
    await broker.asPanel(late);
    await broker.asSwitchboard({ ...late, id: randomUUID(), seq: late.seq + 1 });
    replayed.late += 2;
    await sleep(SETTLE_MS);

    await watches.indoor.client.call('call.hangUp', {});
    await idle(site);
    for (const message of [spent, kept, late]) {
      await broker.asPanel(message);
      await broker.asSwitchboard({ ...message, id: randomUUID() });
      replayed.afterCall += 2;
    }
    await sleep(SETTLE_MS);
    return (await watches.door.client.call('station.status', {})).door.refused;
  } finally {
    watches.door.close();
    watches.indoor.close();
  }
}

/** Somebody who holds the panel's and the switchboard's certificates, and hears all that stations write. */
class Burglar {
  readonly #site: Site;
  readonly #panel: MqttLink;
  readonly #switchboard: MqttLink;
  readonly #overheard: CallMessage[] = [];
  #seq = 10_000;

  constructor(site: Site) {
    this.#site = site;
    this.#panel = this.#link('indoor');
    this.#switchboard = this.#link('switchboard');
    this.#switchboard.subscribe(topic('home', '+', 'up', 'call/+'), (message) => this.#hear(message));
    this.#panel.start();
    this.#switchboard.start();
  }

  async connected(): Promise<void> {
    for (let waitedMs = 0; waitedMs < 5_000; waitedMs += 50) {
      if (this.#panel.state.connected && this.#switchboard.state.connected) return;
      await sleep(50);
    }
    throw new AppError('broker-unreachable', 'the broker takes no second connection of the same certificates');
  }

  /** The latest message of a type and call that a station wrote. @throws AppError `not-told` */
  async overheard<T extends CallMessage['type']>(
    type: T,
    callId: string,
    fits: (message: DoorMessage<T>) => boolean = () => true,
  ): Promise<DoorMessage<T>> {
    for (let waitedMs = 0; waitedMs < 3_000; waitedMs += 20) {
      const found = this.#overheard.findLast(
        (message): message is DoorMessage<T> =>
          message.type === type && message.callId === callId && fits(message as DoorMessage<T>),
      );
      if (found !== undefined) return found;
      await sleep(20);
    }
    throw new AppError('not-told', `no ${type} was overheard`);
  }

  /** Asks the door for an authorisation in the live call, as the panel would. @returns the opening that it is good for */
  async authorised(callId: string): Promise<DoorMessage<'door-open'>> {
    const header = { v: 1, callId, from: 'indoor', to: 'door' } as const;
    const request = randomUUID();
    await this.asPanel({ ...header, id: randomUUID(), seq: this.#seq++, type: 'door-request', request });
    const { nonce } = await this.overheard('door-challenge', callId, (challenge) => challenge.request === request);
    return { ...header, id: randomUUID(), seq: this.#seq++, type: 'door-open', nonce };
  }

  asPanel(message: CallMessage, retained = false): Promise<void> {
    return this.#publish(this.#panel, topic('home', 'indoor', 'up', `call/${message.callId}`), message, retained);
  }

  asSwitchboard(message: CallMessage, retained = false): Promise<void> {
    return this.#publish(this.#switchboard, topic('home', 'door', 'down', `call/${message.callId}`), message, retained);
  }

  async close(): Promise<void> {
    await Promise.all([this.#panel.close(), this.#switchboard.close()]);
  }

  #publish(link: MqttLink, to: string, message: CallMessage, retained: boolean): Promise<void> {
    return link.publish({ topic: to, body: JSON.stringify(message), qos: 1, priority: 'call', retained });
  }

  #hear({ body }: LinkMessage): void {
    const parsed = parseBody(callMessageSchema, body);
    if (parsed.ok) this.#overheard.push(parsed.value);
  }

  #link(identity: string): MqttLink {
    const pki = join(this.#site.plan.dir, 'indoor', 'state', 'pki');
    const own = readFileSync(join(pki, 'clients', `${identity}.pem`));
    return new MqttLink({
      url: `mqtts://127.0.0.1:${this.#site.plan.brokerPort}`,
      ca: readFileSync(join(pki, 'ca.pem')),
      cert: own,
      key: own,
      clientId: `burglar-${identity}`,
      clock: systemClock,
      logger: silentLogger,
    });
  }
}
