/** What a station needs around it in a test: a media process that plays nothing, and a board without pins. */
import { join } from 'node:path';
import type { z } from 'zod';
import { type RpcServer, serveRpc } from '../../src/adapters/sockets/rpc.js';
import { Counters } from '../../src/core/counters.js';
import { AppError } from '../../src/core/errors.js';
import { silentLogger } from '../../src/core/logger.js';
import { type ClipEnd, samplesOf } from '../../src/protocol/clip-api.js';
import {
  type EngineStatus,
  engineNotifications,
  engineRequests,
  type MqttIdentity,
  type SessionFigures,
  type sessionStart,
  TAP_RATE_HZ,
} from '../../src/protocol/engine-api.js';
import type { QualityFigures } from '../../src/protocol/quality.js';
import type { LoopMeasurement } from '../../src/protocol/selftest.js';
import type { Contact, OpenPins, PinsOptions } from '../../src/station/pins.js';

type Started = z.output<typeof sessionStart.params>;

let nextPort = 41_000;

/** Serves the engine's contract on its real socket; notes what it was asked, opens the microphone while a session runs. */
export class EngineDouble {
  readonly tones: (string | null)[] = [];
  readonly started: Started[] = [];
  readonly volumes: number[] = [];
  readonly digits: string[] = [];
  /** Sessions that were opened without cards: `{id} echo`, `{id} probe`. */
  readonly cardless: string[] = [];
  readonly identities: MqttIdentity[] = [];
  /** Taps that are open, by id, with what they hear and where it goes. */
  readonly taps = new Map<string, string>();
  /** Sessions that are open, by id, with their port. */
  readonly open = new Map<string, number>();
  /** What sounds it has, in samples; which it played, where and how long. */
  readonly loaded = new Map<string, number>();
  readonly clips: string[] = [];
  readonly playing: string[] = [];
  readonly stopped: string[] = [];
  readonly limitsBps: (number | null)[] = [];
  restarts = 0;
  isLogFollowed = false;
  fails = false;
  /** MOS of a probing session, at each time of asking; then it is good. */
  readonly scores: number[] = [];
  /** Correlation of what a probing session hears. */
  probes = 0.9;
  /** What a measurement of the loop finds. */
  loop: () => LoopMeasurement | Promise<LoopMeasurement> = () => HEARD;
  #server: RpcServer<typeof engineNotifications> | undefined;
  #capture = false;

