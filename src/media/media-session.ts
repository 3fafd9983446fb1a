import type { AudioFrame, RateHz } from '../audio/frame.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../codec/codec.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { Playout } from '../playout/playout.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import type { QualityFigures } from '../protocol/quality.js';
import type { LocalStep } from '../quality/local-ladder.js';
import { RemoteSource } from '../rtp/remote-source.js';
import { parseRtcp } from '../rtp/rtcp-parse.js';
import { kindOfDatagram, parseRtp, type RtpPacket } from '../rtp/rtp-packet.js';
import { SendStatistics } from '../rtp/send-statistics.js';
import type { FrameSource } from './frame-source.js';
import { IncomingStream } from './incoming-stream.js';
import { MediaProtection } from './media-protection.js';
import { RtcpReporter } from './rtcp-reporter.js';
import { protectionLimits, SendLadder, type SendSettings } from './send-ladder.js';
import { SendPipeline } from './send-pipeline.js';
import type { SessionAgreement } from './session-agreement.js';
import { clockRateHzOf, durationMsOf, SessionCodecs } from './session-codecs.js';
import { SessionEvents } from './session-events.js';
import { SessionQuality } from './session-quality.js';
import { SilenceWatch } from './silence-watch.js';

/** Without a packet for so long the far end counts as silent; one that sends reports alone has up to 6.2 s between them. */
const SILENT_AFTER_RTP_MS = 5_000;
const SILENT_AFTER_RTCP_MS = 8_000;
const SCORE_EVERY_MS = 1_000;

export interface MediaSessionOptions {
  readonly sessionId: string;
  readonly ssrc: number;
  readonly cname: string;
  readonly rateHz: RateHz;
  readonly clock: Clock;
  /** 0 ≤ r < 1; for the first sequence number and timestamp, and the reports' spread. */
  readonly random: () => number;
  readonly opus: OpusEncoderSettings;
  /** Both are freed by the session; the encoder is adjusted to what is agreed on. */
  readonly encoder: AudioEncoder;
  readonly decoder: AudioDecoder;
  /** Bounds of the target delay. */
  readonly playout: { readonly leastMs: number; readonly mostMs: number };
  readonly listener: MediaSessionListener;
}

export interface MediaSessionListener {
  /** Takes the datagram over, RTP or RTCP. */
  send(datagram: Uint8Array): void;
  /** The first packet of the far end was played, so long after the session was made. */
  heard(afterMs: number): void;
  silent(isSilent: boolean): void;
  /** Once a second while it is started. */
  quality?(figures: QualityFigures): void;
  /** The far end pressed a digit of a telephone, for so long. */
  digit?(digit: string, durationMs: number): void;
}

export type SessionWay = Pick<SessionFigures, 'remote' | 'path' | 'migrations' | 'probeRoundTripMs'>;
const NO_WAY: SessionWay = { remote: null, path: 'udp', migrations: 0, probeRoundTripMs: { udp: null, mqtt: null } };

/**
 * One far end: what it is sent, what of it is played, and the reports of both (RFC 3550, 7587), protected where both
 * agreed on keys (RFC 3711). Opens no socket and no card.
 *
 * ```
 *  frame() ──▶ SendPipeline ─────────────────────────────── [ SRTP ] ──▶ send()
 *                   │ SendStatistics ──▶ RtcpReporter ───── [ SRTP ] ──▶ send()
 *                   ▼                      ▲      ▲
 *               figures()                  │      │ reception
 *                   ▲             RTCP ────┘      │
 *  datagram() ─▶ [ RFC 5761 ] ─▶ [ SRTP ] ── RTP ─▶ RemoteSource ──▶ Playout ──▶ pull()
 * ```
 */
export class MediaSession implements FrameSource {
  /** What was refused, by class of fault; the socket's owner counts here too. */
  readonly refused = new Counters<string>();
  readonly #options: MediaSessionOptions;
  readonly #openedMs: number;
  readonly #sending: SendStatistics;
  readonly #sender: SendPipeline;
  readonly #source: RemoteSource;
  readonly #playout: Playout;
  readonly #reporter: RtcpReporter;
  readonly #protection: MediaProtection;
  readonly #codecs: SessionCodecs;
  readonly #events: SessionEvents;
  #agreement: SessionAgreement | null = null;
  #firstAudioAfterMs: number | null = null;
  readonly #silence: SilenceWatch;
  #scoreTimer: Timer | null = null;
  readonly #quality: SessionQuality;
  readonly #incoming: IncomingStream;
  readonly #ladder: SendLadder;
  #isClosed = false;

