import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { statusTable } from '../src/bin/commands/status-table.js';
import { Site } from './support/site.js';
import { configFile, Post } from './support/station-post.js';

const program = resolve(import.meta.dirname, '../src/bin/entryphone.js');

/** `entryphone status` with these arguments, and what it has written so far. */
function status(t: Test, runtimeDir: string, ...args: string[]) {
  const child = spawn(process.execPath, [program, 'status', ...args], {
    env: { ...process.env, XDG_RUNTIME_DIR: runtimeDir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = once(child, 'close') as Promise<[number | null]>;
  const one = {
    child,
    text: '',
    code: () => ended.then(([code]) => code),
    says: async (what: RegExp) => {
      while (!what.test(one.text)) {
        if (child.exitCode !== null || child.signalCode !== null)
          throw new Error(`ended before it said ${what}:\n${one.text}`);
        await Promise.race([once(child.stdout, 'data'), once(child.stderr, 'data'), ended]);
      }
    },
  };
  for (const output of [child.stdout, child.stderr]) {
    output.on('data', (chunk: Buffer) => {
      one.text += chunk.toString('utf8');
    });
  }
  return one;
}

test('status --watch shows a station each second, without it too, until Ctrl-C', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-status-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const site = await Site.start();
  t.teardown(() => site.stop());
  const config = configFile(dir, 'door', `mqtts://127.0.0.1:${site.port}`, site.host.credentialsOf('door'), '');
  const door = await Post.start(t, config, dir);
  const runtimeDir = join(dir, 'runtime');
  const stations = join(runtimeDir, `entryphone-${userInfo().uid}`);
  mkdirSync(stations, { recursive: true });
  const none = status(t, runtimeDir, '--watch');
  t.equal(await none.code(), 69, 'nothing to watch');
  symlinkSync(join(dir, 'run'), join(stations, 'door'));

  const refused = status(t, runtimeDir, '--watch', '--json');
  t.equal(await refused.code(), 2);
  t.match(refused.text, '--watch has no --json');
  const shown = status(t, runtimeDir);
  t.equal(await shown.code(), 0);
  const asJson = status(t, runtimeDir, '--json');
  t.equal(await asJson.code(), 0);
  const [one] = JSON.parse(asJson.text).stations ?? [];
  const siteHost = { broker: { running: true, fault: null }, elsewhere: false, calls: 1, routed: 7, refused: {} };
  t.match(statusTable({ ...one, siteHost }), /its broker runs.*, calls 1, [\s\S]*other sites can't be reached/);
  t.match(statusTable({ ...one, siteHost: { ...siteHost, elsewhere: true } }), 'other sites can be called');
  t.match(shown.text, new RegExp(`station ${process.pid}, \\d+ MiB`));

  const watch = status(t, runtimeDir, '--watch');
  await watch.says(/The door[\s\S]*The door/);
  t.notMatch(watch.text, '\x1b', 'no terminal, so nothing of a terminal');
  await door.closeStation();
  await watch.says(/no station is running here|does not answer/);
  await door.startStation();
  watch.text = '';
  await watch.says(/The door/);
  watch.child.kill('SIGINT');
  t.equal(await watch.code(), 0);
});
