import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { writeWav } from '../src/audio/wav.js';
import { AppError } from '../src/core/errors.js';
import { LOCALES, readPalette } from '../src/flows/palette-catalogue.js';
import type { StationHealth } from '../src/protocol/flows-api.js';
import { FlowBench } from './support/flow-bench.js';
import { until } from './support/site.js';
import { QUALITY } from './support/station-doubles.js';

const callId = 'call-0001';

test('nodes as Node-RED runs them, against the station that the contract is', async (t) => {
  const bench = await FlowBench.start(t);
  const { station } = bench;

  await t.test('the editor gets the help in its language', async (t) => {
    for (const { type, help } of readPalette().nodes) {
      for (const locale of LOCALES) {
        const [, page = ''] = (await bench.pages(locale)).split(`data-help-name="${type}"`);
        t.ok(
          page
            .slice(0, 1_000)
            .replace(/<[^>]+>/g, '')
            .includes(help[locale] ?? '?'),
          `${type} in ${locale}`,
        );
      }
    }
  });

  await t.test('digits go into the call as text; what is no digit is said, and never shown', async (t) => {
    const node = { id: 'dtmf', type: 'entryphone-dtmf', digits: 'payload', digitsType: 'msg', durationMs: 120 };
    await bench.deploy([node]);
    t.equal(await bench.input('dtmf', { payload: '0815#', topic: 'kept' }), null);
    t.same(station.of('call.dtmf'), [{ digits: '0815#', durationMs: 120 }]);
    t.match(bench.from('dtmf'), [{ topic: 'kept', payload: { callId } }]);
    await until(() => bench.status('dtmf')?.text === '5 sent');
    t.match(await bench.input('dtmf', { payload: 815 }), 'as a string of 0 to 9, *, # and A to D, not as number');
    t.match(await bench.input('dtmf', {}), 'not as undefined');
    t.match(await bench.input('dtmf', { payload: '12e4' }), 'not these 4 characters');
    t.match(await bench.input('dtmf', { payload: '1'.repeat(33) }), 'not these 33 characters');
    t.equal(station.of('call.dtmf').length, 1, 'the station was not bothered');
    station.refuses.set('call.dtmf', new AppError('no-call', 'nobody talks here'));
    t.match(await bench.input('dtmf', { payload: '1' }), 'nobody talks here');
    await until(() => bench.status('dtmf')?.fill === 'red');
    t.equal(bench.from('dtmf').length, 1);
    t.notMatch(JSON.stringify(bench.statuses), '0815');
  });

  await t.test('digits of the peer: one by one, or as a code', async (t) => {
    const type = 'entryphone-dtmf-event';
    await bench.deploy([
      { id: 'each', type, collect: 'each', pauseMs: 3_000 },
      { id: 'code', type, collect: 'code', pauseMs: 60_000 },
    ]);
    await until(() => bench.status('code')?.fill === 'green');
    const press = (digits: string, ofCall = callId): void => {
      for (const digit of digits) station.notify('call.dtmf', { callId: ofCall, digit, durationMs: 100 });
    };
    press('9*47');
    await until(() => bench.from('each').length === 4);
    t.same(
      bench.from('each').map(({ payload, topic }) => [payload, topic]),
      [...'9*47'].map((digit) => [digit, 'digit']),
    );
    press('11#');
    await until(() => bench.from('code').length === 1);
    t.match(bench.from('code'), [{ topic: 'code', payload: '4711', callId }]);
    press('12');
    station.callIs('ended', { reason: 'hung-up' });
    press('34', 'call-0002');
    press('5#', 'call-0003');
    await until(() => bench.from('code').length === 2);
    t.match(bench.from('code')[1], { payload: '5', callId: 'call-0003' }, 'calls are not mixed');
    t.notMatch(JSON.stringify(bench.statuses), '4711');
  });

  await t.test('how the call is heard: all of it, or one number; the light says whether that is well', async (t) => {
    const type = 'entryphone-quality';
    await bench.deploy([
      { id: 'all', type, figure: 'all' },
      { id: 'mos', type, figure: 'listening' },
      { id: 'remote', type, figure: 'remoteListening' },
      { id: 'loss', type, figure: 'sentLossPct' },
    ]);
    await until(() => ['all', 'mos', 'remote', 'loss'].every((id) => bench.status(id)?.fill === 'green'));
    const told = (mos: number) =>
      station.notify('quality.report', {
        callId,
        path: 'mqtt',
        quality: { ...QUALITY, mos: { ...QUALITY.mos, listening: mos } },
      });
    told(4.3);
    await until(() => bench.from('mos').length === 1);
    t.match(bench.from('mos'), [{ topic: 'listening', payload: 4.3, callId, path: 'mqtt' }]);
    t.match(bench.from('all'), [
      {
        topic: 'quality',
        payload: {
          callId,
          path: 'mqtt',
          conversational: 4.2,
          concealedPct: 0.5,
          sentLossPct: null,
          wantsOtherPath: false,
        },
      },
    ]);
    t.same([bench.from('remote'), bench.from('loss')], [[], []], 'what is not known is not told');
    await until(() => bench.status('mos')?.text === 'MOS 4.3, 0.5 % concealed, mqtt');
    told(3.7);
    await until(() => bench.status('mos')?.fill === 'yellow');
    told(2.1);
    await until(() => bench.status('mos')?.fill === 'red');
    station.callIs('ended', { reason: 'hung-up' });
    await until(() => bench.status('mos')?.text === 'no call');
    const before = bench.statuses.length;
    for (let second = 0; second < 100; second++) told(4.3);
    await until(() => bench.from('mos').length === 103);
    t.ok(bench.statuses.length - before <= 4 * 2, 'told on a change, five times a second at most');
  });

  await t.test(
    'less bits, another path, a restart: asked for as the field has it, refused with what was expected',
    async (t) => {
      const common = { type: 'entryphone-call', value: 'payload', valueType: 'msg' };
      await bench.deploy([
        { ...common, id: 'limit', action: 'limit' },
        { ...common, id: 'path', action: 'path' },
        ...['media', 'inference', 'flows', 'nothing'].map((action) => ({
          id: action,
          type: 'entryphone-recover',
          action,
        })),
      ]);
      for (const payload of [32, '24.5', 0, null])
        t.equal(await bench.input('limit', { payload }), null, String(payload));
      t.same(
        station.of('call.limit').map(({ bitrateBps }) => bitrateBps),
        [32_000, 24_500, null, null],
      );
      for (const payload of [3, -1, 'much', {}, 1e9, Number.NaN]) {
        t.match(await bench.input('limit', { payload }), '12 to 512 kbit/s, or 0', String(payload));
      }
      for (const payload of ['mqtt', 'auto']) t.equal(await bench.input('path', { payload }), null);
      for (const payload of ['tcp', 1, undefined, { path: 'udp' }]) {
        t.match(await bench.input('path', { payload }), 'auto, udp or mqtt is expected');
      }
      t.same(station.of('call.path'), [{ path: 'mqtt' }, { path: 'auto' }]);
      for (const id of ['media', 'inference', 'flows']) t.equal(await bench.input(id, {}), null);
      t.same(station.of('service.restart'), [{ service: 'media' }, { service: 'inference' }]);
      t.equal(station.of('flows.fallBack').length, 1);
      t.match(bench.from('media'), [{ payload: { action: 'media' } }]);
      t.match(await bench.input('nothing', {}), 'not chosen');
      station.refuses.set('service.restart', new AppError('too-soon', 'done less than 30 s ago'));
      t.match(await bench.input('media', {}), 'done less than 30 s ago');
      station.refuses.delete('service.restart');
      await until(() => bench.status('media')?.fill === 'red');
    },
  );

  await t.test('a sound is done when it is over; a node that goes takes its sound along', async (t) => {
    const type = 'entryphone-say';
    const common = { type, to: 'speaker', value: 'payload', valueType: 'msg', voice: 'en', durationMs: 250 };
    await bench.deploy([
      { ...common, id: 'text', what: 'text' },
      { ...common, id: 'tone', what: 'tone', to: 'call' },
      { ...common, id: 'file', what: 'file' },
      { ...common, id: 'none', what: 'song' },
    ]);
    const plays = () => station.of('sound.play');
    const over = async (id: string, message: Record<string, unknown>, reason: string): Promise<string | null> => {
      const before = plays().length;
      const done = bench.input(id, message);
      await until(() => plays().length > before);
      const sound = plays().at(-1)?.sound as { soundId?: string };
      station.notify('sound.ended', { playId: sound.soundId ?? station.playId, reason: reason as 'played' });
      return done;
    };
    t.equal(await over('text', { payload: ' Come in! ', topic: 'kept' }, 'played'), null);
    t.same(plays(), [{ to: 'speaker', sound: { kind: 'text', text: 'Come in!', voice: 'en' } }]);
    t.match(bench.from('text'), [{ topic: 'kept', payload: { durationMs: 500, reason: 'played' } }]);
    t.equal(await over('text', { payload: 42 }, 'replaced'), null);
    t.match(bench.from('text')[1], { payload: { reason: 'replaced' } });
    t.match(await over('text', { payload: 'x' }, 'not-played'), 'card is down');
    t.equal(bench.from('text').length, 2);
    for (const [payload, said] of [
      [undefined, 'a text is expected, not undefined'],
      [{}, 'not object'],
      ['  ', '1 to 500 characters is expected, not of 0'],
      ['x'.repeat(501), 'not of 501'],
    ] as const) {
      t.match(await bench.input('text', { payload }), said);
    }

    t.equal(await over('tone', { payload: 880 }, 'no-call'), null);
    t.match(plays().at(-1), { to: 'call', sound: { kind: 'tone', hz: 880, durationMs: 250 } });
    for (const payload of [20, 'high', null, [440], 1e6]) {
      t.match(await bench.input('tone', { payload }), 'a frequency of 50 to 7000 Hz is expected');
    }

    const file = join(bench.dir, 'chime.wav');
    writeFileSync(file, writeWav({ samples: new Int16Array(12_000).fill(99), rateHz: 8_000 }));
    t.equal(await over('file', { payload: file }, 'played'), null);
    t.equal(station.of('sound.load').length, 3, '1.5 s at 16 kHz, in pieces of half a second');
    t.match(await bench.input('file', { payload: join(bench.dir, 'none.wav') }), "can't be read");
    t.match(await bench.input('file', { payload: 7 }), 'the path of a WAV file is expected, not number');
    writeFileSync(file, 'no sound at all');
    t.match(await bench.input('file', { payload: file }), 'Not a usable WAV file');
    t.match(await bench.input('none', { payload: 'la' }), 'not chosen');
    station.refuses.set('sound.play', new AppError('speech-absent', 'espeak-ng is not installed', { remedy: 'apt' }));
    t.match(await bench.input('text', { payload: 'x' }), 'espeak-ng is not installed');
    station.refuses.delete('sound.play');

    const before = plays().length;
    bench.give('text', { payload: 'a long story' });
    await until(() => plays().length > before);
    const { playId } = station;
    await until(() => bench.status('text')?.text === 'plays 0.5 s');
    await bench.deploy([{ ...common, id: 'text', what: 'text', voice: 'de' }], 'nodes');
    await until(() => station.stopped.includes(playId));
    await until(() => bench.done.some(({ id, error }) => id === 'text' && error === null));
  });

  await t.test('the station is tested: passed by one output, else by the other; refusals are told', async (t) => {
    await bench.deploy([{ id: 'test', type: 'entryphone-selftest' }]);
    await until(() => bench.status('test')?.fill === 'green');
    t.equal(await bench.input('test', { kept: 1, topic: 'night' }), null);
    t.match(bench.from('test', 0), [{ kept: 1, topic: 'selftest', payload: { ok: true, verdict: 'pass' } }]);
    await until(() => bench.status('test')?.text === 'passed');
    station.selfTest = { ...station.selfTest, ok: false, verdict: 'fail', failed: ['sound: not-heard'] };
    t.equal(await bench.input('test', {}), null);
    t.match(bench.from('test', 1), [{ payload: { failed: ['sound: not-heard'] } }]);
    await until(
      () => bench.status('test')?.text === 'failed: sound: not-heard' && bench.status('test')?.fill === 'red',
    );
    station.selfTest = { ...station.selfTest, verdict: 'undecided', failed: ['call: interrupted'] };
    t.equal(await bench.input('test', {}), null);
    await until(() => bench.status('test')?.fill === 'yellow');
    t.equal(bench.from('test', 1).length, 2);
    station.refuses.set('selftest.run', new AppError('line-busy', 'a call lives'));
    t.match(await bench.input('test', {}), 'a call lives');
    t.equal(bench.sent.length, 3);
  });

  await t.test('a light wants true or false, and says what it got', async (t) => {
    await bench.deploy([{ id: 'led', type: 'entryphone-led', led: 'status', lit: 'payload', litType: 'msg' }]);
    t.equal(await bench.input('led', { payload: 'yes' }), 'lit is yes, neither true nor false');
    t.equal(await bench.input('led', { payload: true }), null);
    t.same(station.of('led.set'), [{ led: 'status', lit: true }]);
  });

  await t.test('a number that goes wrong is told once, and once when it is well again', async (t) => {
    const type = 'entryphone-anomaly';
    const common = { type, station: undefined, value: 'payload', valueType: 'msg' };
    await bench.deploy([
      { id: 'led', type: 'entryphone-led', led: 'status', lit: 'true', litType: 'bool' },
      { ...common, id: 'limit', watch: 'threshold', side: 'below', limit: '3.6', hysteresis: '0.2' },
      { ...common, id: 'level', watch: 'shift', side: 'either', learn: 10, alarm: 8, least: 0.1 },
      { ...common, id: 'nonsense', watch: 'threshold', side: 'above', limit: '' },
      { ...common, id: 'endless', watch: 'trend', side: 'above', limit: 3, windowS: 0, horizonS: 10 },
    ]);
    for (const payload of [4.2, 3.5, '3.4', 3.7, 3.81, 4])
      t.equal(await bench.input('limit', { payload, topic: 'mos' }), null);
    t.match(bench.from('limit', 0), [{ topic: 'mos', payload: { watch: 'threshold', value: 3.5, isWrong: true } }]);
    t.match(bench.from('limit', 1), [{ topic: 'mos', payload: { value: 3.81, isWrong: false, limitInMs: null } }]);
    t.equal(bench.sent.length, 2);
    t.equal(await bench.input('limit', { payload: 1 }), null);
    for (const payload of [
      undefined,
      null,
      '',
      ' ',
      'warm',
      {},
      [3],
      true,
      Number.NaN,
      1e300,
      Number.POSITIVE_INFINITY,
    ]) {
      t.match(await bench.input('limit', { payload }), /^a number is expected, not /);
    }
    t.equal(await bench.input('limit', { reset: true }), null);
    await until(() => bench.status('limit')?.text === 'learns anew');
    t.equal(await bench.input('limit', { payload: 2 }), null);
    t.equal(bench.from('limit', 0).length, 3, 'it had forgotten that it was wrong');

    for (let at = 0; at < 12; at++) await bench.input('level', { payload: 5 });
    await until(() => bench.status('level')?.text === '5 (+0 σ)');
    for (let at = 0; at < 5; at++) await bench.input('level', { payload: 4 });
    t.match(bench.from('level'), [{ payload: { watch: 'shift', value: 4, isWrong: true, baseline: 4.98 } }]);
    for (const id of ['nonsense', 'endless']) {
      t.equal(await bench.input(id, { payload: 1 }), 'the settings of this node make no sense');
      t.match(bench.status(id), { fill: 'red' });
    }
  });

  await t.test('what of the station goes down is told once, and once when it is up again', async (t) => {
    const type = 'entryphone-health';
    await bench.deploy([
      { id: 'changes', type, tell: 'changes' },
      { id: 'figures', type, tell: 'figures' },
    ]);
    await until(() => bench.status('changes')?.fill === 'green');
    await until(() => station.of('health.subscribe').at(-1)?.on === true);
    const well: StationHealth = {
      media: 'up',
      capture: 'closed',
      playback: 'up',
      captureXruns: 3,
      playbackXruns: 0,
      broker: 'up',
      siteBroker: null,
      otherSites: null,
      inference: null,
    };
    const told = async (now: Partial<StationHealth>): Promise<string[]> => {
      const [changes, figures] = [bench.from('changes').length, bench.from('figures').length];
      station.notify('health', { ...well, ...now });
      await until(() => bench.from('figures').length > figures);
      return bench
        .from('changes')
        .slice(changes)
        .map(({ topic, before, payload }) => `${topic} ${before} ${payload}`);
    };
    t.same(await told({ broker: 'down' }), ['broker null down'], 'what is up from the start is no news');
    await until(() => bench.status('changes')?.text === 'broker away');
    t.same(await told({ broker: 'down' }), []);
    t.same(await told({}), ['broker down up']);
    t.same(await told({ media: 'down', capture: null, playback: null, captureXruns: null, playbackXruns: null }), [
      'media up down',
    ]);
    t.same(await told({}), ['media down up'], 'cards are as they were');
    t.same(await told({ capture: 'up' }), ['capture closed up']);
    t.same(await told({ capture: 'down', playback: 'down' }), ['capture up down', 'playback up down']);
    await until(() => bench.status('changes')?.text === 'microphone down, speaker down');
    t.match(bench.from('figures').at(-1), { topic: 'health', payload: { capture: 'down', captureXruns: 3 } });
    await told({});
    await until(() => bench.status('changes')?.text === 'all is well');
  });

  await t.test('without a station: an error at each message, and the nodes close', async (t) => {
    await bench.deploy([
      { id: 'lost', type: 'entryphone-dtmf', station: 'nowhere', digits: '1', digitsType: 'str' },
      { id: 'there', type: 'entryphone-dtmf', digits: '1', digitsType: 'str' },
      { id: 'health', type: 'entryphone-health', tell: 'changes' },
    ]);
    t.equal(await bench.input('lost', {}), 'no station is chosen');
    await until(() => bench.status('there')?.fill === 'green');
    await bench.stationGoes();
    await until(() => bench.status('there')?.text === 'the station is away');
    t.match(await bench.input('there', {}), 'the station does not answer');
    t.match(bench.from('health'), [{ topic: 'station', payload: 'down', before: 'up' }]);
  });
});
