import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type Test, test } from 'tap';
import { NODE_FLAGS } from '../src/adapters/supervisor/node-program.js';
import { SLOTS } from '../src/install/plan.js';
import { UPDATE_RESTART_FILE } from '../src/station/updated-station.js';

const root = resolve(import.meta.dirname, '../..');
const units = readdirSync(join(root, 'systemd')).filter((name) => /\.(service|target|path)$/.test(name));

function tempDir(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-systemd-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  return dir;
}

test('systemd finds no fault in the units, and little that they may do', async (t) => {
  const dir = tempDir(t);
  for (const name of units) {
    const text = readFileSync(join(root, 'systemd', name), 'utf8');
    const here = text.replaceAll('/opt/entryphone/.toolchain/bin/node', process.execPath);
    writeFileSync(join(dir, name), here.replaceAll('/opt/entryphone', root));
  }
  const files = units.map((name) => join(dir, name));
  const verify = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], { encoding: 'utf8' });
  t.equal(verify.status, 0, verify.stderr);
  t.notMatch(verify.stderr, /entryphone/, 'no warning about ours');
  for (const file of files.filter((name) => name.endsWith('.service'))) {
    const security = spawnSync('systemd-analyze', ['security', '--offline=true', '--threshold=25', file], {
      encoding: 'utf8',
      env: { ...process.env, SYSTEMD_PAGER: '' },
    });
    t.equal(security.status, 0, security.stdout);
    t.comment(
      security.stdout
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/[^\x20-\x7e]/g, '')
        .trim(),
    );
  }
});

test('from slots: systemd takes the drop-ins, and every command in them goes by the launcher', async (t) => {
  const dir = tempDir(t);
  const names = readdirSync(join(root, 'systemd/slots')).map((name) => name.replace(/\.conf$/, ''));
  t.same(names.sort(), ['entryphone-flows', 'entryphone-inference', 'entryphone-media', 'entryphone-station']);
  const again = readFileSync(join(root, 'systemd/entryphone-again@.service'), 'utf8');
  const dropIn = (name: string) => readFileSync(join(root, 'systemd/slots', `${name}.conf`), 'utf8');
  const verify = (change: (text: string) => string) => {
    for (const name of names) {
      const text = readFileSync(join(root, 'systemd', `${name}.service`), 'utf8');
      writeFileSync(join(dir, `${name}.service`), text);
      mkdirSync(join(dir, `${name}.service.d`), { recursive: true });
      writeFileSync(join(dir, `${name}.service.d/slots.conf`), change(dropIn(name)));
    }
    writeFileSync(join(dir, 'entryphone-again@.service'), again);
    const files = names.map((name) => join(dir, `${name}.service`));
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', ...files], { encoding: 'utf8' });
    return { status, ours: stderr.split('\n').filter((line) => line.includes('entryphone')) };
  };
  // Of the units' own commands nothing is left: /opt/entryphone need not be there.
  t.same(
    verify((text) => text),
    { status: 0, ours: [] },
  );
  t.match(
    verify((text) => text.replace('ExecStart=\n', '')).ours.join('\n'),
    /more than one ExecStart/,
    'they are read',
  );
  for (const name of names) {
    const program = name.replace('entryphone-', '');
    const commands = dropIn(name).match(/^Exec\w+=.+$/gm) ?? [];
    const by = (verb: string) =>
      `/bin/sh /usr/lib/entryphone/launcher.sh ${SLOTS} ${verb} --config /etc/entryphone/station.yaml`;
    t.same(
      commands,
      program === 'station'
        ? [
            `ExecStartPre=-${by('run relay-safe')}`,
            `ExecStart=${by('start station')}`,
            `ExecStopPost=${by('run relay-safe')}`,
          ]
        : [`ExecStart=${by(`run ${program}`)}`],
    );
  }
  // What stays wrong is tried with a pause, not five times a second; on trial at once, since the launcher counts.
  for (const name of names) {
    t.match(dropIn(name), /^OnFailure=entryphone-again@%p\.service$/m, name);
    t.match(dropIn(name), /^RestartPreventExitStatus=69$/m, `${name}: beside its own, the launcher's`);
    t.notMatch(dropIn(name), /^RestartPreventExitStatus=$/m, `${name}: its own stays`);
  }
  t.match(again, `cd ${SLOTS} && if test -e trying -o -e config/trying; then exec sleep 1; else exec sleep 10; fi`);
  const station = dropIn('entryphone-station');
  t.match(station, new RegExp(`^ReadWritePaths=${SLOTS}$`, 'm'));
  // Whoever asks, and whoever listens, mean the same file.
  const asked = `/run/entryphone/${UPDATE_RESTART_FILE}`;
  t.match(station, new RegExp(`^Environment=ENTRYPHONE_UPDATE_RESTART=${asked}$`, 'm'));
  t.match(readFileSync(join(root, 'systemd/entryphone-update-restart.path'), 'utf8'), `PathChanged=${asked}\n`);
});

