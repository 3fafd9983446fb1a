/** A media process in a test: its engine, with cards that the test moves by hand. */
import { join } from 'node:path';
import { DiscordOpusEncoder } from '../../src/adapters/opus/discord-opus-encoder.js';
import { WasmOpusDecoder } from '../../src/adapters/opus/wasm-opus-decoder.js';
import { connectRpc } from '../../src/adapters/sockets/rpc.js';
import type { AudioSinkListener, AudioSourceListener, CardState } from '../../src/audio/ports.js';
import { configSchema } from '../../src/config/schema.js';
import type { Clock } from '../../src/core/clock.js';
import { LogTap } from '../../src/core/log-tap.js';
import { silentLogger } from '../../src/core/logger.js';
import { startEngine } from '../../src/engine/engine.js';
import type { EngineParts } from '../../src/engine/parts.js';
import { engineNotifications, engineRequests } from '../../src/protocol/engine-api.js';

export const RATE_HZ = 16_000;

/** Cards that the test moves by hand. */
function handCards() {
  const microphone = { listener: null as AudioSourceListener | null, opened: 0, mustRestart: false };
  const speaker = { listener: null as AudioSinkListener | null };
  const closed: CardState = { state: 'closed' };
  const up: CardState = { state: 'up' };
  const parts: EngineParts = {
    encoderName: DiscordOpusEncoder.engine,
    decoderName: WasmOpusDecoder.engine,
    microphone: ({ device, rateHz }) => ({
      format: { device, rateHz },
      get state() {
        return microphone.listener === null ? closed : up;
      },
      get mustRestart() {
        return microphone.mustRestart;
      },
      figures: { xruns: 0, droppedFrames: 0, periodMs: 10, delayMs: 0 },
      setPeriodMs: () => {},
      open: (listener) => {
        microphone.listener = listener;
        microphone.opened += 1;
        listener.stateChanged(up);
      },
      close: () => {
        microphone.listener = null;
      },
    }),
    speaker: ({ device, rateHz }) => ({
      format: { device, rateHz },
      get state() {
        return speaker.listener === null ? closed : up;
      },
      mustRestart: false,
      open: (listener) => {
        speaker.listener = listener;
        listener.stateChanged(up);
      },
      close: () => {
        speaker.listener = null;
      },
      delayMs: () => 20,
      figures: { xruns: 0, starvedFrames: 0 },
    }),
    encoder: async (options) => new DiscordOpusEncoder(options),
    decoder: (options) => WasmOpusDecoder.create(options),
  };
  return { microphone, speaker, parts };
}

/**
 * An engine with its station's end of the control socket.
 * @param firstPort of its RTP ports: `freeUdpPort()`, since other tests may run beside this one
 * @param more of its configuration
 */
export async function started(dir: string, id: string, clock: Clock, firstPort: number, more: object = {}) {
  const logTap = new LogTap();
  const cards = handCards();
  const run = join(dir, id);
  const ended: string[] = [];
  const engine = await startEngine({
    config: configSchema.parse({
      station: { id, name: id, site: 'home' },
      board: 'none',
      audio: { capture: `${id}-microphone`, playback: `${id}-speaker` },
      rtp: { address: '127.0.0.1', ports: { from: firstPort, to: Math.min(firstPort + 200, 65_535) } },
      mqtt: { url: 'mqtts://127.0.0.1:1', ca: 'none', cert: 'none', key: 'none' },
      state: run,
      run,
      ...more,
    }),
    ...{ clock, logTap },
    logger: silentLogger,
    parts: cards.parts,
    endProcess: () => ended.push('ended'),
  });
  const told: string[] = [];
  const connect = () =>
    connectRpc({
      path: join(run, 'media.sock'),
      requests: engineRequests,
      notifications: engineNotifications,
      onNotification: (name, params) => told.push(`${name} ${JSON.stringify(params)}`),
      onClose: () => told.push('closed'),
      timeoutMs: 5_000,
    });
  return { ...cards, engine, logTap, station: await connect(), connect, told, ended };
}

/** What two of them agree on. */
export const agreement = {
  sendPayloadType: 96,
  receivePayloadType: 96,
  peerWantsFec: true,
  packetTimeMs: 20,
  muted: false,
} as const;
