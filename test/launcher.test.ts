import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Test, test } from 'tap';

const launcher = resolve(import.meta.dirname, '../../device/launcher.sh');
const startFile = resolve(import.meta.dirname, '../../device/start.sh');

/** Slots whose programs say which slot they are of. */
class Slots {
  readonly dir = mkdtempSync(join(tmpdir(), 'entryphone-slots-'));

  constructor(t: Test, current: string, previous?: string) {
    t.teardown(() => rmSync(this.dir, { recursive: true }));
    this.make('a');
    this.make('b');
    symlinkSync(current, this.path('current'));
    if (previous !== undefined) symlinkSync(previous, this.path('previous'));
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  make(slot: string): void {
    mkdirSync(this.path(`${slot}/device`), { recursive: true });
    writeFileSync(this.path(`${slot}/manifest.json`), '{}');
    const check = '[ "$1" != check ] || { echo whole; exit 0; }\n';
    writeFileSync(this.path(`${slot}/device/start.sh`), `${check}echo "${slot} $* in $PWD"\n`);
  }

  /** One start of a program. @returns the slot that it was started from, with its words; null where there is none */
  launch(verb: string, ...words: string[]): { slot: string | null; out: string; err: string; status: number | null } {
    const command = [launcher, this.dir, verb, ...(words.length === 0 ? ['station'] : words)];
    const { stdout, stderr, status } = spawnSync('sh', command, { encoding: 'utf8', cwd: '/' });
    return { slot: /^[ab] /.exec(stdout)?.[0].trim() ?? null, out: stdout.trim(), err: stderr.trim(), status };
  }

  starts(times: number): (string | null)[] {
    return Array.from({ length: times }, () => this.launch('start').slot);
  }

  get current(): string {
    return readlinkSync(this.path('current'));
  }

  write(name: string, text: string): void {
    writeFileSync(this.path(name), text);
  }

  text(name: string): string | null {
    return existsSync(this.path(name)) ? readFileSync(this.path(name), 'utf8') : null;
  }
}

test('what runs is what current names; its words and its folder are its own', async (t) => {
  const slots = new Slots(t, 'b', 'a');
  t.equal(slots.launch('run', 'media', '--config', 'a b.yaml').out, 'b media --config a b.yaml in /');
  t.same(slots.starts(5), ['b', 'b', 'b', 'b', 'b'], 'a release that is confirmed is started as often as need be');
  t.equal(slots.text('back'), null);
});

test('a release on trial is started three times; then the previous one, with the reason', async (t) => {
  const slots = new Slots(t, 'b', 'a');
  slots.write('trying', 'slot=b starts=0\n');
  t.same(slots.starts(3), ['b', 'b', 'b']);
  t.equal(slots.launch('run', 'media').slot, 'b', 'only starts of the station count');
  t.equal(slots.text('trying'), 'slot=b starts=3\n');
  t.same(slots.starts(2), ['a', 'a']);
  t.equal(slots.current, 'a');
  t.equal(slots.text('back'), 'from=b to=a reason=not confirmed after 3 starts\n');
  t.equal(slots.text('trying'), null);
});

test('when a release is left, the programs beside the station are asked to leave it too, where the unit says how', async (t) => {
  const slots = new Slots(t, 'b', 'a');
  const asked = slots.path('update-restart');
  const start = (file: string) => {
    const env = { ...process.env, ENTRYPHONE_UPDATE_RESTART: file };
    return spawnSync('sh', [launcher, slots.dir, 'start', 'station'], { encoding: 'utf8', env });
  };
  slots.write('trying', 'slot=b starts=2\n');
  t.match(start(asked).stdout, /^b /);
  t.notOk(existsSync(asked));
  t.match(start(asked).stdout, /^a /);
  t.equal(slots.text('update-restart'), 'not confirmed after 3 starts\n');
  slots.write('trying', 'slot=a starts=3\n');
  rmSync(slots.path('previous'));
  symlinkSync('b', slots.path('previous'));
  const { stdout, stderr } = start(slots.path('nowhere/at/all'));
  t.match(stdout, /^b /, 'what can not be asked for keeps nothing from being started');
  t.match(stderr, /could not be restarted/);
});

test('confirmed on its last start, it stays', async (t) => {
  const slots = new Slots(t, 'b', 'a');
  slots.write('trying', 'slot=b starts=2\n');
  t.equal(slots.launch('start').slot, 'b');
  rmSync(slots.path('trying'));
  t.same(slots.starts(3), ['b', 'b', 'b']);
});

test('a power cut between the record of a trial and its switch leaves what runs', async (t) => {
  const slots = new Slots(t, 'a', 'a');
  slots.write('trying', 'slot=b starts=0\n');
  t.same(slots.starts(5), ['a', 'a', 'a', 'a', 'a']);
  t.equal(slots.text('trying'), 'slot=b starts=0\n', 'for the station to tidy');
});

test('a power cut while going back: the next start goes there again', async (t) => {
  const slots = new Slots(t, 'b', 'a');
  slots.write('trying', 'slot=b starts=3\n');
  slots.write('back', 'from=b to=a reason=not confirmed after 3 starts\n');
  symlinkSync('a', slots.path('current.new'));
  t.equal(slots.launch('start').slot, 'a');
  t.equal(slots.current, 'a');
  t.equal(slots.text('trying'), null);
});

test('a damaged record of a trial ends it', async (t) => {
  const damaged = [
    '',
    'slot=',
    'slot=../../etc starts=0',
    'slot=b starts=-1',
    'slot=b starts=10',
    'x'.repeat(99),
    '\0',
  ];
  for (const text of damaged) {
    const slots = new Slots(t, 'b', 'a');
    slots.write('trying', text);
    t.equal(slots.launch('start').slot, 'a', JSON.stringify(text));
    t.equal(slots.text('back'), 'from=b to=a reason=the record of its trial is damaged\n');
  }
});

test('a release that is not whole is not started', async (t) => {
  const breakings: Record<string, (slots: Slots) => void> = {
    'no manifest: half of it was installed': (slots) => rmSync(slots.path('b/manifest.json')),
    'an empty manifest': (slots) => slots.write('b/manifest.json', ''),
    'an empty start file': (slots) => slots.write('b/device/start.sh', ''),
    'no slot at all': (slots) => rmSync(slots.path('b'), { recursive: true }),
    'a current that names nothing of ours': (slots) => {
      rmSync(slots.path('current'));
      symlinkSync('../../etc', slots.path('current'));
    },
    'no current': (slots) => rmSync(slots.path('current')),
    'a current that is a file': (slots) => {
      rmSync(slots.path('current'));
      slots.write('current', 'b');
    },
  };
  for (const [what, damage] of Object.entries(breakings)) {
    const slots = new Slots(t, 'b', 'a');
    slots.write('trying', 'slot=b starts=0\n');
    damage(slots);
    // A current that can't be read names no slot on trial; the previous one is taken, and stays.
    t.equal(slots.launch('run', 'media').slot, 'a', what);
    t.equal(slots.current, 'a', what);
    t.same(slots.starts(2), ['a', 'a'], what);
  }
});

test('half a release, by its own word: its manifest is there, and not every program that makes a station', async (t) => {
  for (const missing of ['dist/src/bin/station.js', 'dist/src/bin/media.js', '.toolchain/bin/node', null]) {
    const slots = new Slots(t, 'b', 'a');
    slots.write('trying', 'slot=b starts=0\n');
    copyFileSync(startFile, slots.path('b/device/start.sh'));
    for (const path of ['dist/src/bin/station.js', 'dist/src/bin/media.js', '.toolchain/bin/node']) {
      mkdirSync(dirname(slots.path(`b/${path}`)), { recursive: true });
      writeFileSync(slots.path(`b/${path}`), '#!/bin/sh\necho "b $*"\n', { mode: 0o755 });
    }
    if (missing !== null) writeFileSync(slots.path(`b/${missing}`), '', { mode: 0o644 });
    if (missing === '.toolchain/bin/node') chmodSync(slots.path(`b/${missing}`), 0o644);
    t.equal(slots.launch('start').slot, missing === null ? 'b' : 'a', `${missing} is missing`);
    t.equal(slots.text('back'), missing === null ? null : 'from=b to=a reason=not whole\n');
  }
});

test('without a previous one the other slot is taken, if it is whole; a bad release is better than none', async (t) => {
  const other = new Slots(t, 'b');
  rmSync(other.path('b/manifest.json'));
  t.equal(other.launch('start').slot, 'a');

  const alone = new Slots(t, 'b', 'a');
  rmSync(alone.path('a/manifest.json'));
  alone.write('trying', 'slot=b starts=3\n');
  const { slot, err } = alone.launch('start');
  t.equal(slot, 'b');
  t.match(err, /no other whole release/);

  const none = new Slots(t, 'b', 'a');
  for (const one of ['a', 'b']) rmSync(none.path(`${one}/manifest.json`));
  const failed = none.launch('start');
  t.equal(failed.status, 69);
  t.match(failed.err, /put one there/);
});

test('starts that cannot be counted go to the previous release: a full or read-only disk', {
  skip: process.getuid?.() !== 0 && 'needs root, to mount a folder read-only',
}, async (t) => {
  const slots = new Slots(t, 'b', 'a');
  slots.write('trying', 'slot=b starts=0\n');
  const script = `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec sh "$2" "$1" start station`;
  const inNamespace = () =>
    spawnSync('unshare', ['-m', 'sh', '-c', script, 'sh', slots.dir, launcher], { encoding: 'utf8' });
  for (let i = 0; i < 5; i++) t.match(inNamespace().stdout, /^a station/);
  t.equal(slots.current, 'b', 'nothing could be written down');
  t.equal(slots.launch('start').slot, 'b', 'once it can, the trial goes on');
});

test('wrong usage says what is right', async (t) => {
  const slots = new Slots(t, 'a');
  t.equal(slots.launch('begin').status, 64);
  t.equal(spawnSync('sh', [launcher]).status, 64);
  t.equal(spawnSync('sh', [launcher, '/nowhere/at/all', 'run', 'media']).status, 69);
});
