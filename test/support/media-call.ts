/** Calls of two media sessions on a clock that the test moves. */
import { FRAME_MS, frameSamples } from '../../src/audio/frame.js';
import { ManualClock } from '../../src/core/clock.js';
import type { MediaSession } from '../../src/media/media-session.js';
import { kindOfDatagram } from '../../src/rtp/rtp-packet.js';
import { mediaSession, plainAgreement, RATE_HZ } from './media-session.js';
import { seededRandom } from './random.js';

export const SAMPLES = frameSamples(RATE_HZ);
export const WAY_MS = 15;

/** Something like speech: harmonics whose pitch and loudness change every 20 ms in ways that can't be foretold. */
export function voice(seed: number): (index: number) => Int16Array {
  const random = seededRandom(seed);
  let pitchHz = 120;
  let loudness = 0.5;
  let phase = 0;
  return (index) => {
    if (index % 2 === 0) {
      pitchHz = 90 + random() * 160;
      loudness = 0.1 + random() * 0.9;
    }
    return Int16Array.from({ length: SAMPLES }, () => {
      phase += (2 * Math.PI * pitchHz) / RATE_HZ;
      let value = 0;
      for (let harmonic = 1; harmonic <= 8; harmonic++) value += Math.sin(harmonic * phase) / harmonic;
      return value * loudness * 8_000;
    });
  };
}

/** Decides on the n-th RTP packet of a direction: how long it is under way, once, twice or not at all. */
export type Path = (index: number, datagram: Uint8Array) => readonly number[];
export const clean: Path = () => [WAY_MS];

interface Party {
  readonly session: MediaSession;
  readonly sent: Uint8Array[];
  readonly events: string[];
}

async function party(
  clock: ManualClock,
  seed: number,
  out: { path: Path; to: () => Party; leastMs?: number },
): Promise<Party> {
  const sent: Uint8Array[] = [];
  const events: string[] = [];
  let index = 0;
  const session = await mediaSession({
    clock,
    ssrc: seed,
    ...(out.leastMs === undefined ? {} : { leastMs: out.leastMs }),
    send: (datagram) => {
      sent.push(datagram);
      const isRtp = kindOfDatagram(datagram) === 'rtp';
      for (const wayMs of isRtp ? out.path(index++, datagram) : [WAY_MS]) {
        clock.after(wayMs, () => out.to().session.datagram(datagram, clock.nowMs()));
      }
    },
    heard: (afterMs) => events.push(`heard ${afterMs}`),
    silent: (isSilent) => events.push(isSilent ? 'silent' : 'not silent'),
    digit: (digit, durationMs) => events.push(`digit ${digit} ${durationMs}`),
  });
  return { session, sent, events };
}

/** A call of two parties on a clock of its own; `b` hears `a` through `path`. */
export async function call(options: { path: Path; peerWantsFec?: boolean; leastMs?: number }) {
  const { leastMs = 0 } = options;
  const clock = new ManualClock();
  const both: Party[] = [];
  const other = (index: number) => () => {
    const found = both[index];
    if (found === undefined) throw new Error('not yet');
    return found;
  };
  const a = await party(clock, 11, { path: options.path, to: other(1), leastMs });
  const b = await party(clock, 12, { path: clean, to: other(0), leastMs });
  both.push(a, b);
  for (const { session } of both) session.start({ ...plainAgreement, peerWantsFec: options.peerWantsFec ?? true });
  const speech = voice(1);
  let frameIndex = 0;
  const run = (ms: number, talk = true): Int16Array => {
    const heard = new Int16Array((ms / FRAME_MS) * SAMPLES);
    for (let i = 0; i < ms / FRAME_MS; i++) {
      clock.advance(FRAME_MS);
      const frame = { samples: speech(frameIndex++), rateHz: RATE_HZ, capturedAtMs: clock.nowMs() } as const;
      if (talk) for (const { session } of both) session.frame(frame);
      a.session.pull(clock.nowMs());
      const pulled = b.session.pull(clock.nowMs());
      if (pulled !== null) heard.set(pulled, i * SAMPLES);
    }
    return heard;
  };
  const close = () => {
    for (const { session } of both) session.close();
  };
  return { clock, a, b, run, close };
}
