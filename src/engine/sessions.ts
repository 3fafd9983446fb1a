import { randomBytes } from 'node:crypto';
import { type UdpPort, UdpPortRange } from '../adapters/udp/udp-port.js';
import type { AudioFrame, RateHz } from '../audio/frame.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { FrameSource } from '../media/frame-source.js';
import { MediaSession } from '../media/media-session.js';
import type { SessionAgreement } from '../media/session-agreement.js';
import type { MediaPath, MqttIdentity, SessionFigures, Transport } from '../protocol/engine-api.js';
import type { QualityFigures } from '../protocol/quality.js';
import type { ProbeResult } from '../protocol/selftest.js';
import type { LocalStep } from '../quality/local-ladder.js';
import { CardlessEnd, type CardlessKind } from './cardless-end.js';
import { MqttPaths } from './mqtt-paths.js';
import type { EngineParts } from './parts.js';
import { type MoveReason, PathKeeper } from './path-keeper.js';

/** A station talks with one far end, and may ring a few. */
const MOST_SESSIONS = 8;
const REFUSED_LOG_MS = 10_000;
const HARMLESS = new Set(['before-start', 'srtp-replayed', 'srtcp-replayed']);

export interface SessionsListener {
  heard(sessionId: string, afterMs: number): void;
  silent(sessionId: string, isSilent: boolean): void;
  digit(sessionId: string, digit: string, durationMs: number): void;
  /** The session's packets take another path from now on. */
  moved(sessionId: string, path: MediaPath, reason: MoveReason): void;
  /** Once a second of a session that is started. */
  quality(sessionId: string, path: MediaPath, quality: QualityFigures): void;
  /** What `wantMicrophone` says may have changed, or a source came to or left the mixer. */
  changed(): void;
}

export interface SessionsOptions {
  readonly config: Config;
  readonly rateHz: RateHz;
  readonly parts: EngineParts;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly mixer: { add(source: FrameSource): void; remove(source: FrameSource): void };
  readonly listener: SessionsListener;
}

const UNTOLD: Omit<SessionsListener, 'changed' | 'moved'> = {
  heard: () => {},
  silent: () => {},
  digit: () => {},
  quality: () => {},
};

interface OpenSession {
  readonly media: MediaSession;
  readonly port: UdpPort;
  readonly keeper: PathKeeper;
  /** In the place of the cards, where it has none. */
  readonly cardless: CardlessEnd | null;
  /** Where the session was last told that the far end is, and that either path will do. */
  proved: Transport | null;
}

/** How packets get to the far end. */
export interface SessionRoute {
  readonly path: MediaPath;
  readonly remote: Transport;
  readonly provePath: boolean;
}

export interface SessionOffer {
  readonly local: Transport;
  readonly ssrc: number;
  readonly cname: string;
}

/** Every session with its UDP port, and with its path inside MQTT where it may need that. */
export class Sessions {
  readonly #options: SessionsOptions;
  readonly #ports: UdpPortRange;
  readonly #mqttPaths: MqttPaths;
  /** Random and short-lived, so that it names nobody (RFC 7022, 4.2). */
  readonly #cname = randomBytes(12).toString('base64');
  readonly #sessions = new Map<string, Promise<OpenSession>>();
  readonly #open = new Map<string, OpenSession>();
  /** What is given back of sessions that are no more; their ids may be in use again. */
  readonly #closing = new Set<Promise<unknown>>();
  /** Of a station that is gone, and not asked for again. */
  readonly #abandoned = new Set<string>();
  #logTimer: Timer;
  #refusedLogged = 0;
  #local: LocalStep | null = null;

  constructor(options: SessionsOptions) {
    this.#options = options;
    const { address, ports } = options.config.rtp;
    this.#ports = new UdpPortRange({ address, from: ports.from, to: ports.to });
    this.#mqttPaths = new MqttPaths(options);
    this.#logTimer = this.#logLater();
  }

  /** Who the sessions are to the broker, those that take the path inside MQTT from now on. */
  identify(identity: MqttIdentity): void {
    this.#mqttPaths.identify(identity);
  }

