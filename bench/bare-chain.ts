/**
 * The least that carries speech, as a yardstick: alsa-capture → @discordjs/opus → UDP → libopus-wasm → aplay, 20 ms packets,
 * no RTP, no jitter buffer, no concealment. Its argument is `BareChainOptions` as JSON; it says `ready` when it plays.
 */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { createRequire } from 'node:module';
import { createDecoder } from 'libopus-wasm';
import { DiscordOpusEncoder } from '../src/adapters/opus/discord-opus-encoder.js';
import type { BareChainOptions } from './children.js';

const RATE_HZ = 48_000;
const PACKET_BYTES = (RATE_HZ / 50) * 2;
/** A card that has just been opened may give more than real time at first; it would stay queued, as delay, for good. */
const SETTLING_PACKETS = 50;

interface Capture {
  on(event: 'audio', listener: (data: Uint8Array) => void): void;
}
const AlsaCapture = createRequire(import.meta.url)('alsa-capture') as new (options: object) => Capture;

const options = JSON.parse(process.argv[2] ?? '') as BareChainOptions;
const encoder = new DiscordOpusEncoder({ rateHz: RATE_HZ, settings: options.opus });
const decoder = await createDecoder({ sampleRate: RATE_HZ, channels: 1 });
const format = ['-t', 'raw', '-f', 'S16_LE', '-c', '1', '-r', String(RATE_HZ)];
const player = spawn(
  'setpriv',
  // Twice a packet, and a little: with less, aplay runs dry between packets.
  [
    '--pdeathsig',
    'KILL',
    'aplay',
    '-v',
    '-D',
    options.speaker,
    ...format,
    '--buffer-time=50000',
    '--period-time=10000',
  ],
  { stdio: ['pipe', 'ignore', 'pipe'] },
);

// `aplay -v` describes the device once it is open. What came before would stay queued.
let said = '';
player.stderr.on('data', (chunk: Buffer) => {
  if (said.includes('boundary')) return;
  said += chunk.toString('utf8');
  if (said.includes('boundary')) carry();
});

function carry(): void {
  const socket = createSocket('udp4');
  let skipped = 0;
  socket.on('message', (payload) => {
    const decoded = Int16Array.from(decoder.decode(payload));
    if (skipped < SETTLING_PACKETS) skipped += 1;
    else player.stdin.write(Buffer.from(decoded.buffer));
  });
  socket.bind(0, '127.0.0.1', () => {
    const { port } = socket.address();
    const packet = new Int16Array(PACKET_BYTES / 2);
    const bytes = Buffer.from(packet.buffer);
    let fill = 0;
    const capture = new AlsaCapture({
      channels: 1,
      device: options.microphone,
      format: 'S16_LE',
      rate: RATE_HZ,
      periodSize: RATE_HZ / 100,
    });
    capture.on('audio', (data) => {
      bytes.set(data.subarray(0, PACKET_BYTES - fill), fill);
      fill += data.length;
      if (fill < PACKET_BYTES) return;
      fill = 0;
      socket.send(Uint8Array.from(encoder.encode(packet)), port, '127.0.0.1');
    });
    process.stdout.write('ready\n');
  });
}
