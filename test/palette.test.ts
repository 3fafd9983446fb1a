import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { ManualClock } from '../src/core/clock.js';
import { LOCALES, PALETTE_DIR, readPalette } from '../src/flows/palette-catalogue.js';
import { DigitCode } from '../src/palette/dtmf-event/digit-code.js';

test('every node has its words and its help in every language, an example, and what Node-RED asks of a package', async (t) => {
  const { nodes, faults } = readPalette();
  t.same(faults, []);
  t.ok(nodes.length >= 7);
  for (const { type, locales, help, category } of nodes) {
    t.same(locales, LOCALES, type);
    t.match(help['zh-CN'], /\p{Script=Han}/u, `${type} is explained in Chinese`);
    t.notMatch(help['en-US'], /\p{Script=Han}/u);
    t.ok(category === 'entryphone' || category === 'config');
  }
  // node-red-dev: P01 license, P04 a scoped name, P05 keyword, P06 and P07 versions, N01 each type once.
  const own = JSON.parse(readFileSync(join(PALETTE_DIR, 'package.json'), 'utf8'));
  t.match(own, {
    name: /^@[a-z-]+\/[a-z-]+$/,
    license: 'Apache-2.0',
    engines: { node: /^>=\d/ },
    'node-red': { version: /^>=\d/ },
  });
  t.ok(own.keywords.includes('node-red'));
  t.equal(new Set(nodes.map(({ type }) => type)).size, nodes.length);
});

test('what a palette lacks is named; one that is damaged is no palette', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-palette-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  cpSync(PALETTE_DIR, dir, { recursive: true });
  const chinese = join(dir, 'led/locales/zh-CN/led.json');
  const { led } = JSON.parse(readFileSync(chinese, 'utf8'));
  const { palette: _, ...rest } = led;
  writeFileSync(chinese, JSON.stringify({ led: { ...rest, 'not-boolean': 'no blank' } }));
  rmSync(join(dir, 'door/locales/zh-CN/door.html'));
  rmSync(join(dir, 'examples/listen.json'));
  const { nodes, faults } = readPalette(dir);
  t.same(faults.toSorted(), [
    'entryphone-door: no help in zh-CN',
    'entryphone-led: led.not-boolean has other blanks in zh-CN',
    'entryphone-led: no word for led.palette in zh-CN',
    'entryphone-listen: no example has it',
  ]);
  t.same(nodes.find(({ type }) => type === 'entryphone-led')?.locales, ['en-US']);
  for (const text of ['{"led": {"half', '[]', '{"led": 3}']) {
    writeFileSync(chinese, text);
    t.throws(() => readPalette(dir), { code: 'palette-damaged' }, text);
  }
  writeFileSync(chinese, JSON.stringify({ led }));
  for (const script of ['while (true) {}', 'process.exit(1)', "RED.nodes.registerType('another', {})"]) {
    const page = readFileSync(join(PALETTE_DIR, 'led/led.html'), 'utf8');
    const spoilt = page.replace(/(<script type="text\/javascript">)[\s\S]*?(<\/script>)/, `$1${script}$2`);
    writeFileSync(join(dir, 'led/led.html'), spoilt);
    t.throws(() => readPalette(dir), { code: 'palette-damaged' }, script);
  }
});

test('a code ends with # or a pause, * begins it anew, and it has an end in length', async (t) => {
  const clock = new ManualClock();
  const codes: string[] = [];
  const code = new DigitCode({ clock, pauseMs: 3_000, onCode: (digits, callId) => codes.push(`${callId} ${digits}`) });
  const press = (digits: string, callId = 'a'): void => {
    for (const digit of digits) code.digit(digit, callId);
  };
  press('1234#');
  press('##');
  press('12');
  clock.advance(2_999);
  press('3');
  clock.advance(2_999);
  t.same(codes, ['a 1234'], 'each digit has its own pause');
  t.equal(code.length, 3);
  clock.advance(1);
  press('99*47#');
  press('1');
  press('2#', 'b');
  press('77');
  code.clear();
  clock.advance(60_000);
  press('5'.repeat(1_000));
  clock.advance(3_000);
  t.same(codes, ['a 1234', 'a 123', 'a 47', 'b 2', `a ${'5'.repeat(32)}`]);
});