  /** Some session sends what the microphone hears. */
  get wantMicrophone(): boolean {
    for (const { media, cardless } of this.#open.values()) if (cardless === null && media.isSending) return true;
    return false;
  }

  /** Some session has the cards, or will when it is started. */
  get hasCards(): boolean {
    for (const { cardless } of this.#open.values()) if (cardless === null) return true;
    return false;
  }

  /**
   * Takes a port and an SSRC; for a session that is open already, gives what it has.
   * @throws AppError `too-many-sessions`, `port-taken`, `address-absent`, `socket-failed`
   */
  async open(sessionId: string, end: 'cards' | CardlessKind = 'cards'): Promise<SessionOffer> {
    this.#abandoned.delete(sessionId);
    let opening = this.#sessions.get(sessionId);
    if (opening === undefined) {
      if (this.#sessions.size >= MOST_SESSIONS) {
        throw new AppError('too-many-sessions', `${MOST_SESSIONS} sessions are open`, { remedy: 'Close one first' });
      }
      opening = this.#make(sessionId, end === 'cards' ? null : end);
      this.#sessions.set(sessionId, opening);
      opening.then(
        (session) => this.#open.set(sessionId, session),
        () => this.#sessions.delete(sessionId),
      );
    }
    const { media, port } = await opening;
    return { local: { ...port.local }, ssrc: media.ssrc, cname: this.#cname };
  }

  /** Starts a session, or moves it to another path. @throws AppError `session-unknown`, `credentials-missing` */
  async start(sessionId: string, route: SessionRoute, agreement: SessionAgreement): Promise<void> {
    this.#abandoned.delete(sessionId);
    const session = await this.#find(sessionId);
    const { media, port, keeper } = session;
    if (route.path === 'udp' || route.provePath) port.towards(route.remote);
    if (route.provePath && this.#mayMove(session, route.path)) {
      if (session.proved === null || !isSame(session.proved, route.remote)) keeper.prove();
      else if (route.path === 'mqtt') keeper.leaveUdp();
      session.proved = route.remote;
    } else {
      if (route.path === 'mqtt') this.#openMqtt(session);
      else await this.#mqttPaths.close(sessionId);
      keeper.fix(route.path);
      session.proved = null;
    }
    media.start(agreement);
    session.cardless?.start();
    this.#options.listener.changed();
  }

  /** @throws AppError `session-unknown`, and what `MediaSession.sendDigits` says */
  async sendDigits(sessionId: string, digits: string, durationMs: number): Promise<void> {
    const { media } = await this.#find(sessionId);
    media.sendDigits(digits, durationMs);
  }

  /** Of a session that probes. @throws AppError `session-unknown`, `session-has-cards` */
  async probed(sessionId: string): Promise<ProbeResult> {
    const session = await this.#find(sessionId);
    const { cardless } = session;
    if (cardless !== null) return { ...cardless.result(), mos: figuresOf(session).quality.mos.listening };
    throw new AppError('session-has-cards', `session ${sessionId} sends what the microphone hears, no test signal`);
  }

  /** @param bitrateBps the most that it sends, headers and copies included; null: as much as it finds good. @throws AppError `session-unknown` */
  async limit(sessionId: string, bitrateBps: number | null): Promise<void> {
    const { media } = await this.#find(sessionId);
    media.limit(bitrateBps);
  }

  /** Says goodbye, frees the port. @throws AppError `session-unknown` */
  async close(sessionId: string): Promise<SessionFigures> {
    const session = await this.#find(sessionId);
    const { media, port, keeper } = session;
    const figures = figuresOf(session);
    this.#open.delete(sessionId);
    this.#sessions.delete(sessionId);
    session.cardless?.stop();
    this.#options.mixer.remove(media);
    this.#options.listener.changed();
    keeper.stop();
    media.close();
    const closing = Promise.all([port.close(), this.#mqttPaths.close(sessionId)]);
    this.#closing.add(closing);
    await closing.finally(() => this.#closing.delete(closing));
    return figures;
  }

  /** The station is gone: until one opens or starts it again, a session is nobody's. */
  abandon(): void {
    for (const sessionId of this.#sessions.keys()) this.#abandoned.add(sessionId);
  }

  /** @returns how many there were */
  async closeAbandoned(): Promise<number> {
    const closed = [...this.#abandoned];
    this.#abandoned.clear();
    await Promise.allSettled(closed.map((sessionId) => this.close(sessionId)));
    return closed.length;
  }

  /** Closes them all, and ends the housekeeping. */
  async end(): Promise<void> {
    this.#logTimer.cancel();
    await Promise.allSettled([...this.#sessions.keys()].map((sessionId) => this.close(sessionId)));
    await Promise.allSettled(this.#closing);
  }

  /** Of the session that takes the largest share of its packet's time to encode; null where none sends. */
  encoding(): { readonly encodeMs: number; readonly packetTimeMs: number } | null {
    let slowest: { readonly encodeMs: number; readonly packetTimeMs: number } | null = null;
    for (const { media } of this.#open.values()) {
      const { encoding } = media;
      const share = (of: typeof encoding) => (of === null ? -1 : of.encodeMs / of.packetTimeMs);
      if (share(encoding) > share(slowest)) slowest = encoding;
    }
    return slowest;
  }

  /** What this machine bears from now on, these sessions and those to come. */
  bear(step: LocalStep): void {
    this.#local = step;
    for (const { media } of this.#open.values()) media.bear(step);
  }

  /** 10 ms for every far end that hears the cards; `alone` for those that the microphone is kept from. @returns whether anybody is sent it */
  frame(frame: AudioFrame, alone: AudioFrame | null = null): boolean {
    let isSent = false;
    for (const { media, cardless } of this.#open.values()) {
      if (cardless !== null) continue;
      if (media.frame(frame) || (alone !== null && media.frame(alone, true))) isSent = true;
    }
    return isSent;
  }

  figures(): SessionFigures[] {
    return [...this.#open.values()].map(figuresOf);
  }

  /** Opens the other path ahead of the need. @returns whether there is one */
  #mayMove(session: OpenSession, path: MediaPath): boolean {
    try {
      this.#openMqtt(session);
      return true;
    } catch (error) {
      if (path === 'mqtt') throw error;
      this.#options.logger.warn({ error: errorText(error) }, 'the call can use UDP alone');
      return false;
    }
  }

  #openMqtt({ media, keeper }: OpenSession): void {
    this.#mqttPaths.open(media.sessionId, {
      refused: media.refused,
      listener: {
        datagram: (datagram, arrivalMs) => {
          if (!keeper.take(datagram, 'mqtt')) media.datagram(datagram, arrivalMs);
        },
        expects: (datagram) => media.expects(datagram),
      },
    });
  }

  async #find(sessionId: string): Promise<OpenSession> {
    const session = await this.#sessions.get(sessionId);
    // It may have been closed, and opened anew, in the meantime.
    if (session === undefined || this.#open.get(sessionId) !== session)
      throw new AppError('session-unknown', `There is no session ${sessionId}`);
    return session;
  }

  async #make(sessionId: string, cardless: CardlessKind | null): Promise<OpenSession> {
    const { config, rateHz, parts, clock, logger, mixer } = this.#options;
    const { listener: all } = this.#options;
    // Nobody talks in one without cards who would want to know; its peer must, where to find it.
    const listener = cardless === null ? all : { ...UNTOLD, moved: all.moved.bind(all) };
    const encoder = await parts.encoder({ rateHz, settings: config.opus });
    const decoder = await parts.decoder({ rateHz }).catch((error) => {
      encoder.free();
      throw error;
    });
    let session: OpenSession | null = null;
    const media = new MediaSession({
      sessionId,
      ssrc: randomBytes(4).readUInt32BE(),
      cname: this.#cname,
      rateHz,
      clock,
      random: () => randomBytes(4).readUInt32BE() / 2 ** 32,
      opus: config.opus,
      encoder,
      decoder,
      playout: config.playout,
      listener: {
        send: (datagram) => session?.keeper.send(datagram),
        heard: (afterMs) => listener.heard(sessionId, afterMs),
        silent: (isSilent) => listener.silent(sessionId, isSilent),
        quality: (quality) => {
          if (quality.ladder.at(-1)?.wantsOtherPath === true) session?.keeper.lossy();
          listener.quality(sessionId, session?.keeper.path ?? 'udp', quality);
        },
        digit: (digit, durationMs) => listener.digit(sessionId, digit, durationMs),
      },
    });
    try {
      const port = await this.#ports.bind({
        clock,
        logger: this.#options.logger,
        refused: media.refused,
        listener: {
          datagram: (datagram, arrivalMs) => {
            if (session?.keeper.take(datagram, 'udp') !== true) media.datagram(datagram, arrivalMs);
          },
          expects: (datagram) => media.expects(datagram),
        },
      });
      const keeper = new PathKeeper({
        clock,
        remote: () => port.remote,
        sendUdp: (datagram) => port.send(datagram),
        sendMqtt: (datagram) => this.#mqttPaths.send(sessionId, datagram),
        mqttIsUp: () => this.#mqttPaths.isUp,
        moved: (path, reason) => {
          logger.info({ sessionId, path, reason }, 'the session has moved to another path');
          listener.moved(sessionId, path, reason);
        },
      });
      const end = cardless === null ? null : new CardlessEnd({ kind: cardless, media, rateHz, clock });
      session = { media, port, keeper, cardless: end, proved: null };
    } catch (error) {
      media.close();
      throw error;
    }
    if (this.#local !== null) media.bear(this.#local);
    if (cardless === null) mixer.add(media);
    return session;
  }

  /** One line for whatever was refused in the last 10 s, however much it was. */
  #logLater(): Timer {
    return this.#options.clock.after(REFUSED_LOG_MS, () => {
      const refused = this.figures().map((figures) => ({ sessionId: figures.sessionId, faults: figures.refused }));
      // What comes before the answer has arrived is early, and what comes by both paths is twice there: neither is wrong.
      const wrong = refused.flatMap(({ faults }) => Object.entries(faults).filter(([fault]) => !HARMLESS.has(fault)));
      const total = wrong.reduce((sum, [, count]) => sum + count, 0);
      if (total > this.#refusedLogged) this.#options.logger.warn({ refused }, 'packets were refused');
      this.#refusedLogged = total;
      this.#logTimer = this.#logLater();
    });
  }
}

function figuresOf({ media, port, keeper }: OpenSession): SessionFigures {
  const { remote } = port;
  const address = remote === null ? null : { address: remote.address, port: remote.port };
  return media.figures({ remote: address, path: keeper.path, ...keeper.figures });
}

function isSame(one: Transport, other: Transport): boolean {
  return one.address === other.address && one.port === other.port;
}
