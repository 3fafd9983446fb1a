import { join } from 'node:path';
import { type RpcPeer, type RpcServer, serveRpc } from '../adapters/sockets/rpc.js';
import type { RateHz } from '../audio/frame.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import { LogRelay } from '../core/log-relay.js';
import { LogTap } from '../core/log-tap.js';
import type { Logger } from '../core/logger.js';
import { type EngineStatus, engineNotifications, engineRequests } from '../protocol/engine-api.js';
import { Clips } from './clips.js';
import { serveEngineMetrics } from './engine-metrics.js';
import { cardFault } from './loop-cards.js';
import { LoopMeasure } from './loop-measure.js';
import { MachineWatch } from './machine-watch.js';
import { boardParts, type EngineParts } from './parts.js';
import { Sessions } from './sessions.js';
import { CAPTURE_PERIOD_MS, Sound } from './sound.js';
import { Taps } from './taps.js';

/** When the station is gone nobody may talk on unseen: what it does not ask for again within this time ends. */
const STATION_GONE_MS = 5_000;
const ANSWERED_MS = 20;

export interface EngineOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What this process logs, for the station while that asks for it. */
  readonly logTap?: LogTap;
  /** The board's, unless others are given. */
  readonly parts?: EngineParts;
  /** Ends this process so that a hung card is freed; the supervisor starts another. */
  readonly endProcess?: () => void;
}

export interface Engine {
  /** Says goodbye to every far end, closes the cards, frees ports and socket. */
  close(): Promise<void>;
}

/**
 * The media process: sessions between the far ends and the two cards, on the order of the station's control socket,
 * `media.sock` in the configuration's `run` folder.
 *
 * ```
 *   microphone ──▶ Sound ──▶ Sessions ──▶ UDP
 *   speaker ◀── mixer ◀──────── ┘ ◀────── UDP
 *                 ▲ tones, clips
 *   both ──▶ Taps ──▶ ports of this machine
 *   station ◀─▶ media.sock
 * ```
 * @throws AppError `opus-missing`, `socket-taken`, `socket-failed`
 */
