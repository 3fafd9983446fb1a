import { test } from 'tap';
import { type AudioFormat, answerFormats, ownFormats } from '../src/call/audio-formats.js';
import { answerDirection, negotiate } from '../src/call/negotiate.js';
import { type AudioDescription, type MediaPath, parseSdp, writeSdp } from '../src/call/sdp.js';
import { describedAt } from './support/descriptions.js';

const here = describedAt(40_000);
const there = describedAt(50_000);
const opus = { codec: 'opus', payloadType: 96, useInbandFec: true } as const;
const house = ownFormats(['opus', 'pcmu', 'pcma'], { useInbandFec: true });

test('SDP: written, read back, negotiated', async (t) => {
  const offer: AudioDescription = {
    ...here,
    hosts: [
      { address: '192.0.2.7', port: 40_000 },
      { address: '2001:db8::7', port: 40_000 },
    ],
    formats: [
      { ...opus, maxAverageBitrateBps: 24_000, maxPlaybackRateHz: 16_000, maxCaptureRateHz: 16_000 },
      ...house.slice(1),
    ],
  };
  const text = writeSdp(offer);
  t.match(text, /^v=0\r\no=- 4711 1 IN IP4 192\.0\.2\.7\r\ns=-\r\nt=0 0\r\n/);
  for (const line of [
    'm=audio 40000 RTP/AVP 96 0 8 97 98 101',
    'c=IN IP4 192.0.2.7',
    'a=rtpmap:96 opus/48000/2',
    'a=fmtp:96 useinbandfec=1;stereo=0;maxaveragebitrate=24000;maxplaybackrate=16000;sprop-maxcapturerate=16000',
    'a=rtpmap:0 PCMU/8000',
    'a=rtpmap:8 PCMA/8000',
    'a=rtpmap:97 red/48000/2',
    'a=fmtp:97 96/96/96/96',
    'a=rtpmap:98 telephone-event/48000',
    'a=rtpmap:101 telephone-event/8000',
    'a=fmtp:101 0-16',
    'a=ptime:20',
    'a=maxptime:60',
    'a=rtcp-mux',
    'a=sendrecv',
    'a=ssrc:305419896 cname:abcDEF123',
    'a=candidate:1 1 UDP 2130706431 192.0.2.7 40000 typ host',
    'a=candidate:2 1 UDP 2130706175 2001:db8::7 40000 typ host',
  ]) {
    t.ok(text.split('\r\n').includes(line), line);
  }
  t.same(parseSdp(text), { ok: true, value: offer });
  const six = { ...here, hosts: [{ address: '2001:db8::7', port: 40_000 }] } as AudioDescription;
  t.same(parseSdp(writeSdp(six)), { ok: true, value: six }, 'IPv6');

  const foreign = parseSdp(
    [
      'v=0',
      'o=bob 1 2 IN IP4 198.51.100.2',
      's=-',
      'c=IN IP4 198.51.100.2',
      't=0 0',
      'm=video 9000 RTP/AVP 97',
      'm=audio 9002 RTP/AVP 9 111 0 63 126',
      'a=rtpmap:63 red/48000/2',
      'a=fmtp:63 111/111',
      'a=rtpmap:126 telephone-event/8000',
      'a=rtpmap:111 OPUS/48000/2',
      'a=fmtp:111 minptime=10; useinbandfec=0',
      'a=maxptime:40',
      'a=ptime:60',
      'a=recvonly',
      'a=rtcp-mux',
      'a=candidate:1 1 udp 1 host.example 9002 typ host',
      'a=candidate:2 1 tcp 9 198.51.100.3 9 typ host',
      'a=candidate:3 1 udp 5 198.51.100.3 9002 typ host',
      'a=candidate:4 1 udp 7 198.51.100.4 9002 typ host',
      'a=candidate:5 1 udp 8 203.0.113.5 9002 typ srflx raddr 198.51.100.2 rport 9002',
      '',
    ].join('\r\n'),
  );
  if (!foreign.ok) throw new Error(foreign.text);
  t.same(
    foreign.value.hosts.map((host) => host.address),
    ['198.51.100.2', '198.51.100.4', '198.51.100.3'],
    'host candidates over UDP, best first; names are left out',
  );
  const answer = {
    ...here,
    formats: answerFormats(foreign.value.formats, house),
    direction: answerDirection(foreign.value.direction),
    others: foreign.value.others,
    audioAt: foreign.value.audioAt,
  };
  t.match(
    writeSdp(answer),
    /m=video 0 RTP\/AVP 97\r\nm=audio 40000 RTP\/AVP 111 0 63 126\r\n/,
    'refused lines keep their places',
  );
  t.equal(answer.direction, 'sendonly');
  t.same(negotiate(answer, foreign.value, 20), {
    path: 'udp',
    provePath: false,
    remote: { address: '198.51.100.2', port: 9_002 },
    codec: 'opus',
    sendPayloadType: 111,
    receivePayloadType: 111,
    red: { send: 63, receive: 63, copies: 1 },
    telephoneEvent: null,
    srtp: null,
    peerWantsFec: false,
    packetTimeMs: 40,
    maxPacketTimeMs: 40,
    mayWeSend: true,
  });
  t.equal(negotiate(here, { ...there, direction: 'sendonly' }, 20)?.mayWeSend, false);
  t.equal(negotiate(here, { ...there, packetTimeMs: 3 }, 20)?.packetTimeMs, 10);

  const ways: [ours: MediaPath[], theirs: MediaPath[] | undefined, path: MediaPath, provePath: boolean][] = [
    [['udp', 'mqtt'], ['udp', 'mqtt'], 'udp', true],
    [['udp', 'mqtt'], ['mqtt', 'udp'], 'mqtt', true],
    [['mqtt'], ['udp', 'mqtt'], 'mqtt', false],
    [['mqtt'], ['udp'], 'udp', false],
    [['udp', 'mqtt'], undefined, 'udp', false],
  ];
  for (const [ours, theirs, path, provePath] of ways) {
    const peer = theirs === undefined ? here : { ...here, paths: theirs };
    t.same(parseSdp(writeSdp(peer)), { ok: true, value: peer });
    t.match(negotiate({ ...here, paths: ours }, peer, 20), { path, provePath }, `${ours} with ${theirs}`);
  }
  const strange = writeSdp({ ...here, paths: ['mqtt'] }).replace('path:mqtt', 'path:pigeon mqtt mqtt');
  t.match(parseSdp(strange), { ok: true, value: { paths: ['mqtt'] } });
});