  constructor(options: MediaSessionOptions) {
    const { clock, random, ssrc, rateHz, listener } = options;
    this.#options = options;
    this.#openedMs = clock.nowMs();
    this.#codecs = new SessionCodecs(options);
    this.#silence = new SilenceWatch(clock, (isSilent) => listener.silent(isSilent));
    this.#protection = new MediaProtection({ ssrc, refused: (fault) => this.refused.count(fault) });
    this.#sending = new SendStatistics({
      clockRateHz: clockRateHzOf('opus'),
      nowMs: clock.nowMs(),
      wallMs: clock.wallMs(),
    });
    this.#sender = new SendPipeline({
      rateHz,
      ssrc,
      // Below 2^15, so that a loss at the start leaves no doubt about the roll-over counter (RFC 3711, 3.3.1).
      sequence: Math.floor(random() * 2 ** 15),
      timestamp: Math.floor(random() * 2 ** 32),
      send: (datagram, timestamp, payloadBytes) => {
        this.#sending.sent(timestamp, payloadBytes, clock.nowMs());
        this.#send('rtp', datagram);
      },
      nowMs: () => clock.nowMs(),
      encoderFailed: () => this.refused.count('encoder-failed'),
    });
    this.#playout = new Playout({
      rateHz,
      ...this.#codecs.incoming('opus'),
      ...options.playout,
      heard: () => {
        this.#firstAudioAfterMs = clock.nowMs() - this.#openedMs;
        listener.heard(this.#firstAudioAfterMs);
      },
      decoderFailed: () => this.refused.count('payload-invalid'),
    });
    this.#events = new SessionEvents({
      clock,
      sender: this.#sender,
      agreed: () => this.#agreement,
      digit: (digit, durationMs) => listener.digit?.(digit, durationMs),
      refused: (fault) => this.refused.count(fault),
    });
    this.#source = new RemoteSource(clockRateHzOf('opus'), {
      deliver: (packet, arrivalMs) => {
        if (this.#events.takes(packet)) this.#incoming.other(packet, arrivalMs);
        else this.#incoming.packet(packet, arrivalMs);
      },
      refused: (fault) => this.refused.count(fault),
    });
    this.#reporter = new RtcpReporter({
      ssrc,
      cname: options.cname,
      clock,
      random,
      source: this.#source,
      sending: this.#sending,
      send: (datagram) => this.#send('rtcp', datagram),
      extended: () => this.#quality.extended(),
      reported: (block, extended, nowMs) => this.#ladder.report(this.#quality.reported(block, extended, nowMs)),
      refused: (fault) => this.refused.count(fault),
    });
    this.#quality = new SessionQuality({
      clockRateHz: () => clockRateHzOf(this.#agreement?.codec ?? 'opus'),
      playout: () => this.#playout.figures,
      roundTripMs: () => this.#sending.roundTripMs,
      sentPackets: () => this.#sending.packets,
    });
    this.#incoming = new IncomingStream({
      quality: this.#quality,
      insert: (packet, arrivalMs, isRedundant) => this.#playout.insert(packet, arrivalMs, { isRedundant }),
      noAudio: (packet) => this.#playout.noAudio(packet),
      waitFor: (copiesMs) => {
        this.#playout.leastDelayMs = copiesMs;
      },
      jitterMs: () => this.#source.statistics?.jitterMs ?? 0,
      lost: () => this.#reporter.lossSeen(),
      refused: (fault) => this.refused.count(fault),
    });
    this.#ladder = new SendLadder({
      opus: options.opus,
      openedMs: this.#openedMs,
      apply: (settings) => this.#useEncoder(settings),
    });
  }

  get sessionId(): string {
    return this.#options.sessionId;
  }

  get ssrc(): number {
    return this.#options.ssrc;
  }

  /** It wants the microphone's frames. */
  get isSending(): boolean {
    return this.#agreement !== null && !this.#agreement.muted;
  }

  /** Starts the flow of media, or changes it: sequence, SSRC and figures go on. @throws AppError `srtp-key-invalid` */
  start(agreement: SessionAgreement): void {
    if (this.#isClosed) return;
    this.#protection.use(agreement.srtp);
    const before = this.#agreement;
    this.#agreement = agreement;
    if (agreement.codec !== (before?.codec ?? 'opus')) {
      this.#playout.use(this.#codecs.incoming(agreement.codec));
      this.#source.useClock(clockRateHzOf(agreement.codec));
    }
    this.#incoming.use({
      payloadType: agreement.receivePayloadType,
      redPayloadType: agreement.red?.receive ?? null,
      clockRateHz: clockRateHzOf(agreement.codec),
      durationMs: durationMsOf(agreement.codec),
    });
    this.#quality.codec(agreement.codec === 'opus');
    const { opus, rateHz, clock } = this.#options;
    this.#ladder.agreed(protectionLimits(opus, agreement, rateHz), clock.nowMs());
    if (before !== null) {
      // Who starts it again may be a new run of the station, which has not been told.
      this.#silence.tellAgain();
      return;
    }
    this.#reporter.start();
    this.#silence.start(SILENT_AFTER_RTP_MS);
    this.#scoreLater();
  }

  /** A datagram from the far end; kept as it is until it is played. What is no RTP or RTCP of this session is counted. */
  datagram(datagram: Uint8Array, arrivalMs: number): void {
    if (this.#isClosed) return;
    switch (kindOfDatagram(datagram)) {
      case 'rtp':
        this.#rtp(datagram, arrivalMs);
        break;
      case 'rtcp':
        this.#rtcp(datagram, arrivalMs);
        break;
      case 'neither':
        this.refused.count(datagram.length < 2 ? 'rtp-too-short' : 'rtp-wrong-version');
    }
  }

  /** Whether this is valid (with SRTP: authentic) RTP of the payload type, and of the source if one is known, that the session waits for. */
  expects(datagram: Uint8Array): boolean {
    if (this.#agreement === null || kindOfDatagram(datagram) !== 'rtp') return false;
    const packet = this.#protection.peek(datagram, this.#options.clock.nowMs());
    if (packet === null) return false;
    const parsed = parseRtp(packet);
    if (!parsed.ok || !this.#incoming.takes(parsed.packet.payloadType)) return false;
    const known = this.#source.statistics?.ssrc;
    return parsed.packet.ssrc !== this.ssrc && (known === undefined || known === parsed.packet.ssrc);
  }

  /** Sends digits, also while muted. @throws AppError `events-not-agreed`, `events-full`, `digits-invalid` */
  sendDigits(digits: string, durationMs: number): void {
    this.#events.send(digits, durationMs);
  }

  /** 10 ms of the microphone; or of something else (`isAnnouncement`) that is sent though that is muted. @returns whether it is sent */
  frame(frame: AudioFrame, isAnnouncement = false): boolean {
    const isSent = !this.#isClosed && (isAnnouncement ? this.#agreement !== null : this.isSending);
    if (isSent) this.#sender.push(frame);
    return isSent;
  }

  /** The most that is sent from now on, headers and copies included, in bit/s; null: as much as is found good. */
  limit(bitrateBps: number | null): void {
    this.#ladder.cap(bitrateBps, this.#options.clock.nowMs());
  }

  /** How long a packet takes to encode, a running mean, and how long it lasts; null while nothing is sent. */
  get encoding(): { readonly encodeMs: number; readonly packetTimeMs: number } | null {
    const { packetTimeMs, encodeMs } = this.#sender;
    return packetTimeMs === null || !this.isSending ? null : { encodeMs: encodeMs.mean, packetTimeMs };
  }

  /** What this machine bears from now on. */
  bear(step: LocalStep): void {
    this.#ladder.bear(step);
  }

  pull(nowMs: number): Int16Array | null {
    return this.#isClosed ? null : this.#playout.pull(nowMs);
  }

  /** @param way how packets travel; only the sockets' owner knows */
  figures(way: SessionWay = NO_WAY): SessionFigures {
    const playout = this.#playout.figures;
    const statistics = this.#source.statistics;
    return {
      sessionId: this.sessionId,
      ssrc: this.ssrc,
      remoteSsrc: statistics?.ssrc ?? null,
      ...way,
      srtp: this.#protection.suite,
      sent: this.#sending.packets,
      sentBytes: this.#sending.payloadBytes,
      received: this.#source.received,
      lost: this.#source.lost,
      late: playout.late,
      duplicate: playout.duplicate,
      reordered: playout.reordered,
      fecDecoded: playout.fecDecoded,
      concealed: playout.concealed,
      concealedMs: playout.concealedMs,
      jitterMs: statistics?.jitterMs ?? 0,
      roundTripMs: this.#sending.roundTripMs,
      remoteLost: this.#sending.remoteLost,
      remoteJitterMs: this.#sending.remoteJitterMs,
      playoutDelayMs: playout.delayMs,
      targetDelayMs: playout.targetDelayMs,
      firstAudioAfterMs: this.#firstAudioAfterMs,
      quality: this.#qualityFigures(),
      refused: Object.fromEntries(Object.entries(this.refused.all()).map(([fault, count]) => [fault, count ?? 0])),
    };
  }

  /** Says goodbye and frees the codecs; the figures stay. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#silence.close();
    this.#scoreTimer?.cancel();
    this.#events.close();
    this.#reporter.close();
    this.#codecs.free();
    this.#playout.free();
  }

  #rtp(datagram: Uint8Array, arrivalMs: number): void {
    const plain = this.#protection.incoming('rtp', datagram, arrivalMs);
    if (plain === null) return;
    const parsed = parseRtp(plain);
    const fault = parsed.ok ? this.#whyNotOurs(parsed.packet) : parsed.fault;
    if (fault !== null) {
      this.refused.count(fault);
    } else if (parsed.ok) {
      this.#silence.heard(arrivalMs + SILENT_AFTER_RTP_MS);
      this.#source.packet(this.#events.placed(parsed.packet), arrivalMs);
    }
  }

  #whyNotOurs(packet: RtpPacket): string | null {
    if (this.#agreement === null) return 'before-start';
    const isOurs = this.#incoming.takes(packet.payloadType) || this.#events.takesType(packet.payloadType);
    if (!isOurs) return 'other-payload-type';
    return packet.ssrc === this.ssrc ? 'own-ssrc' : null;
  }

  #rtcp(datagram: Uint8Array, arrivalMs: number): void {
    const plain = this.#protection.incoming('rtcp', datagram, arrivalMs);
    if (plain === null) return;
    const parsed = parseRtcp(plain);
    if (parsed.ok) this.#silence.heard(arrivalMs + SILENT_AFTER_RTCP_MS);
    if (parsed.ok) this.#reporter.received(parsed.packets, arrivalMs);
    else this.refused.count(parsed.fault);
  }

  #send(kind: 'rtp' | 'rtcp', datagram: Uint8Array): void {
    const sent = this.#protection.outgoing(kind, datagram);
    if (sent !== null) this.#options.listener.send(sent);
  }

  /** What the ladder chose, or both ends have just agreed on. */
  #useEncoder({ opus, redDistances }: SendSettings): void {
    const agreement = this.#agreement;
    if (agreement === null) return;
    const clockRateHz = clockRateHzOf(agreement.codec);
    this.#sender.use({
      encoder: this.#codecs.encoder(agreement.codec, opus),
      packetTimeMs: opus.packetTimeMs,
      payloadType: agreement.sendPayloadType,
      clockRateHz,
      red: agreement.red === null ? null : { payloadType: agreement.red.send, distances: redDistances },
    });
    this.#sending.useClock(clockRateHz);
  }

  #scoreLater(): void {
    const { clock, listener } = this.#options;
    this.#scoreTimer = clock.after(SCORE_EVERY_MS, () => {
      this.#quality.score(clock.nowMs());
      listener.quality?.(this.#qualityFigures());
      this.#scoreLater();
    });
  }

  #qualityFigures(): QualityFigures {
    return { ...this.#quality.figures(), ladder: [...this.#ladder.steps] };
  }
}
