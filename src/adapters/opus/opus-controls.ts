import type { OpusEncoderSettings } from '../../codec/codec.js';
import { AppError } from '../../core/errors.js';

/** Requests of opus_encoder_ctl, and their values, by libopus' names (opus_defines.h). */
const OPUS_SET_BITRATE = 4002;
const OPUS_SET_MAX_BANDWIDTH = 4004;
const OPUS_SET_COMPLEXITY = 4010;
const OPUS_SET_INBAND_FEC = 4012;
const OPUS_SET_PACKET_LOSS_PERC = 4014;
const OPUS_SET_DTX = 4016;
const OPUS_SET_SIGNAL = 4024;
const OPUS_AUTO = -1000;
const OPUS_SIGNAL_VOICE = 3001;
const BANDWIDTHS = { narrowband: 1101, mediumband: 1102, wideband: 1103, superwideband: 1104, fullband: 1105 };
const [LEAST_BPS, MOST_BPS] = [500, 512_000];

/** Sets a libopus encoder, by whatever binding, to all of it; a figure beyond what libopus takes is held at its limit. */
export function applySettings(settings: OpusEncoderSettings, control: (request: number, value: number) => void): void {
  control(OPUS_SET_BITRATE, whole(settings.bitrateBps, LEAST_BPS, MOST_BPS));
  control(OPUS_SET_COMPLEXITY, whole(settings.complexity, 0, 10));
  control(OPUS_SET_INBAND_FEC, settings.inbandFec ? 1 : 0);
  control(OPUS_SET_PACKET_LOSS_PERC, whole(settings.expectedLossPct, 0, 100));
  control(OPUS_SET_DTX, settings.dtx === true ? 1 : 0);
  control(OPUS_SET_SIGNAL, settings.signal === 'voice' ? OPUS_SIGNAL_VOICE : OPUS_AUTO);
  control(OPUS_SET_MAX_BANDWIDTH, BANDWIDTHS[settings.maxBandwidth ?? 'fullband']);
}

function whole(value: number, least: number, most: number): number {
  return Math.max(least, Math.min(most, Math.round(value)));
}

/** What libopus gives for a packet time that DTX leaves out is no longer (opus_encode in opus.h). */
const MOST_DTX_BYTES = 2;
const NOTHING = new Uint8Array(0);

/** The packet, or nothing where DTX says that it need not be sent. */
export function unlessDtx(packet: Uint8Array): Uint8Array {
  return packet.length <= MOST_DTX_BYTES ? NOTHING : packet;
}

export const OPUS_APPLICATION_VOIP = 2048;

/** The largest packet that one frame makes (RFC 6716, 3.2.1). */
const MOST_FRAME_BYTES = 1_275;
/** A packet of 60 ms is three frames of 20 ms with their lengths (RFC 6716, 3.2.5). */
export const MOST_PACKET_BYTES = 3 * (MOST_FRAME_BYTES + 2) + 2;

/** libopus conceals in steps of 2.5 ms, at most 120 ms at a time (opus_decoder.h). */
export const CONCEAL_STEPS_PER_S = 400;
export const MOST_CONCEAL_STEPS = 48;

/** @throws AppError `packet-time-wrong` */
export function checkPacketTime(samples: Int16Array, packetSamples: number): void {
  if (samples.length === packetSamples) return;
  throw new AppError('packet-time-wrong', `A packet takes ${packetSamples} samples, not ${samples.length}`);
}

export function encoderFreed(): AppError {
  return new AppError('codec-freed', 'This Opus encoder has been freed');
}

export function decoderFreed(): AppError {
  return new AppError('codec-freed', 'This Opus decoder has been freed');
}

export function payloadInvalid(why: string, cause?: unknown): AppError {
  return new AppError('payload-invalid', `Not an Opus packet: ${why}`, { cause });
}