export async function startEngine(options: EngineOptions): Promise<Engine> {
  const { config, clock, logger } = options;
  const parts = options.parts ?? (await boardParts(config, logger));
  const endProcess = options.endProcess ?? endBySignal;
  const rateHz: RateHz = config.audio.profile === 'fullband' ? 48_000 : 16_000;
  let server: RpcServer<typeof engineNotifications> | null = null;
  let stationGone: Timer | null = null;
  const refused = new Counters<string>();

  const sound = new Sound({
    parts,
    captureDevice: config.audio.capture,
    playbackDevice: config.audio.playback,
    rateHz,
    clock,
    logger,
    listener: {
      frame: (frame) => {
        clips.frame(frame);
        taps.frame('microphone', frame.samples, frame.capturedAtMs);
        loop.frame(frame);
      },
      played: (samples, atMs) => taps.frame('speaker', samples, atMs),
      captureChanged: (open) => server?.notify('capture.changed', { open }),
      cardChanged: (card, state) => {
        const fault = cardFault(state);
        if (fault === null) logger.info({ card, state: state.state }, 'the card changed');
        else logger.warn({ card, ...fault }, 'the card is down; it is tried again');
        server?.notify('card.changed', { card, state: state.state, fault });
      },
      mustRestart: (card) => {
        logger.error({ card }, 'the card hangs and only a restart of this process frees it; ending');
        endProcess();
      },
    },
  });

  const wantMicrophone = (): void => sound.capture(sessions.wantMicrophone || taps.wantMicrophone || loop.isRunning);
  const taps: Taps = new Taps({ rateHz, changed: wantMicrophone });
  const sessions: Sessions = new Sessions({
    config,
    rateHz,
    parts,
    clock,
    logger,
    mixer: sound.mixer,
    listener: {
      heard: (sessionId, afterMs) => server?.notify('session.heard', { sessionId, afterMs }),
      silent: (sessionId, silent) => server?.notify('session.silent', { sessionId, silent }),
      digit: (sessionId, digit, durationMs) => server?.notify('session.dtmf', { sessionId, digit, durationMs }),
      moved: (sessionId, path, reason) => server?.notify('session.path', { sessionId, path, reason }),
      quality: (sessionId, path, quality) => server?.notify('session.quality', { sessionId, path, quality }),
      changed: wantMicrophone,
    },
  });

  const loop: LoopMeasure = new LoopMeasure({
    rateHz,
    clock,
    mixer: sound.mixer,
    cards: () => sound.cards,
    changed: wantMicrophone,
  });

  const clips = new Clips({
    rateHz,
    clock,
    mixer: sound.mixer,
    send: (frame, alone) => sessions.frame(frame, alone),
    ended: (clipId, reason) => server?.notify('clip.ended', { clipId, reason }),
  });

  const machine = new MachineWatch({
    clock,
    logger,
    complexity: config.opus.complexity,
    capturePeriodMs: CAPTURE_PERIOD_MS,
    encoding: () => sessions.encoding(),
    xruns: () => sound.xruns,
    bear: (step) => {
      sessions.bear(step);
      sound.setCapturePeriodMs(step.capturePeriodMs);
      server?.notify('machine.slow', { wantsG711: machine.wantsG711 });
    },
  });

  let station: RpcPeer<typeof engineNotifications> | null = null;
  let isClosing = false;
  /** The station left, or another came, which knows nothing of what it does not ask for. */
  const stationChanged = (to: typeof station): void => {
    station = to;
    sound.stopTone();
    loop.interrupt();
    clips.stopAll();
    sessions.abandon();
    taps.abandon();
    stationGone?.cancel();
    if (isClosing) return;
    stationGone = clock.after(STATION_GONE_MS, async () => {
      const closed = { taps: taps.closeAbandoned(), sessions: await sessions.closeAbandoned() };
      if (closed.taps + closed.sessions > 0) logger.warn(closed, 'the station is gone; what it had open was closed');
    });
  };

  /** The station is who gives orders: who merely connects, or asks how things are, ends nothing. */
  const ordered = (peer: RpcPeer<typeof engineNotifications>): void => {
    if (peer !== station) stationChanged(peer);
  };

  const status = (): EngineStatus => ({
    pid: process.pid,
    ...sound.status(),
    codec: { encoder: parts.encoderName, decoder: parts.decoderName, rateHz },
    sessions: sessions.figures(),
    taps: taps.figures(),
    refused: refused.all() as Record<string, number>,
    memoryRssBytes: process.memoryUsage.rss(),
  });

  let follower: RpcPeer<typeof engineNotifications> | null = null;
  const relay = new LogRelay({
    tap: options.logTap ?? new LogTap(),
    clock,
    send: (lines) => follower?.notify('log.lines', { lines }),
  });

  server = await serveRpc({
    path: join(config.run, 'media.sock'),
    requests: engineRequests,
    notifications: engineNotifications,
    handlers: {
      'session.open': ({ sessionId, end }, peer) => {
        ordered(peer);
        if (end === 'cards') loop.interrupt();
        return sessions.open(sessionId, end);
      },
      'session.start': async ({ sessionId, path, remote, provePath, ...agreement }, peer) => {
        ordered(peer);
        await sessions.start(sessionId, { path, remote, provePath }, agreement);
        return {};
      },
      'session.dtmf': async ({ sessionId, digits, durationMs }, peer) => {
        ordered(peer);
        await sessions.sendDigits(sessionId, digits, durationMs);
        return {};
      },
      'session.limit': async ({ sessionId, bitrateBps }, peer) => {
        ordered(peer);
        await sessions.limit(sessionId, bitrateBps);
        return {};
      },
      'session.close': async ({ sessionId }, peer) => {
        ordered(peer);
        return { figures: await sessions.close(sessionId) };
      },
      'session.probe': ({ sessionId }) => sessions.probed(sessionId),
      'loop.measure': (how, peer) => {
        ordered(peer);
        if (sessions.hasCards || sound.isPlayingTone || clips.isOnSpeaker) {
          throw new AppError('busy', 'the cards are in use: somebody talks, is rung, or hears a sound', {
            remedy: 'Try again later',
          });
        }
        return loop.measure(how);
      },
      'tone.play': ({ tone }, peer) => {
        ordered(peer);
        loop.interrupt();
        sound.playTone(tone);
        return {};
      },
      'tone.stop': (_params, peer) => {
        ordered(peer);
        sound.stopTone();
        return {};
      },
      'playback.volume': ({ percent }, peer) => {
        ordered(peer);
        sound.mixer.setVolume(percent);
        return {};
      },
      'tap.open': (order, peer) => {
        ordered(peer);
        return taps.open(order);
      },
      'tap.close': ({ tapId }, peer) => {
        ordered(peer);
        return taps.close(tapId);
      },
      'clip.load': ({ clipId, pcm }, peer) => {
        ordered(peer);
        return clips.load(clipId, pcm);
      },
      'clip.play': ({ clipId, to }, peer) => {
        ordered(peer);
        if (to === 'speaker') loop.interrupt();
        return clips.play(clipId, to);
      },
      'clip.stop': ({ clipId }, peer) => {
        ordered(peer);
        clips.stop(clipId);
        return {};
      },
      'engine.restart': (_params, peer) => {
        ordered(peer);
        logger.warn({}, 'the station orders a restart; ending');
        // Its answer goes first.
        clock.after(ANSWERED_MS, endProcess);
        return {};
      },
      'mqtt.identity': (identity) => {
        sessions.identify(identity);
        return {};
      },
      'engine.status': status,
      'log.follow': ({ on }, peer) => {
        follower = on ? peer : null;
        relay.follow(on);
        return {};
      },
    },
    onConnect: (peer) => {
      peer.onClose(() => {
        if (peer === station) stationChanged(null);
        if (peer !== follower) return;
        follower = null;
        relay.follow(false);
      });
      peer.notify('capture.changed', { open: sound.isCapturing });
      peer.notify('machine.slow', { wantsG711: machine.wantsG711 });
    },
    logger,
    refused,
  }).catch(async (error) => {
    machine.close();
    await sessions.end();
    throw error;
  });
  const metrics = await serveEngineMetrics({ run: config.run, status, logger });
  sound.open();

  return {
    close: async () => {
      isClosing = true;
      machine.close();
      relay.follow(false);
      clips.stopAll();
      loop.interrupt();
      await Promise.all([sessions.end(), taps.end()]);
      sound.close();
      await Promise.all([server.close(), metrics.close()]);
      stationGone?.cancel();
    },
  };
}

/**
 * `process.exit` waits for a capture thread that hangs in the driver; SIGTERM's default action does not. Whoever listens
 * for SIGTERM would only close what can't be closed.
 */
function endBySignal(): void {
  process.removeAllListeners('SIGTERM');
  process.kill(process.pid, 'SIGTERM');
}
