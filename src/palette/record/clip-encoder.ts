import { type OpusEncoders, opusEncoders } from '../../adapters/opus/opus-engines.js';
import type { AudioEncoder } from '../../codec/codec.js';
import { silentLogger } from '../../core/logger.js';
import { L16_RATE_HZ } from '../../rtp/l16.js';

/** Half of what speech in a call may cost: a clip is heard later, not at once. */
const COMPLEXITY = 5;
let engine: Promise<OpusEncoders> | undefined;

/** The best Opus encoder that this machine has, loaded at the first recording. @throws AppError `opus-missing` */
export async function newClipEncoder(bitrateBps: number): Promise<AudioEncoder> {
  engine ??= opusEncoders('auto', silentLogger);
  try {
    const { create } = await engine;
    return await create({
      rateHz: L16_RATE_HZ,
      settings: { bitrateBps, complexity: COMPLEXITY, inbandFec: false, expectedLossPct: 0, packetTimeMs: 20 },
    });
  } catch (error) {
    engine = undefined;
    throw error;
  }
}
