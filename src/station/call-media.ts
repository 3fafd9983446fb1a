import { randomBytes, randomInt } from 'node:crypto';
import { type AudioFormat, answerFormats, g711Of, isAlike, isSpeech, ownFormats } from '../call/audio-formats.js';
import { answerDirection, negotiate } from '../call/negotiate.js';
import { answerSecurity, offerSecurity, type SdesSecurity } from '../call/sdes.js';
import type { AudioDescription, MediaPath } from '../call/sdp.js';
import type { Config } from '../config/schema.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import type { PathChoice } from '../protocol/flows-api.js';
import type { EngineClient, OpenedSession, SessionEnd } from './engine-client.js';

const ENGINE_PATIENCE_MS = 3_000;
/** A media process that restarts in mid-call is given this long. */
const ENGINE_RESTART_MS = 15_000;

/**
 * One call's media session in the media process: what the call asks for is done in its order, one thing at a time. What
 * failed because the media process went away is not a failure yet: the call hears of that on its own, and opens again.
 */
export class CallMedia {
  readonly #engine: EngineClient;
  readonly #config: Config;
  readonly #callId: string;
  readonly #logger: Logger;
  readonly #onOpened: (local: AudioDescription) => void;
  readonly #onFailed: () => void;
  readonly #end: SessionEnd;
  readonly #sdpSessionId: number;
  #sdpVersion: number;
  #paths: readonly MediaPath[];
  #started: Parameters<EngineClient['startSession']>[0] | undefined;
  #local: AudioDescription | undefined;
  #remote: AudioDescription | undefined;
  /** All that both ends have; told of are fewer while this machine is too slow for Opus. */
  #formats: readonly AudioFormat[] | undefined;
  #muted: boolean;
  /** Made once in a call, so that it is the same after a restart of the media process, whose source is another then. */
  #security: SdesSecurity | undefined;
  #chain: Promise<unknown> = Promise.resolve();

  constructor(options: {
    engine: EngineClient;
    config: Config;
    callId: string;
    logger: Logger;
    /** The description of our end, as it can now be told to the peer. */
    onOpened: (local: AudioDescription) => void;
    onFailed: () => void;
    /** What is at our end. */
    end?: SessionEnd;
    /** It is open already, since an earlier run of this station. */
    resumed: { readonly local: AudioDescription; readonly muted: boolean } | undefined;
  }) {
    this.#engine = options.engine;
    this.#config = options.config;
    this.#callId = options.callId;
    this.#logger = options.logger;
    this.#onOpened = options.onOpened;
    this.#end = options.end ?? 'cards';
    this.#paths = this.#configuredPaths;
    this.#onFailed = options.onFailed;
    const { resumed } = options;
    if (resumed?.local.paths !== undefined) this.#paths = resumed.local.paths;
    this.#sdpSessionId = resumed?.local.sessionId ?? randomInt(2 ** 47);
    this.#sdpVersion = resumed?.local.version ?? 0;
    this.#muted = resumed?.muted ?? false;
    this.#security = resumed?.local.security;
  }

  get isMuted(): boolean {
    return this.#muted;
  }

