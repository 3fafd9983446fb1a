import type { NtpTime } from './ntp-time.js';

/** Extended reports (RFC 3611): which packets came, how speech is heard. Other kinds of blocks are skipped when parsing. */
export interface ExtendedReport {
  readonly type: 'extended-report';
  readonly ssrc: number;
  readonly blocks: readonly XrBlock[];
}

export type XrBlock = LossRleBlock | ReferenceTimeBlock | ReferenceDelayBlock | VoipMetricsBlock;

/** Which packets came (RFC 3611, 4.1), of `beginSequence` and those after it. */
export interface LossRleBlock {
  readonly block: 'loss-rle';
  readonly ssrc: number;
  readonly beginSequence: number;
  readonly received: readonly boolean[];
}

/** When this report was sent (4.4), so that who sends no audio can tell the round trip too. */
export interface ReferenceTimeBlock {
  readonly block: 'reference-time';
  readonly ntp: NtpTime;
}

/** The answer to it (4.5): the middle 32 bits of its time, and how long ago it came, in 1/65,536 s. */
export interface ReferenceDelayBlock {
  readonly block: 'reference-delay';
  readonly reports: readonly { readonly ssrc: number; readonly lastReference: number; readonly delaySince: number }[];
}

/** How a stream is heard (4.7), since it began. `null` stands for "unavailable", and for values that can't be. */
export interface VoipMetricsBlock {
  readonly block: 'voip-metrics';
  readonly ssrc: number;
  /** Share of packets that never came, and that came too late to be played: 0 … 100 %. */
  readonly lossPct: number;
  readonly discardPct: number;
  /** Share lost or discarded in bursts and in the gaps between them; how long these last on average (4.7.2). */
  readonly burstDensityPct: number;
  readonly gapDensityPct: number;
  readonly burstDurationMs: number;
  readonly gapDurationMs: number;
  readonly roundTripMs: number;
  /** From arrival to the speaker, and from the microphone to departure. */
  readonly endSystemDelayMs: number;
  readonly gmin: number;
  /** 0 … 100 (4.7.5) */
  readonly rFactor: number | null;
  /** 1 … 5 */
  readonly mosListening: number | null;
  readonly mosConversational: number | null;
  /** What the jitter buffer holds back: now, and at most (4.7.7). */
  readonly playoutDelayMs: number;
  readonly playoutMaximumMs: number;
}

export const RTCP_EXTENDED_REPORT = 207;
/** Of one block: 80 s of 20 ms packets; who claims more is not believed. */
const MOST_RLE_PACKETS = 4_096;

const LOSS_RLE = 1;
const REFERENCE_TIME = 4;
const REFERENCE_DELAY = 5;
const VOIP_METRICS = 7;
const VOIP_METRICS_BYTES = 32;
const UNAVAILABLE = 127;
/** Enhanced concealment, adaptive jitter buffer (4.7.6). */
const RX_CONFIG = 0b1011_0000;

/** @param view what follows the packet's header @returns null where it is cut off or its blocks do not add up */
export function readExtendedReport(view: DataView): ExtendedReport | null {
  if (view.byteLength < 4) return null;
  const blocks: XrBlock[] = [];
  for (let at = 4; at < view.byteLength; ) {
    if (at + 4 > view.byteLength) return null;
    const end = at + 4 + 4 * view.getUint16(at + 2);
    if (end > view.byteLength) return null;
    const body = new DataView(view.buffer, view.byteOffset + at + 4, end - at - 4);
    const block = readBlock(view.getUint8(at), view.getUint8(at + 1), body);
    if (block === 'truncated') return null;
    if (block !== null) blocks.push(block);
    at = end;
  }
  return { type: 'extended-report', ssrc: view.getUint32(0), blocks };
}

function readBlock(type: number, specific: number, body: DataView): XrBlock | null | 'truncated' {
  switch (type) {
    case LOSS_RLE:
      // A thinned report (4.1) leaves packets out: of no use here.
      return (specific & 0x0f) === 0 ? readLossRle(body) : null;
    case REFERENCE_TIME:
      if (body.byteLength < 8) return 'truncated';
      return { block: 'reference-time', ntp: { seconds: body.getUint32(0), fraction: body.getUint32(4) } };
    case REFERENCE_DELAY:
      return {
        block: 'reference-delay',
        reports: Array.from({ length: Math.floor(body.byteLength / 12) }, (_, i) => ({
          ssrc: body.getUint32(12 * i),
          lastReference: body.getUint32(12 * i + 4),
          delaySince: body.getUint32(12 * i + 8),
        })),
      };
    case VOIP_METRICS:
      return body.byteLength < VOIP_METRICS_BYTES ? 'truncated' : readVoipMetrics(body);
    default:
      return null;
  }
}

function readLossRle(body: DataView): LossRleBlock | null | 'truncated' {
  if (body.byteLength < 8) return 'truncated';
  const beginSequence = body.getUint16(4);
  const span = (body.getUint16(6) - beginSequence) & 0xffff;
  if (span > MOST_RLE_PACKETS) return null;
  const received: boolean[] = [];
  for (let at = 8; at + 2 <= body.byteLength && received.length < span; at += 2) {
    const chunk = body.getUint16(at);
    if (chunk === 0) break;
    if ((chunk & 0x8000) === 0) {
      const run = Math.min(chunk & 0x3fff, span - received.length);
      for (let i = 0; i < run; i++) received.push((chunk & 0x4000) !== 0);
    } else {
      for (let bit = 14; bit >= 0 && received.length < span; bit--) received.push(((chunk >> bit) & 1) === 1);
    }
  }
  return received.length === span
    ? { block: 'loss-rle', ssrc: body.getUint32(0), beginSequence, received }
    : 'truncated';
}