test('each process has a user of its own, a watchdog, and what it may not have', async (t) => {
  const settings = (name: string) => {
    const rows =
      readFileSync(join(root, 'systemd', `entryphone-${name}.service`), 'utf8').match(/^[A-Z]\w+=.*$/gm) ?? [];
    return (key: string) => rows.filter((row) => row.startsWith(`${key}=`)).map((row) => row.slice(key.length + 1));
  };
  const [station, media, flows, inference, gateway, manager] = [
    settings('station'),
    settings('media'),
    settings('flows'),
    settings('inference'),
    settings('gateway'),
    settings('manager'),
  ];
  const all = [station, media, flows, inference, gateway, manager];
  for (const unit of all) {
    t.same([unit('Type'), unit('NotifyAccess'), unit('Restart')], [['notify'], ['main'], ['always']]);
    t.same(unit('WatchdogSignal'), ['SIGKILL']);
  }
  t.equal(new Set(all.flatMap((unit) => unit('User'))).size, 6);
  t.same(station('WatchdogSec'), ['2s']);
  t.same(gateway('SupplementaryGroups'), [], "nothing of a station is the gateway's");
  t.same(
    [manager('SupplementaryGroups'), manager('RuntimeDirectoryMode')],
    [[], ['0750']],
    'few may order stations about',
  );
  for (const unit of [station, media, flows, inference]) {
    const [, ...command] = unit('ExecStart')[0]?.split(' ') ?? [];
    t.same(command.slice(0, NODE_FLAGS.length), NODE_FLAGS, 'run as everywhere else');
  }
  t.match(station('ExecStartPre')[0], /relay-safe\.js/);
  t.match(station('ExecStopPost')[0], /relay-safe\.js/);
  t.same(media('CPUSchedulingPolicy'), ['fifo']);
  t.same(
    [inference('SupplementaryGroups'), inference('IPAddressDeny')],
    [[], ['any']],
    'inference hears loopback alone',
  );
  t.same(inference('RestartPreventExitStatus'), ['2 3'], 'where it is off it stays off');
  t.same(flows('SupplementaryGroups'), [], 'neither gpio nor audio, no socket but its own');
});

/** Datagrams at a Unix socket, for which Node has no word; perl-base is on every Debian. */
const RECEIVER = `
  use Socket; my $address = $ARGV[0]; $address =~ s/^@/\\0/; $| = 1;
  socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; bind($s, pack_sockaddr_un($address)) or die "$!"; print "bound\\n";
  for (1..4) { recv($s, my $text, 4096, 0); print "$text\\n" }
`;

for (const [kind, addressIn] of [
  ['a path', (dir: string) => join(dir, 'notify')],
  ['an abstract name', (dir: string) => `@${dir}/notify`],
] as const) {
  test(`a process speaks sd_notify to ${kind}, and its children can't`, async (t) => {
    const address = addressIn(tempDir(t));
    const receiver = spawn('perl', ['-e', RECEIVER, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.teardown(() => receiver.kill());
    const ended = once(receiver, 'exit');
    const rows = createInterface({ input: receiver.stdout });
    await once(rows, 'line');
    const heard: string[] = [];
    rows.on('line', (row) => heard.push(row));
    const probe = spawnSync(process.execPath, [join(import.meta.dirname, 'support/notify-probe.js')], {
      encoding: 'utf8',
      env: { ...process.env, NOTIFY_SOCKET: address, WATCHDOG_USEC: '2000000' },
    });
    t.equal(probe.status, 0, probe.stderr);
    t.equal(probe.stdout, 'undefined', 'NOTIFY_SOCKET is not handed on');
    await ended;
    t.same(heard, ['READY=1', 'WATCHDOG=1', 'STATUS=one line READY=0', 'STOPPING=1']);
  });
}

test('a supervisor by IPC comes first; a socket that nobody reads does no harm', async (t) => {
  const program = join(import.meta.dirname, 'support/notify-probe.js');
  const env = { ...process.env, NOTIFY_SOCKET: join(tempDir(t), 'nobody') };
  const child = spawn(process.execPath, [program], { env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  const heard: unknown[] = [];
  child.on('message', (message) => heard.push(message));
  await once(child, 'exit');
  t.same(heard, [
    { notice: 'ready' },
    { notice: 'watchdog' },
    { notice: 'status', text: 'one line\nREADY=0' },
    { notice: 'stopping' },
  ]);
  const deaf = spawnSync(process.execPath, [program], { env, encoding: 'utf8' });
  t.equal(deaf.status, 0, deaf.stderr);
});