test('codecs: offered, answered, and what both ends then find', async (t) => {
  const pcmu: AudioFormat = { codec: 'pcmu', payloadType: 0 };
  const pcma: AudioFormat = { codec: 'pcma', payloadType: 8 };
  const events = (payloadType: number, clockRateHz: 48_000 | 8_000): AudioFormat => ({
    ...{ codec: 'telephone-event', payloadType, clockRateHz },
  });
  const red = (payloadType: number, of = 96): AudioFormat => ({ codec: 'red', payloadType, of, blocks: 3 });
  const of97 = { send: 97, receive: 97 };
  const cases: [name: string, offer: AudioFormat[], answerer: AudioFormat[], answer: AudioFormat[], found: object][] = [
    ['two of the house', house, house, house, { codec: 'opus', red: of97, telephoneEvent: { send: 98, receive: 98 } }],
    ['one that knows Opus alone', house, [opus], [opus], { codec: 'opus', red: null, telephoneEvent: null }],
    ['offered by such a one', [opus], house, [opus], { codec: 'opus', red: null, telephoneEvent: null }],
    [
      "the offer's order is the preference",
      [pcma, events(100, 8_000), opus],
      house,
      [pcma, events(100, 8_000), opus],
      {
        codec: 'pcma',
        sendPayloadType: 8,
        red: null,
        telephoneEvent: { send: 100, receive: 100 },
        peerWantsFec: false,
      },
    ],
    [
      'events on the clock of what is left, no redundancy without Opus',
      house,
      ownFormats(['pcmu'], opus),
      [pcmu, events(101, 8_000)],
      { codec: 'pcmu', red: null, telephoneEvent: { send: 101, receive: 101 } },
    ],
    [
      'numbers of the offer',
      [{ ...opus, payloadType: 120 }, red(35, 120)],
      house,
      [{ ...opus, payloadType: 120 }, red(35, 120)],
      { codec: 'opus', sendPayloadType: 120, receivePayloadType: 120, red: { send: 35, receive: 35, copies: 2 } },
    ],
  ];
  for (const [name, offer, answerer, answer, found] of cases) {
    const [offered, answered] = [offer, answerFormats(offer, answerer)].map((formats) => {
      const parsed = parseSdp(writeSdp({ ...here, formats }));
      if (!parsed.ok) throw new Error(parsed.text);
      return parsed.value;
    });
    if (offered === undefined || answered === undefined) throw new Error('nothing was described');
    t.same(answered.formats, answer, name);
    t.match(negotiate(offered, answered, 20), found, `${name}: who offered`);
    t.match(negotiate(answered, offered, 20), found, `${name}: who answered`);
  }
  t.same(answerFormats([opus, red(97), events(98, 48_000)], ownFormats(['pcmu'], opus)), [], 'nothing in common');
  t.equal(negotiate({ ...here, formats: [pcmu] }, { ...here, formats: [opus] }, 20), null);
  t.match(
    [
      negotiate({ ...here, formats: house }, { ...here, formats: [pcmu] }, 20),
      negotiate({ ...here, formats: [pcmu] }, { ...here, formats: house }, 20),
    ],
    [{ codec: 'pcmu' }, { codec: 'pcmu' }],
    'who names one codec alone gets it in both directions',
  );
  const formatsOf = (payloads: string, ...lines: string[]) => {
    const text = ['m=audio 40000 RTP/AVP 96', `m=audio 40000 RTP/AVP ${payloads}`];
    const parsed = parseSdp(`${writeSdp(here).replace(text[0] ?? '', text[1] ?? '')}${lines.join('\r\n')}\r\n`);
    return parsed.ok ? parsed.value.formats.map(({ codec }) => codec) : parsed.fault;
  };
  t.same(formatsOf('8 0 96'), ['pcma', 'pcmu', 'opus'], 'static types need no map');
  t.same(formatsOf('0', 'a=rtpmap:0 L16/44100'), 'no-common-codec', 'but a map counts');
  t.same(formatsOf('96 97', 'a=rtpmap:97 red/48000/2'), ['opus'], 'redundancy of nothing');
  for (const config of ['0/0', '96/0', '96', '96/', 'x/x', '96/96/96x']) {
    t.same(formatsOf('96 0 97', 'a=rtpmap:97 red/48000/2', `a=fmtp:97 ${config}`), ['opus', 'pcmu'], config);
  }
  t.same(formatsOf('96 99', 'a=rtpmap:99 telephone-event/16000'), ['opus'], 'events on a clock that no codec has');
  t.same(formatsOf(`${'1 '.repeat(40)}0`), ['pcmu'], 'one type many times');
  const endless = Array.from({ length: 40 }, (_, index) => 20 + index).join(' ');
  t.same(formatsOf(`${endless} 0`), 'no-common-codec', 'no more than 32 are read');
});