function readVoipMetrics(body: DataView): VoipMetricsBlock {
  const share = (at: number) => (body.getUint8(at) * 100) / 256;
  const scored = (at: number, least: number, most: number, scale: number) => {
    const value = body.getUint8(at);
    return value < least || value > most ? null : value / scale;
  };
  return {
    block: 'voip-metrics',
    ssrc: body.getUint32(0),
    lossPct: share(4),
    discardPct: share(5),
    burstDensityPct: share(6),
    gapDensityPct: share(7),
    burstDurationMs: body.getUint16(8),
    gapDurationMs: body.getUint16(10),
    roundTripMs: body.getUint16(12),
    endSystemDelayMs: body.getUint16(14),
    gmin: body.getUint8(19),
    rFactor: scored(20, 0, 100, 1),
    mosListening: scored(22, 10, 50, 10),
    mosConversational: scored(23, 10, 50, 10),
    playoutDelayMs: body.getUint16(26),
    playoutMaximumMs: body.getUint16(28),
  };
}

/** What follows the packet's header. Values beyond what a field can say are cut. */
export function extendedReportBody(report: ExtendedReport): Buffer {
  const ssrc = Buffer.alloc(4);
  ssrc.writeUInt32BE(report.ssrc);
  return Buffer.concat([ssrc, ...report.blocks.map(writeBlock)]);
}

function writeBlock(block: XrBlock): Buffer {
  switch (block.block) {
    case 'loss-rle':
      return withHeader(LOSS_RLE, lossRle(block));
    case 'reference-time': {
      const body = Buffer.alloc(8);
      body.writeUInt32BE(block.ntp.seconds, 0);
      body.writeUInt32BE(block.ntp.fraction, 4);
      return withHeader(REFERENCE_TIME, body);
    }
    case 'reference-delay': {
      const body = Buffer.alloc(12 * block.reports.length);
      block.reports.forEach(({ ssrc, lastReference, delaySince }, i) => {
        body.writeUInt32BE(ssrc, 12 * i);
        body.writeUInt32BE(lastReference, 12 * i + 4);
        body.writeUInt32BE(Math.min(0xffff_ffff, delaySince) >>> 0, 12 * i + 8);
      });
      return withHeader(REFERENCE_DELAY, body);
    }
    case 'voip-metrics':
      return withHeader(VOIP_METRICS, voipMetrics(block));
  }
}

/** Bit vectors alone: 15 packets in two bytes, whatever was lost. */
function lossRle({ ssrc, beginSequence, received }: LossRleBlock): Buffer {
  const span = Math.min(received.length, MOST_RLE_PACKETS);
  const chunks = Math.ceil(span / 15);
  const body = Buffer.alloc(8 + 2 * (chunks + (chunks % 2)));
  body.writeUInt32BE(ssrc, 0);
  body.writeUInt16BE(beginSequence & 0xffff, 4);
  body.writeUInt16BE((beginSequence + span) & 0xffff, 6);
  for (let chunk = 0; chunk < chunks; chunk++) {
    let bits = 0x8000;
    for (let i = 0; i < 15; i++) if (received[15 * chunk + i] === true) bits |= 1 << (14 - i);
    body.writeUInt16BE(bits, 8 + 2 * chunk);
  }
  return body;
}

function voipMetrics(block: VoipMetricsBlock): Buffer {
  const body = Buffer.alloc(VOIP_METRICS_BYTES);
  const share = (pct: number) => within((pct * 256) / 100, 255);
  const scored = (value: number | null, scale: number) => (value === null ? UNAVAILABLE : within(value * scale, 126));
  body.writeUInt32BE(block.ssrc, 0);
  body.set([block.lossPct, block.discardPct, block.burstDensityPct, block.gapDensityPct].map(share), 4);
  const times = [block.burstDurationMs, block.gapDurationMs, block.roundTripMs, block.endSystemDelayMs];
  times.forEach((ms, i) => {
    body.writeUInt16BE(within(ms, 0xffff), 8 + 2 * i);
  });
  const [signal, noise, echoLoss, external] = [UNAVAILABLE, UNAVAILABLE, UNAVAILABLE, UNAVAILABLE];
  body.set([signal, noise, echoLoss, within(block.gmin, 255)], 16);
  const scores = [block.mosListening, block.mosConversational].map((mos) => scored(mos, 10));
  body.set([scored(block.rFactor, 1), external, ...scores, RX_CONFIG, 0], 20);
  const playout = [block.playoutDelayMs, block.playoutMaximumMs, block.playoutMaximumMs];
  playout.forEach((ms, i) => {
    body.writeUInt16BE(within(ms, 0xffff), 26 + 2 * i);
  });
  return body;
}

function withHeader(type: number, body: Buffer): Buffer {
  const header = Buffer.from([type, 0, 0, 0]);
  header.writeUInt16BE(body.length / 4, 2);
  return Buffer.concat([header, body]);
}

function within(value: number, most: number): number {
  return value > 0 ? Math.min(most, Math.round(value)) : 0;
}
