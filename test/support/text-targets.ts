/** Fuzz targets of text that comes from outside: SDP, call messages and manifests of releases. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { readMinisignKey, readMinisignSignature, verifyMinisign } from '../../src/adapters/minisign/minisign.js';
import { negotiate } from '../../src/call/negotiate.js';
import { offerSecurity } from '../../src/call/sdes.js';
import { parseSdp, writeSdp } from '../../src/call/sdp.js';
import { MAY_STAND, mergedOver, parseDefaults } from '../../src/config/defaults.js';
import type { ConfigFault } from '../../src/config/yaml-file.js';
import { AppError } from '../../src/core/errors.js';
import { manifestFault } from '../../src/fleet/manifest.js';
import { readCallMessage } from '../../src/protocol/call-message.js';
import { readManifest, writeManifest } from '../../src/protocol/release-manifest.js';
import { describedAt } from './descriptions.js';
import { type FuzzTarget, promise } from './fuzz.js';
import { sampleManifest } from './sample-manifest.js';

const offer = describedAt(40_000);
const secured = offerSecurity('required', (size) => Buffer.alloc(size, 0x5c));
const sdpCorpus = [
  writeSdp(offer),
  writeSdp({
    ...offer,
    hosts: [{ address: '2001:db8::7', port: 40_000 }],
    paths: ['mqtt', 'udp'],
    direction: 'recvonly',
  }),
  writeSdp({ ...offer, ...(secured === undefined ? {} : { security: secured }) }),
  writeSdp({
    ...offer,
    formats: [
      { codec: 'opus', payloadType: 111, useInbandFec: true },
      { codec: 'pcmu', payloadType: 0 },
      { codec: 'pcma', payloadType: 8 },
      { codec: 'red', payloadType: 63, of: 111, blocks: 3 },
      { codec: 'telephone-event', payloadType: 126, clockRateHz: 48_000 },
    ],
    others: [{ type: 'video', protocol: 'RTP/AVP', payloads: '97' }],
    audioAt: 1,
  }),
];

export const sdp: FuzzTarget = {
  name: 'SDP',
  corpus: sdpCorpus.map((text) => Buffer.from(text)),
  words: [
    ...[
      '\r\n',
      'm=audio 9 RTP/AVP 0\r\n',
      'm=audio 9 RTP/SAVP 0 96\r\n',
      'a=rtcp-mux\r\n',
      'a=ptime:-1\r\n',
      '99999999999999999999',
    ],
    ...[
      '__proto__',
      'constructor',
      'a=fmtp:96 __proto__=1;useinbandfec=1\r\n',
      'a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:',
    ],
    ...[
      'a=candidate:1 1 UDP 1 ::1 9 typ host\r\n',
      'c=IN IP6 ::\r\n',
      'a=rtpmap:0 PCMU/8000\r\n',
      'NaN',
      '1e9',
      '\u0000',
    ],
    ...['a=ssrc:1 cname:x\r\n', 'a=fmtp:63 111/111/111\r\n', 'a=rtpmap:126 telephone-event/8000\r\n'],
  ],
  leastClasses: 6,
  take: (input) => {
    const parsed = parseSdp(input.toString('utf8'));
    if (!parsed.ok) {
      promise(parsed.text.length <= 200, 'what is told of a fault is short');
      return parsed.fault;
    }
    const { value } = parsed;
    promise(value.others.length <= 8 && value.hosts.length <= 17 && value.formats.length <= 32, 'lists are short');
    for (const policy of ['ours', 'theirs']) {
      const negotiated = policy === 'ours' ? negotiate(offer, value, 20) : negotiate(value, offer, 20);
      promise(negotiated === null || [10, 20, 40, 60].includes(negotiated.packetTimeMs), 'a packet time is one');
    }
    promise(input.length % 8 > 0 || parseSdp(writeSdp(value)).ok, 'what was read can be written');
    return 'ok';
  },
};

const message = (content: object) => ({
  v: 1,
  id: 'message-0001',
  seq: 3,
  callId: 'call-0001',
  from: 'door',
  to: 'panel',
  ...content,
});
export const callMessages: FuzzTarget = {
  name: 'call messages',
  corpus: [
    message({ type: 'invite', fromName: 'Wohnung Süd', sdp: sdpCorpus[0], ringMs: 30_000 }),
    message({ type: 'answer', sdp: sdpCorpus[2] }),
    message({ type: 'bye', reason: 'hung-up', from: 'door@gate' }),
    message({ type: 'door-challenge', request: 'request-1', nonce: 'x'.repeat(24), ttlMs: 3_000 }),
    message({ type: 'door-result', nonce: 'x'.repeat(24), opened: true, reason: 'opened' }),
  ].map((one) => Buffer.from(JSON.stringify(one))),
  words: [
    '"__proto__":{},',
    'null',
    '1e999',
    '[[[[[[[[',
    '\\u0000',
    '"type":"update",',
    '{}',
    '-1',
    '\u202e',
    '"callId":"call-0002",',
  ],
  leastClasses: 3,
  take: (input) => {
    const read = readCallMessage({ topic: 'entryphone/v1/home/door/up/call/call-0001', body: input, retained: false });
    if (!read.ok) {
      promise((read.why?.length ?? 0) <= 500, 'what is told of a fault is short');
      return read.fault;
    }
    promise(
      read.value.callId === 'call-0001' && Object.getPrototypeOf(read.value) === Object.prototype,
      'it is this call',
    );
    return 'ok';
  },
};

export const manifests: FuzzTarget = {
  name: "releases' manifests",
  corpus: [
    writeManifest(sampleManifest()),
    writeManifest(sampleManifest({ kind: 'flows', architecture: 'any', requires: { boards: [], freeBytes: 0 } })),
  ],
  words: [
    ...[
      '../',
      '/',
      '"path":"../../etc/passwd",',
      '\\u0000',
      '"mode":"4755",',
      '"kind":"config",',
      '"chunks":[],',
      '-1',
      '1e300',
    ],
    ...['"__proto__":{},', '9'.repeat(30), '[[[[[[[[', '"version":"0.0.1",', '"files":[],', '"minFrom":"9.9.9",'],
  ],
  leastClasses: 4,
  take: (input) => {
    const read = readManifest(input);
    if (!read.ok) {
      promise(read.why.length <= 200, 'what is told of a fault is short');
      return read.fault;
    }
    const { value } = read;
    promise(manifestFault(value) === undefined, 'what passes is consistent');
    promise(
      value.files.every(({ path, mode }) => !path.split('/').includes('..') && !path.startsWith('/') && mode <= 0o755),
      'no file leads out of the release or has rights of its own',
    );
    promise(readManifest(writeManifest(value)).ok, 'what was read can be written');
    return 'ok';
  },
};

export const configDefaults: FuzzTarget = {
  name: 'configuration defaults',
  corpus: ['good', 'opens-the-door', 'alias', 'tag', 'prototype', 'out-of-range'].map((name) =>
    readFileSync(resolve(import.meta.dirname, `../../../test/fixtures/config-defaults/${name}.yaml`)),
  ),
  words: [
    ...[
      'mqtt: { url: x }\n',
      'door:\n',
      '  pulseMs: 9\n',
      '__proto__: ',
      '<<: *a',
      '&a ',
      '*a',
      '!!binary ',
      '? ',
      '- ',
    ],
    ...[
      '[[[[[[[[',
      '{{{{{{{{',
      '\t',
      '\u0000',
      '---\n',
      '%YAML 1.1\n',
      "'",
      '|\n',
      'selftest: { echo: 1 }\n',
      '!!merge <<: ',
    ],
  ],
  leastClasses: 4,
  take: (input) => {
    const faults: ConfigFault[] = [];
    const values = parseDefaults(input.toString('utf8'), 'defaults.yaml', faults);
    promise((values === undefined) === faults.length > 0, 'either they may stand, or it is said why not');
    if (values === undefined) return faults[0]?.text.replace(/^line \d+: /, '').slice(0, 24) ?? '';
    const saidOnly = Object.entries(values).every(([section, of]) =>
      MAY_STAND.some((path) => path === section || (path.startsWith(`${section}.`) && typeof of === 'object')),
    );
    promise(saidOnly && Object.getPrototypeOf(values) === Object.prototype, 'nothing but what may stand');
    promise(Object.getPrototypeOf(mergedOver(values, { mqtt: {} })) === Object.prototype, 'merged as well');
    return 'ok';
  },
};

const minisignFixture = (name: string) =>
  readFileSync(resolve(import.meta.dirname, '../../../test/fixtures/minisign', name));
const signedFile = minisignFixture('file');
const rescueKey = readMinisignKey(minisignFixture('key.pub').toString('utf8'));
export const minisignSignatures: FuzzTarget = {
  name: 'minisign signatures',
  corpus: ['good.minisig', 'legacy-algorithm.minisig', 'bit-flipped.minisig'].map(minisignFixture),
  words: ['trusted comment: ', 'untrusted comment: ', '\n', '====', 'RUR', '\u0000', '\r\n'],
  leastClasses: 3,
  take: (input) => {
    try {
      const signature = readMinisignSignature(input.toString('utf8'));
      const comment = verifyMinisign(signedFile, signature, [rescueKey]);
      promise(comment === 'entryphone rescue firmware 1.4.0 arm64', 'nothing else was signed');
      return 'ok';
    } catch (error) {
      if (error instanceof AppError) return error.message.slice(0, 60);
      throw error;
    }
  },
};