test('SDP: bad input is named and never throws', async (t) => {
  const good = writeSdp(here);
  const fixtures: [name: string, text: string, fault: string][] = [
    ['nothing', '', 'not-sdp'],
    ['no text of its kind', '\u0000\u0001{"a":1}', 'not-sdp'],
    ['another version', good.replace('v=0', 'v=1'), 'not-sdp'],
    ['an origin without numbers', good.replace('4711 1', 'x y'), 'not-sdp'],
    ['endless', `${good}a=x:${'y'.repeat(20_000)}`, 'too-large'],
    ['many media lines', good + 'm=audio 9 RTP/AVP 0\r\n'.repeat(9), 'too-large'],
    ['no audio line', good.replace('m=audio', 'm=video'), 'no-audio'],
    ['port 0', good.replace('m=audio 40000', 'm=audio 0'), 'audio-refused'],
    ['a port above 65535', good.replace('m=audio 40000', 'm=audio 70000'), 'bad-address'],
    ['no common codec', good.replace('opus/48000/2', 'G722/8000'), 'no-common-codec'],
    ['a map of a payload type that is not offered', good.replace('RTP/AVP 96', 'RTP/AVP 9'), 'no-common-codec'],
    ['secure RTP without a key', good.replace('RTP/AVP', 'RTP/SAVP'), 'no-common-crypto'],
    ['RTP over DTLS', good.replace('RTP/AVP', 'UDP/TLS/RTP/SAVP'), 'no-common-codec'],
    ['a payload type that RTCP takes', good.replaceAll('96', '72'), 'no-common-codec'],
    ['a host name', good.replace('c=IN IP4 192.0.2.7', 'c=IN IP4 evil.example'), 'bad-address'],
    ['a multicast address', good.replace('c=IN IP4 192.0.2.7', 'c=IN IP4 239.1.1.1'), 'bad-address'],
    ['the address of nobody', good.replace('c=IN IP4 192.0.2.7', 'c=IN IP4 0.0.0.0'), 'bad-address'],
    ['the IPv6 address of nobody', good.replace('c=IN IP4 192.0.2.7', 'c=IN IP6 ::'), 'bad-address'],
    ['RTCP on a port of its own', good.replace('a=rtcp-mux\r\n', ''), 'no-rtcp-mux'],
  ];
  for (const [name, text, fault] of fixtures) {
    const parsed = parseSdp(text);
    t.equal(parsed.ok ? 'taken' : parsed.fault, fault, name);
  }
  let state = 1;
  const random = (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state % below;
  };
  for (let round = 0; round < 300; round += 1) {
    const at = random(good.length);
    const mangled = good.slice(0, at) + String.fromCharCode(random(256)) + good.slice(at + random(12));
    const parsed = parseSdp(mangled);
    if (parsed.ok) negotiate(here, parsed.value, 20);
  }
  t.pass('300 mangled descriptions');
  const pollution = parseSdp(good.replace('useinbandfec=1', '__proto__=1;constructor=2;useinbandfec=1'));
  t.match(pollution, { ok: true, value: { formats: [{ codec: 'opus', useInbandFec: true }] } });
});