  /** @param isCapturing its microphone is wanted from the start, but the card is away */
  static async start(run: string, isCapturing = false): Promise<EngineDouble> {
    const engine = new EngineDouble();
    engine.#capture = isCapturing;
    engine.#server = await serveRpc({
      path: join(run, 'media.sock'),
      requests: engineRequests,
      notifications: engineNotifications,
      logger: silentLogger,
      refused: new Counters<string>(),
      onConnect: (peer) => peer.notify('capture.changed', { open: engine.#capture }),
      handlers: {
        'session.open': ({ sessionId, end }) => {
          if (end !== 'cards') engine.cardless.push(`${sessionId} ${end}`);
          if (engine.fails) throw new AppError('no-port', 'every port is taken');
          const port = engine.open.get(sessionId) ?? ++nextPort;
          engine.open.set(sessionId, port);
          return { local: { address: '127.0.0.1', port }, ssrc: port * 7, cname: 'double' };
        },
        'session.start': (params) => {
          if (!engine.open.has(params.sessionId)) throw new AppError('no-session', 'no such session');
          engine.started.push(params);
          if (!engine.cardless.some((one) => one.startsWith(params.sessionId))) engine.#setCapture(true);
          return {};
        },
        'session.dtmf': ({ digits, durationMs }) => {
          engine.digits.push(`${digits} ${durationMs}`);
          return {};
        },
        'session.limit': ({ bitrateBps }) => {
          engine.limitsBps.push(bitrateBps);
          return {};
        },
        'clip.load': ({ clipId, pcm }) => {
          engine.loaded.set(clipId, (engine.loaded.get(clipId) ?? 0) + samplesOf(pcm).length);
          return { durationMs: (engine.loaded.get(clipId) ?? 0) / 16 };
        },
        'clip.play': ({ clipId, to }) => {
          const durationMs = (engine.loaded.get(clipId) ?? 0) / 16;
          engine.clips.push(`${to} ${durationMs}`);
          engine.playing.push(clipId);
          return { durationMs };
        },
        'clip.stop': ({ clipId }) => {
          engine.stopped.push(clipId);
          if (engine.playing.includes(clipId)) engine.clipEnded(clipId, 'stopped');
          return {};
        },
        'engine.restart': () => {
          engine.restarts += 1;
          return {};
        },
        'session.close': ({ sessionId }) => {
          engine.open.delete(sessionId);
          if (engine.open.size === 0) engine.#setCapture(false);
          return { figures: figures(sessionId) };
        },
        'session.probe': () => ({
          mos: engine.scores.shift() ?? 4.3,
          correlation: engine.probes,
          roundTripMs: engine.probes === 0 ? null : 120,
          levelDb: -1,
        }),
        'loop.measure': () => engine.loop(),
        'tone.play': ({ tone }) => {
          engine.tones.push(tone);
          return {};
        },
        'playback.volume': ({ percent }) => {
          engine.volumes.push(percent);
          return {};
        },
        'tap.open': ({ tapId, source, remote }) => {
          engine.taps.set(tapId, `${source} ${remote.address}:${remote.port}`);
          if (engine.fails) throw new AppError('timeout', 'it is open, but the answer comes too late');
          return { ssrc: remote.port * 7, rateHz: TAP_RATE_HZ };
        },
        'tap.close': ({ tapId }) => {
          engine.taps.delete(tapId);
          return {
            tapId,
            source: 'microphone' as const,
            remote: { address: '127.0.0.1', port: 1 },
            ssrc: 1,
            sentFrames: 0,
            sentBytes: 0,
            dropped: {},
          };
        },
        'tone.stop': () => {
          engine.tones.push(null);
          return {};
        },
        'mqtt.identity': (identity) => {
          engine.identities.push(identity);
          return {};
        },
        'log.follow': ({ on }) => {
          engine.isLogFollowed = on;
          return {};
        },
        'engine.status': (): EngineStatus => ({
          pid: process.pid,
          capture: {
            device: 'double',
            state: engine.#capture ? 'down' : 'closed',
            fault: null,
            levelDbfs: null,
            xruns: 0,
            droppedFrames: 0,
            periodMs: 10,
            delayMs: 0,
          },
          playback: {
            device: 'double',
            state: 'closed',
            fault: null,
            levelDbfs: null,
            delayMs: 0,
            xruns: 0,
            starvedFrames: 0,
          },
          codec: { encoder: 'double', decoder: 'double', rateHz: 16_000 },
          sessions: [],
          taps: [],
          refused: {},
          memoryRssBytes: 0,
        }),
      },
    });
    return engine;
  }

  clipEnded(clipId: string, reason: ClipEnd): void {
    this.#server?.notify('clip.ended', { clipId, reason });
  }

  log(...lines: string[]): void {
    this.#server?.notify('log.lines', { lines });
  }

  heard(sessionId: string, afterMs: number): void {
    this.#server?.notify('session.heard', { sessionId, afterMs });
  }

  quality(sessionId: string): void {
    this.#server?.notify('session.quality', { sessionId, path: 'udp', quality: QUALITY });
  }

  digit(sessionId: string, digit: string): void {
    this.#server?.notify('session.dtmf', { sessionId, digit, durationMs: 100 });
  }

  silent(sessionId: string, silent: boolean): void {
    this.#server?.notify('session.silent', { sessionId, silent });
  }

  /** Packets take another path from now on. */
  moved(sessionId: string, path: 'udp' | 'mqtt'): void {
    this.#server?.notify('session.path', { sessionId, path, reason: path === 'mqtt' ? 'silent' : 'returned' });
  }

