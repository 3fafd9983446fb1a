/**
 * One end of a media session, as the media process runs it but without its control socket: a child of the benchmark.
 *
 *   sender    microphone → MediaSession → UdpPort        receiver    UdpPort → MediaSession → AlsaSpeaker
 *
 * Its argument is `MediaEndOptions` as JSON; it says `ready` once its card is up, and runs until SIGTERM.
 */
import { UdpPortRange } from '../src/adapters/udp/udp-port.js';
import { frameSamples } from '../src/audio/frame.js';
import type { CardState } from '../src/audio/ports.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { boardParts } from '../src/engine/parts.js';
import { CAPTURE_PERIOD_MS } from '../src/engine/sound.js';
import { MediaSession } from '../src/media/media-session.js';
import type { MediaEndOptions } from './children.js';

const PAYLOAD_TYPE = 96;
const RATE_HZ = 48_000;

const options = JSON.parse(process.argv[2] ?? '') as MediaEndOptions;
const clock = systemClock;
const card = { device: options.device, rateHz: RATE_HZ, clock, logger: silentLogger } as const;
const stateChanged = (state: CardState) => {
  if (state.state === 'up') process.stdout.write('ready\n');
  if (state.state === 'down') process.stderr.write(`${state.fault.message}\n`);
};

const parts = await boardParts(
  { opus: { encoder: 'auto', decoder: 'auto' }, audio: { driver: options.driver ?? 'auto' } },
  silentLogger,
);
const session = new MediaSession({
  sessionId: 'bench-session',
  ssrc: Math.floor(Math.random() * 2 ** 32),
  cname: 'bench',
  rateHz: RATE_HZ,
  clock,
  random: Math.random,
  opus: options.opus,
  encoder: await parts.encoder({ rateHz: RATE_HZ, settings: options.opus }),
  decoder: await parts.decoder({ rateHz: RATE_HZ }),
  playout: { leastMs: 0, mostMs: 300 },
  listener: { send: (datagram) => port.send(datagram), heard: () => {}, silent: () => {} },
});
const range = new UdpPortRange({ address: '127.0.0.1', from: options.localPort, to: options.localPort });
const port = await range.bind({ clock, refused: session.refused, listener: session });
port.towards({ address: '127.0.0.1', port: options.remotePort });
session.start({
  sendPayloadType: PAYLOAD_TYPE,
  receivePayloadType: PAYLOAD_TYPE,
  codec: 'opus',
  red: null,
  telephoneEvent: null,
  srtp: null,
  peerWantsFec: true,
  packetTimeMs: 20,
  muted: options.role === 'receiver',
});

if (options.role === 'sender') {
  parts
    .microphone({ ...card, periodMs: CAPTURE_PERIOD_MS })
    .open({ frame: (frame) => session.frame(frame), stateChanged });
} else {
  const silence = new Int16Array(frameSamples(RATE_HZ));
  parts.speaker(card).open({ pull: () => session.pull(clock.nowMs()) ?? silence, stateChanged });
}