  /** Takes a port, once the media process is there. `remote` is the offer that is being answered. */
  open(remote: AudioDescription | null, isRestart: boolean): void {
    this.#do('opened', async () => {
      await this.#engine.reached(isRestart ? ENGINE_RESTART_MS : ENGINE_PATIENCE_MS);
      this.#onOpened(this.#describe(await this.#engine.openSession(this.#callId, this.#end), remote));
    });
  }

  start(local: AudioDescription, remote: AudioDescription): void {
    const negotiated = negotiate(local, remote, this.#config.opus.packetTimeMs);
    if (negotiated === null) {
      this.#logger.warn({ callId: this.#callId }, 'the peer has no codec of ours');
      this.#onFailed();
      return;
    }
    const { mayWeSend, ...media } = negotiated;
    if (media.srtp === null && !this.#mayBePlain()) {
      this.#logger.warn({ callId: this.#callId }, 'the peer has named no key for SRTP');
      this.#onFailed();
      return;
    }
    // Each end moves by itself; that the peer has left UDP says that it hears us there no longer, its return says nothing.
    const isNews = remote !== this.#remote;
    const path = this.#started === undefined || (isNews && media.path === 'mqtt') ? media.path : this.#started.path;
    this.#remote = remote;
    this.#started = {
      ...media,
      path: media.provePath ? path : media.path,
      remote: { ...media.remote },
      sessionId: this.#callId,
      muted: !mayWeSend,
    };
    this.#start(this.#started);
    this.#local = local;
    this.followMachine();
  }

  /** The peer has described itself anew. */
  follow(remote: AudioDescription): void {
    if (this.#local !== undefined) this.start(this.#local, remote);
  }

  /**
   * Describes our end anew where the media process has become too slow for Opus, with G.711 alone, or is no longer, with all.
   * Nothing where the peer has no G.711.
   */
  followMachine(): void {
    const [local, remote] = [this.#local, this.#remote];
    if (local === undefined || remote === undefined) return;
    const isReduced = this.#formats !== undefined;
    if (isReduced === this.#engine.wantsG711) return;
    const all = this.#formats ?? local.formats;
    const formats = isReduced ? all : g711Of(all);
    if (!isReduced && !formats.some((own) => isSpeech(own) && remote.formats.some((one) => isAlike(own, one)))) return;
    this.#formats = isReduced ? undefined : all;
    this.#logger.warn(
      { callId: this.#callId, formats: formats.map(({ codec }) => codec) },
      'the codec changes in mid-call',
    );
    this.#sdpVersion += 1;
    this.#onOpened({ ...local, formats, version: this.#sdpVersion });
  }

  /** Whether the microphone is kept from this call; also from what is started later. */
  mute(muted: boolean): void {
    this.#muted = muted;
    if (this.#started !== undefined) this.#start(this.#started);
  }

  /** The media process has moved the session to another path: describes our end anew. */
  moved(local: AudioDescription, path: MediaPath): void {
    if (!this.#paths.includes(path)) return;
    this.#paths = path === 'mqtt' ? ['mqtt', 'udp'] : ['udp', 'mqtt'];
    if (this.#started !== undefined) this.#started = { ...this.#started, path };
    this.#sdpVersion += 1;
    this.#onOpened({ ...local, paths: this.#paths, version: this.#sdpVersion });
  }

  /**
   * Describes our end anew with this path alone, so that both ends keep to it, or with all that are configured (`auto`), so that both
   * find out again.
   * @throws AppError `path-unavailable` where this station or the peer does not have it
   */
  prefer(choice: PathChoice): void {
    const [local, remote] = [this.#local, this.#remote];
    const own = this.#configuredPaths;
    const has = (path: MediaPath) => own.includes(path) && (remote?.paths ?? ['udp']).includes(path);
    if (local === undefined || (choice !== 'auto' && !has(choice))) {
      throw new AppError('path-unavailable', `this call can't take ${choice}`, {
        remedy: 'Both stations need media.path: auto, and an identity for MQTT',
      });
    }
    this.#paths = choice === 'auto' ? own : [choice];
    this.#sdpVersion += 1;
    this.#onOpened({ ...local, paths: this.#paths, version: this.#sdpVersion });
  }

  get #configuredPaths(): readonly MediaPath[] {
    const { path } = this.#config.media;
    if (path === 'mqtt') return ['mqtt'];
    return path === 'udp' || !this.#engine.hasIdentity ? ['udp'] : ['udp', 'mqtt'];
  }

  /** @returns what the session came to; null where nobody knows */
  close(): Promise<SessionFigures | null> {
    const closed = this.#chain.then(() => this.#engine.closeSession(this.#callId));
    this.#chain = closed;
    return closed;
  }

  /** Speech that has been encrypted stays so. */
  #mayBePlain(): boolean {
    if (this.#config.media.encryption === 'required' || (this.#started?.srtp ?? null) !== null) return false;
    if (this.#started === undefined) {
      this.#logger.warn({ callId: this.#callId }, 'this call is not encrypted: whoever carries its packets hears it');
    }
    return true;
  }

  #start(params: Parameters<EngineClient['startSession']>[0]): void {
    this.#do('started', () => this.#engine.startSession({ ...params, muted: params.muted || this.#muted }));
  }

  #do(what: string, step: () => Promise<void>): void {
    this.#chain = this.#chain.then(step).catch((error: unknown) => {
      if (error instanceof AppError && error.code === 'connection-closed') return;
      this.#logger.warn({ callId: this.#callId, error: errorText(error) }, `media could not be ${what}`);
      this.#onFailed();
    });
  }

  #describe(opened: OpenedSession, remote: AudioDescription | null): AudioDescription {
    const { opus, audio, media } = this.#config;
    const rateHz = audio.profile === 'voice' ? 16_000 : 48_000;
    const own = ownFormats(media.codecs, {
      useInbandFec: true,
      maxAverageBitrateBps: opus.bitrateBps,
      maxPlaybackRateHz: rateHz,
      maxCaptureRateHz: rateHz,
    });
    const formats = remote === null ? own : answerFormats(remote.formats, own);
    if (!formats.some(isSpeech)) {
      throw new AppError('no-common-codec', 'the offer has none of the codecs of this station', {
        remedy: 'See media.codecs of both stations',
      });
    }
    const random = (size: number) => randomBytes(size);
    this.#security ??=
      remote === null
        ? offerSecurity(media.encryption, random)
        : answerSecurity(media.encryption, remote.security, random);
    this.#formats = undefined;
    this.#sdpVersion += 1;
    return {
      sessionId: this.#sdpSessionId,
      version: this.#sdpVersion,
      hosts: [opened.local],
      paths: this.#paths,
      direction: remote === null ? 'sendrecv' : answerDirection(remote.direction),
      formats,
      ...(this.#security === undefined ? {} : { security: this.#security }),
      packetTimeMs: opus.packetTimeMs,
      maxPacketTimeMs: 60,
      ssrc: opened.ssrc,
      cname: opened.cname,
      others: remote?.others ?? [],
      audioAt: remote?.audioAt ?? 0,
    };
  }
}
