/** SRTP against libsrtp, as GStreamer has it: each reads what the other has protected, across the roll-over. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { framePackets, MOST_FRAMED_PACKETS, unframePackets } from '../../src/rtp/framing.js';
import { writeRtcp } from '../../src/rtp/rtcp-write.js';
import { writeRtp } from '../../src/rtp/rtp-packet.js';
import type { SrtpSuite } from '../../src/rtp/srtp-keys.js';
import { SrtpReceiver } from '../../src/rtp/srtp-receiver.js';
import { SrtpSender } from '../../src/rtp/srtp-sender.js';
import { keyOf } from '../support/srtp-keys.js';

const SSRC = 0xcafe_babe;
const PACKETS = 200;
const FIRST_SEQUENCE = 65_536 - 20;

/** As GStreamer names the ciphers; with GCM it has no authentication of its own. */
const NAMES: Readonly<Record<SrtpSuite, { cipher: string; authentication: string }>> = {
  AES_CM_128_HMAC_SHA1_80: { cipher: 'aes-128-icm', authentication: 'hmac-sha1-80' },
  AEAD_AES_128_GCM: { cipher: 'aes-128-gcm', authentication: 'null' },
  AEAD_AES_256_GCM: { cipher: 'aes-256-gcm', authentication: 'null' },
};

/** Packets of a file, each after its length (RFC 4571). */
function packetsOf(file: string): Uint8Array[] {
  const all: Uint8Array[] = [];
  for (let rest: Uint8Array = readFileSync(file); rest.length > 0; ) {
    const { packets } = unframePackets(rest);
    if (packets.length === 0) throw new Error(`${file} is not framed`);
    all.push(...packets);
    rest = rest.subarray(packets.reduce((bytes, packet) => bytes + 2 + packet.length, 0));
  }
  return all;
}

function writePackets(file: string, packets: readonly Uint8Array[]): void {
  const messages: Buffer[] = [];
  for (let at = 0; at < packets.length; at += MOST_FRAMED_PACKETS) {
    messages.push(framePackets(packets.slice(at, at + MOST_FRAMED_PACKETS)));
  }
  writeFileSync(file, Buffer.concat(messages));
}

function gstreamer(pipeline: string): void {
  execFileSync('gst-launch-1.0', ['-q', ...pipeline.split(/\s+/)], {
    timeout: 60_000,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}

for (const [suite, { cipher, authentication }] of Object.entries(NAMES) as [SrtpSuite, (typeof NAMES)[SrtpSuite]][]) {
  test(`${suite}: libsrtp protects, we open`, async (t) => {
    const dir = t.testdir();
    const key = keyOf(suite, randomBytes);
    // srtpenc takes no key of fewer than 30 bytes; libsrtp reads those that it needs.
    const hex = Buffer.from(key.keyAndSalt, 'base64').toString('hex').padEnd(60, '0');
    gstreamer(`audiotestsrc num-buffers=${PACKETS} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=1
      ! opusenc ! rtpopuspay pt=96 ssrc=${SSRC} seqnum-offset=${FIRST_SEQUENCE} ! tee name=both
      both. ! queue ! rtpstreampay ! filesink location=${join(dir, 'plain')}
      both. ! queue ! srtpenc key=${hex} rtp-cipher=${cipher} rtp-auth=${authentication}
      ! rtpstreampay ! filesink location=${join(dir, 'protected')}`);
    const [plain, sealed] = [packetsOf(join(dir, 'plain')), packetsOf(join(dir, 'protected'))];
    t.equal(plain.length, sealed.length);
    t.ok(plain.length > PACKETS / 2);
    const receiver = new SrtpReceiver(key);
    const opened = sealed.map((packet) => receiver.rtp(packet, 0));
    t.same(
      opened.map((one) => (one.ok ? one.packet : one.fault)),
      plain,
    );
  });

  test(`${suite}: we protect, libsrtp opens`, async (t) => {
    const dir = t.testdir();
    const key = keyOf(suite, randomBytes);
    const hex = Buffer.from(key.keyAndSalt, 'base64').toString('hex');
    const sender = new SrtpSender(SSRC);
    sender.use(key);
    const rtp = Array.from({ length: PACKETS }, (_, at) =>
      writeRtp({
        payloadType: 96,
        marker: at === 0,
        sequence: (FIRST_SEQUENCE + at) & 0xffff,
        timestamp: at * 960,
        ssrc: SSRC,
        csrcs: [],
        extension: null,
        payload: randomBytes(1 + (at % 120)),
      }),
    );
    const rtcp = Array.from({ length: 5 }, (_, at) =>
      writeRtcp([
        { type: 'receiver-report', ssrc: SSRC, reports: [] },
        { type: 'source-description', chunks: [{ ssrc: SSRC, cname: `report ${at}` }] },
      ]),
    );
    const sealed = (packets: readonly Uint8Array[], kind: 'rtp' | 'rtcp') =>
      packets.map((packet) => sender[kind](packet) ?? new Uint8Array());
    writePackets(join(dir, 'rtp'), sealed(rtp, 'rtp'));
    writePackets(join(dir, 'rtcp'), sealed(rtcp, 'rtcp'));
    const security =
      `ssrc=(uint)${SSRC},srtp-key=(buffer)${hex},srtp-cipher=(string)${cipher},srtp-auth=(string)${authentication},` +
      `srtcp-cipher=(string)${cipher},srtcp-auth=(string)${authentication},roc=(uint)0`;
    for (const kind of ['rtp', 'rtcp'] as const) {
      gstreamer(`filesrc location=${join(dir, kind)} ! application/x-s${kind}-stream,payload=(int)96,${security}
        ! rtpstreamdepay ! application/x-s${kind},payload=(int)96,${security} ! open.${kind}_sink
        srtpdec name=open open.${kind}_src ! rtpstreampay ! filesink location=${join(dir, `${kind}-opened`)}`);
    }
    t.same(packetsOf(join(dir, 'rtp-opened')), rtp);
    t.same(packetsOf(join(dir, 'rtcp-opened')), rtcp);
  });
}