  /** The machine is too slow for Opus, or no longer. */
  slow(wantsG711: boolean): void {
    this.#server?.notify('machine.slow', { wantsG711 });
  }

  /** Gone, as after a crash: its sessions too. */
  async stop(): Promise<void> {
    await this.#server?.close();
  }

  #setCapture(open: boolean): void {
    if (this.#capture === open) return;
    this.#capture = open;
    this.#server?.notify('capture.changed', { open });
  }
}

function figures(sessionId: string): SessionFigures {
  return {
    sessionId,
    ssrc: 1,
    remoteSsrc: null,
    remote: null,
    path: 'udp',
    srtp: null,
    migrations: 0,
    probeRoundTripMs: { udp: null, mqtt: null },
    sent: 500,
    sentBytes: 30_000,
    received: 499,
    lost: 1,
    late: 0,
    duplicate: 0,
    reordered: 0,
    fecDecoded: 1,
    concealed: 0,
    concealedMs: 0,
    jitterMs: 0.5,
    roundTripMs: null,
    remoteLost: null,
    remoteJitterMs: null,
    playoutDelayMs: 40,
    targetDelayMs: 20,
    firstAudioAfterMs: 80,
    quality: QUALITY,
    refused: {},
  };
}

export const HEARD: LoopMeasurement = {
  verdict: 'heard',
  correlation: 0.8,
  levelDb: -20,
  delayMs: 60,
  distortionPct: 3,
  clippedSamples: 0,
  backgroundDbfs: -60,
  signalDbfs: -20,
  microphone: { state: 'up', fault: null, frames: 160, isDead: false },
  speaker: { state: 'up', fault: null, takenPct: 100, xruns: 0, starvedFrames: 0 },
};

export const QUALITY: QualityFigures = {
  mos: { listening: 4.3, conversational: 4.2, remoteListening: null, remoteConversational: null },
  concealedPct: 0.5,
  redRecovered: 3,
  lossRuns: { runs: 1, meanPackets: 1, longestPackets: 1, bursts: 0, burstDensityPct: 0, gapDensityPct: 0.2 },
  ladder: [],
};

/** Fingers, a lock and two lights, without wires. */
export class BoardDouble {
  /** ms of each pulse of the lock. */
  readonly pulses: number[] = [];
  /** What became of the lights, in order: `status on`, `call off`, … */
  readonly switched: string[] = [];
  readonly lights = { microphone: false, call: false, status: false };
  doorOpen = false;
  /** Follows the lock, unless it sticks or is not wired. */
  contact: Contact | undefined = undefined;
  closed = false;
  #press: PinsOptions['onPress'] = () => {};

  press(button: string): void {
    this.#press(button);
  }

  readonly open: OpenPins = ({ clock, onPress, onDoor }) => {
    this.#press = onPress;
    const setDoor = (open: boolean): void => {
      if (this.doorOpen === open) return;
      this.doorOpen = open;
      onDoor(open);
    };
    const { contact } = this;
    const light = (name: keyof BoardDouble['lights']) => ({
      set: (on: boolean) => {
        this.lights[name] = on;
        this.switched.push(`${name} ${on ? 'on' : 'off'}`);
      },
      close: () => {
        this.lights[name] = false;
      },
      lit: false,
    });
    return {
      relay: {
        open: this.doorOpen,
        pulse: (pulseMs) => {
          this.pulses.push(pulseMs);
          setDoor(true);
          clock.after(pulseMs, () => setDoor(false));
        },
        safe: () => setDoor(false),
        close: () => setDoor(false),
      },
      contact: contact,
      leds: { microphone: light('microphone'), call: light('call'), status: light('status') },
      buttonFault: () => null,
      place: () => null,
      close: () => {
        setDoor(false);
        this.closed = true;
        this.lights.call = false;
        this.lights.microphone = false;
      },
    };
  };
}
