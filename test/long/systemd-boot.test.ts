import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { connectStation } from '../../src/lab/site.js';
import type { StationStatus } from '../../src/protocol/station-api.js';
import { Machine } from '../support/machine.js';

const entryphone = resolve(import.meta.dirname, '../../src/bin/entryphone.js');
const isAble = process.getuid?.() === 0 && spawnSync('systemd-nspawn', ['--version']).status === 0;
const RELAY = 17;
const LIMIT_MS = 40_000;

/** A site host on the virtual board, whose door stays open long enough to be killed with it open. */
function prepare(root: string): void {
  const args = ['--board', 'virtual-board', '--role', 'site-host', '--address', '127.0.0.1', '--root', root, '--apply'];
  execFileSync(process.execPath, [entryphone, 'install', ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const file = join(root, 'etc/entryphone/station.yaml');
  writeFileSync(file, `${readFileSync(file, 'utf8')}door: { pulseMs: 30000 }\n`);
}

test('on a board that systemd has booted, what is killed or hangs comes back, and the door is shut', {
  skip: isAble ? false : 'needs root, debootstrap and systemd-nspawn',
  timeout: 600_000,
}, async (t) => {
  const bootAtMs = performance.now();
  const machine = await Machine.boot(prepare);
  t.teardown(() => machine.stop());
  const since = (startMs: number) => Math.round(performance.now() - startMs);

  const show = (unit: string, key: string) => machine.run('systemctl', 'show', '-P', key, `entryphone-${unit}`).text;
  const eventually = async (what: string, holds: () => boolean | Promise<boolean>): Promise<void> => {
    const startMs = performance.now();
    while (!(await holds())) {
      if (performance.now() - startMs > LIMIT_MS) {
        t.comment(machine.run('journalctl', '--no-pager', '-n', '60', '-o', 'cat').text);
        throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
      }
      await new Promise((done) => setTimeout(done, 20));
    }
  };
  const station = async <T>(ask: (client: Awaited<ReturnType<typeof connectStation>>) => Promise<T>): Promise<T> => {
    const client = await connectStation(machine.path('run/entryphone'));
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  };
  const status = () =>
    station<StationStatus | undefined>((client) => client.call('station.status', {})).catch(() => undefined);
  const isWhole = async () => {
    const now = await status();
    return now?.broker.connected === true && now.engine !== null && now.buttons.every((button) => button.working);
  };
  await eventually('station, media and broker are there', isWhole);
  t.comment(`whole ${since(bootAtMs)} ms after the boot began`);

  const pidOf = (unit: string) => show(unit, 'MainPID');
  t.equal(
    machine.run('sh', '-c', `cat /proc/${pidOf('media')}/task/*/stat | cut -d" " -f41 | sort -u`).text,
    '1',
    'each thread of media is SCHED_FIFO',
  );
  t.match(
    (await status())?.engine?.playback,
    { state: 'down', fault: { code: 'card-absent' } },
    'no card: named, and media is up',
  );
  for (const unit of ['media', 'station']) {
    t.equal(machine.run('stat', '-c', '%U', `/proc/${pidOf(unit)}`).text, `entryphone-${unit}`);
    t.equal(show(unit, 'NRestarts'), '0');
  }
  const may = (user: string, groups: string, flag: string, file: string) =>
    machine.run(
      'setpriv',
      `--reuid=entryphone-${user}`,
      `--regid=entryphone-${user}`,
      `--groups=${groups}`,
      'test',
      flag,
      file,
    ).status === 0;
  await eventually('the flows run', async () => (await status())?.flows?.state === 'running');
  for (const socket of ['station', 'media', 'station-metrics', 'media-metrics']) {
    t.equal(
      machine.opens('entryphone-flows', `/run/entryphone/${socket}.sock`),
      'EACCES',
      `${socket} is not for flows`,
    );
  }
  t.equal(machine.opens('entryphone-flows', '/run/entryphone/flows/flows.sock'), 'open');
  t.equal(machine.opens('entryphone-station', '/run/entryphone/flows-own/flows-metrics.sock'), 'open');
  t.notOk(may('flows', 'entryphone-flows', '-w', '/run/entryphone'), 'nor may flows put a socket there');
  t.notOk(may('flows', 'entryphone-flows', '-w', '/run/entryphone/flows'));
  t.notOk(may('flows', 'entryphone-flows', '-r', '/var/lib/entryphone/pki/clients/indoor.pem'));
  t.notOk(may('media', 'entryphone-run', '-r', '/var/lib/entryphone/pki/clients/indoor.pem'));

  const units = ['station', 'media', 'flows'].filter((unit) => show(unit, 'ActiveState') === 'active');
  for (const signal of ['KILL', 'STOP'] as const) {
    for (const unit of units) {
      await t.test(`${unit}: SIG${signal}`, async (t) => {
        await eventually('whole before', isWhole);
        await eventually('running before', () => show(unit, 'SubState') === 'running');
        if (unit === 'station') {
          void station((client) => client.call('door.open', {})).catch(() => {});
          await machine.board.reached(RELAY, 1);
        }
        const before = pidOf(unit);
        const startMs = performance.now();
        machine.run('systemctl', 'kill', '--kill-whom=main', `--signal=SIG${signal}`, `entryphone-${unit}`);
        if (unit === 'station') {
          const shutAtMs = await machine.board.reached(RELAY, 0);
          t.comment(`door shut after ${Math.round(shutAtMs - startMs)} ms`);
        }
        await eventually('another process', () => {
          // One answer, since it may end between two.
          const now = machine.run('systemctl', 'show', '--property=SubState,MainPID', `entryphone-${unit}`).text;
          return now.includes('SubState=running') && !now.includes(`MainPID=${before}\n`);
        });
        t.comment(`restarted after ${since(startMs)} ms`);
        await eventually('whole again', isWhole);
        t.comment(`whole after ${since(startMs)} ms`);
        t.equal(machine.board.level(RELAY), 0);
      });
    }
  }

  await t.test('the broker, the station’s child: SIGKILL', async (t) => {
    const broker = () => machine.run('sh', '-c', 'grep -lx mosquitto /proc/[0-9]*/comm | cut -d/ -f3').text;
    const before = broker();
    machine.run('sh', '-c', `kill -KILL ${before}`);
    await eventually('another broker', () => !['', before].includes(broker()));
    await eventually('whole again', isWhole);
    t.equal(machine.board.level(RELAY), 0);
  });

  await t.test('the station asks for a restart of the flows by a file', async (t) => {
    const stamp = () => show('flows-restart', 'ExecMainExitTimestampMonotonic');
    const before = stamp();
    writeFileSync(machine.path('run/entryphone/ask/flows-restart'), 'a test\n');
    for (const user of ['media', 'flows', 'inference']) {
      t.notOk(may(user, 'entryphone-run', '-w', '/run/entryphone/ask'), `${user} can not ask in its place`);
    }
    await eventually('systemd was told', () => stamp() !== before);
    t.equal(
      show('flows-restart', 'Result'),
      'success',
      machine.run('journalctl', '-o', 'cat', '-u', 'entryphone-flows-restart').text,
    );
  });

  await machine.stop();
  t.notOk(existsSync(machine.root), 'nothing is left of it');
  t.notMatch(readFileSync('/proc/self/mountinfo', 'utf8'), new RegExp(machine.root));
});
