import { opusEncoders } from '../adapters/opus/opus-engines.js';
import type { RateHz } from '../audio/frame.js';
import type { Config } from '../config/schema.js';
import { systemClock } from '../core/clock.js';
import { silentLogger } from '../core/logger.js';
import { SendPipeline } from '../media/send-pipeline.js';

/** Headers of IPv4 and UDP (RFC 791, 768). */
const IP_UDP_BYTES = 28;
const OPUS_CLOCK_HZ = 48_000;

/**
 * What it takes to stream all of it: really encoded and put into RTP by the station's own pipeline and settings, IP and UDP headers
 * included; without SRTP's tags, which would add to it.
 */
export async function streamedBytes(samples: Int16Array, rateHz: RateHz, opus: Config['opus']): Promise<number> {
  const encoders = await opusEncoders(opus.encoder, silentLogger);
  const encoder = await encoders.create({ rateHz, settings: opus });
  let bytes = 0;
  const pipeline = new SendPipeline({
    rateHz,
    ssrc: 1,
    sequence: 0,
    timestamp: 0,
    nowMs: () => systemClock.nowMs(),
    send: (datagram) => {
      bytes += datagram.length + IP_UDP_BYTES;
    },
    encoderFailed: (error) => {
      throw error;
    },
  });
  pipeline.use({ encoder, packetTimeMs: opus.packetTimeMs, payloadType: 96, clockRateHz: OPUS_CLOCK_HZ });
  const frame = rateHz / 100;
  try {
    for (let at = 0; at + frame <= samples.length; at += frame) {
      const capturedAtMs = (1000 * (at + frame)) / rateHz;
      pipeline.push({ samples: samples.subarray(at, at + frame), rateHz, capturedAtMs });
    }
  } finally {
    encoder.free();
  }
  return bytes;
}
