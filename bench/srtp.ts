import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeRtp } from '../src/rtp/rtp-packet.js';
import { SRTP_SUITES, type SrtpSuite } from '../src/rtp/srtp-keys.js';
import { SrtpReceiver } from '../src/rtp/srtp-receiver.js';
import { SrtpSender } from '../src/rtp/srtp-sender.js';

/** CPU of one packet, in µs: of ours with node:crypto, and of libsrtp within GStreamer; null where that is not installed. */
export interface SrtpCost {
  readonly suite: SrtpSuite;
  readonly protectUs: number;
  readonly openUs: number;
  readonly libsrtpProtectUs: number | null;
  readonly libsrtpOpenUs: number | null;
  /** Of ours, in ms of CPU a second of a call that speaks and hears 50 packets a second. */
  readonly callMsPerS: number;
}

/** Of 24 kbit/s at 20 ms. */
const PAYLOAD_BYTES = 60;
const PACKETS_PER_S = 50;
const BATCH = 20_000;
const GSTREAMER_PACKETS = 150_000;

/** As GStreamer names the ciphers; with GCM it has no authentication of its own. */
const NAMES: Readonly<Record<SrtpSuite, string>> = {
  AES_CM_128_HMAC_SHA1_80: 'rtp-cipher=aes-128-icm rtp-auth=hmac-sha1-80',
  AEAD_AES_128_GCM: 'rtp-cipher=aes-128-gcm rtp-auth=null',
  AEAD_AES_256_GCM: 'rtp-cipher=aes-256-gcm rtp-auth=null',
};

/** The time of the whole process, garbage collection included, over batches of 20,000 packets: the median batch. */
export function measureSrtp(): SrtpCost[] {
  const bare = gstreamerUs('');
  return (Object.keys(SRTP_SUITES) as SrtpSuite[]).map((suite) => {
    const { keyBytes, saltBytes } = SRTP_SUITES[suite];
    const { protectUs, openUs } = ours(suite, randomBytes(keyBytes + saltBytes).toString('base64'));
    // srtpenc wants 30 bytes at least; libsrtp reads those that it needs.
    const key = randomBytes(Math.max(30, keyBytes + saltBytes)).toString('hex');
    const protecting = `! srtpenc key=${key} ${NAMES[suite]}`;
    const one = bare === null ? null : gstreamerUs(protecting);
    const both = one === null ? null : gstreamerUs(`${protecting} ! srtpdec`);
    return {
      suite,
      protectUs,
      openUs,
      libsrtpProtectUs: one === null || bare === null ? null : one - bare,
      libsrtpOpenUs: both === null || one === null ? null : both - one,
      callMsPerS: ((protectUs + openUs) * PACKETS_PER_S) / 1_000,
    };
  });
}

function ours(suite: SrtpSuite, keyAndSalt: string): { protectUs: number; openUs: number } {
  const sender = new SrtpSender(1);
  sender.use({ suite, keyAndSalt });
  const receiver = new SrtpReceiver({ suite, keyAndSalt });
  const payload = randomBytes(PAYLOAD_BYTES);
  const [protecting, opening]: number[][] = [[], []];
  for (let batch = 0; batch < 12; batch += 1) {
    const plain = Array.from({ length: BATCH }, (_, at) => packet(batch * BATCH + at, payload));
    const sealed: Uint8Array[] = [];
    const protectUs = cpuUsOf(() => {
      for (const one of plain) sealed.push(sender.rtp(one) ?? one);
    });
    const openUs = cpuUsOf(() => {
      for (const one of sealed) if (!receiver.rtp(one, batch).ok) throw new Error(`${suite}: not opened`);
    });
    // The first ones are compiled while they run.
    if (batch < 3) continue;
    protecting?.push(protectUs / BATCH);
    opening?.push(openUs / BATCH);
  }
  return { protectUs: median(protecting ?? []), openUs: median(opening ?? []) };
}

function packet(sequence: number, payload: Uint8Array): Buffer {
  return writeRtp({
    payloadType: 96,
    marker: false,
    sequence: sequence & 0xffff,
    timestamp: (sequence * 960) >>> 0,
    ssrc: 1,
    csrcs: [],
    extension: null,
    payload,
  });
}

function cpuUsOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return user + system;
}

/** CPU of a pipeline that makes packets of the same size, with these elements at its end; null where it does not run. */
function gstreamerUs(elements: string): number | null {
  const all: number[] = [];
  for (let run = 0; run < 5; run += 1) {
    const pipeline = `audiotestsrc wave=silence num-buffers=${GSTREAMER_PACKETS} samplesperbuffer=${PAYLOAD_BYTES}
      ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay ${elements} ! fakesink sync=false`;
    const { status, stdout } = spawnSync(
      'sh',
      ['-c', 'gst-launch-1.0 -q $0 >&2 && times', pipeline.replaceAll(/\s+/g, ' ')],
      {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    const times = [...(stdout.split('\n')[1] ?? '').matchAll(/(\d+)m([\d.]+)s/g)];
    if (status !== 0 || times.length !== 2) return null;
    const seconds = times.reduce((sum, [, minutes, rest]) => sum + Number(minutes) * 60 + Number(rest), 0);
    all.push((seconds * 1e6) / GSTREAMER_PACKETS);
  }
  return median(all);
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
