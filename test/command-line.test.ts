import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'tap';

const program = resolve(import.meta.dirname, '../src/bin/entryphone.js');

const wrong: readonly (readonly [args: readonly string[], code: number, says: RegExp])[] = [
  [['lab', 'nonsense'], 2, /unknown command/],
  [['lab', 'call', '--loss', '200'], 2, /a number from 0 to 100/],
  [['install', '--board', 'nowhere', '--role', 'station'], 2, /no board profile nowhere.*raspberry-pi-4/],
  [['call', 'dtmf', 'x'], 2, /0 to 9/],
  [['status'], 69, /make run/],
];

test('what is wrong is told on stderr, by the exit code, and to machines by one object on stdout', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-command-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const noise = join(dir, 'noise.wav');
  writeFileSync(noise, 'this is no recording');
  const run = (args: readonly string[]) =>
    spawnSync(process.execPath, [program, ...args], {
      encoding: 'utf8',
      env: { ...process.env, XDG_RUNTIME_DIR: dir },
    });
  for (const [args, code, says] of wrong) {
    const { status, stdout, stderr } = run([...args, '--json']);
    t.equal(status, code, args.join(' '));
    t.match(stderr, says);
    const { ok, failed } = JSON.parse(stdout);
    t.equal(ok, false);
    t.match(failed, [says]);
  }
  const spoken: readonly (readonly [args: readonly string[], says: RegExp])[] = [
    [['say', 'door', '--file', noise], /noise\.wav: Not a usable WAV file/],
    [['press', 'door', 'bell', '--hold', 'long'], /--hold long is no time/],
    [
      ['gateway', 'prepare', '/proc/below', '--site', 'home', '--address', '127.0.0.1'],
      /below.*can't be used as a folder/,
    ],
  ];
  for (const [args, says] of spoken) {
    const { status, stdout, stderr } = run(args);
    t.equal(status, 2, args.join(' '));
    t.equal(stdout, '');
    t.match(stderr, says);
  }
  t.end();
});
