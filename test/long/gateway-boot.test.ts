import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'tap';
import type { HealthView } from '../../src/protocol/gateway-api.js';
import { Machine } from '../support/machine.js';

const root = resolve(import.meta.dirname, '../../..');
const isAble = process.getuid?.() === 0 && spawnSync('systemd-nspawn', ['--version']).status === 0;
const API = 'http://127.0.0.1:8080';
const LIMIT_MS = 40_000;

/** The units, but nothing of a station runs. */
function prepare(machineRoot: string): void {
  const args = ['--board', 'virtual-board', '--role', 'site-host', '--address', '127.0.0.1', '--root', machineRoot];
  const entryphone = resolve(root, 'dist/src/bin/entryphone.js');
  execFileSync(process.execPath, [entryphone, 'install', ...args, '--apply'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  execFileSync('systemctl', [`--root=${machineRoot}`, 'disable', 'entryphone.target'], { stdio: 'ignore' });
}

/** The commands of docs/gateway.md that are for systemd; who runs them here is root already, and is nobody's sudo. */
function documentedCommands(): string {
  const [, commands = ''] = /```sh\n([\s\S]*?)```/.exec(readFileSync(resolve(root, 'docs/gateway.md'), 'utf8')) ?? [];
  return commands.replaceAll('sudo ', '');
}

test('a gateway that systemd has booted, by its documented steps: what is killed or hangs comes back', {
  skip: isAble ? false : 'needs root, debootstrap and systemd-nspawn',
  timeout: 300_000,
}, async (t) => {
  const machine = await Machine.boot(prepare);
  t.teardown(() => machine.stop());
  const done = (...command: string[]): string => {
    const { status, text } = machine.run(...command);
    t.equal(status, 0, `${command.join(' ').slice(0, 60)}: ${text}`);
    return text;
  };
  const show = (key: string) => machine.run('systemctl', 'show', '-P', key, 'entryphone-gateway').text;
  const health = (): HealthView | undefined => {
    const text = machine.page(`${API}/health`);
    return text === undefined ? undefined : (JSON.parse(text) as HealthView);
  };
  const isWhole = () => {
    const now = health();
    return now?.ok === true && now.workers.every(({ ready }) => ready);
  };
  const eventually = async (what: string, holds: () => boolean): Promise<void> => {
    const startMs = performance.now();
    while (!holds()) {
      if (performance.now() - startMs > LIMIT_MS) {
        t.comment(machine.run('journalctl', '--no-pager', '-n', '60', '-o', 'cat').text);
        throw new Error(`not within ${LIMIT_MS} ms: ${what}`);
      }
      await new Promise((wait) => setTimeout(wait, 50));
    }
    t.comment(`${what}: after ${Math.round(performance.now() - startMs)} ms`);
  };

  const place = ['--site', 'gate', 'home', '--address', '127.0.0.1'];
  const entryphone = ['/opt/entryphone/.toolchain/bin/node', '/opt/entryphone/dist/src/bin/entryphone.js'];
  done(...entryphone, 'gateway', 'prepare', '/srv/entryphone', ...place);
  done('systemd-run', '--unit=cloud-broker', 'mosquitto', '-c', '/srv/entryphone/mosquitto.conf');
  done('sh', '-ec', documentedCommands());
  await eventually('whole', isWhole);

  t.equal(done('stat', '-c', '%U', `/proc/${show('MainPID')}`), 'entryphone-gateway');
  t.equal(show('NRestarts'), '0');
  const security = machine.run('systemd-analyze', 'security', '--no-pager', '--threshold=25', 'entryphone-gateway');
  t.equal(security.status, 0, security.text);
  const opens = (path: string) =>
    machine.run(
      'setpriv',
      '--reuid=entryphone-gateway',
      '--regid=entryphone-gateway',
      '--clear-groups',
      'test',
      '-r',
      path,
    );
  t.equal(opens('/etc/entryphone/gateway/gateway.pem').status, 0);
  for (const path of ['/srv/entryphone/pki/authority.pem', '/srv/entryphone/pki/clients/site-home.pem']) {
    t.not(opens(path).status, 0, `${path} is not for the gateway`);
  }
  const metrics = machine.page(`${API}/metrics`) ?? '';
  t.match(metrics, 'entryphone_gateway_mqtt_connected{link="call"} 1\n');
  t.match(metrics, 'entryphone_gateway_worker_up{worker="1"} 1\n');

  for (const signal of ['KILL', 'STOP'] as const) {
    const before = show('MainPID');
    done('systemctl', 'kill', '--kill-whom=main', `--signal=SIG${signal}`, 'entryphone-gateway');
    await eventually(
      `whole after SIG${signal} of the dispatcher`,
      () => ![before, '0'].includes(show('MainPID')) && isWhole(),
    );
    const worker = health()?.workers[0]?.pid ?? 0;
    const dispatcher = show('MainPID');
    done('sh', '-c', `kill -${signal} ${worker}`);
    await eventually(`whole after SIG${signal} of a worker`, () => health()?.workers[0]?.pid !== worker && isWhole());
    t.equal(show('MainPID'), dispatcher, 'of which the dispatcher took care itself');
  }
  const broker = done('systemctl', 'show', '-P', 'MainPID', 'cloud-broker');
  done('sh', '-c', `kill -KILL ${broker}`);
  await eventually('it says that its broker is gone', () => health()?.broker?.connected === false);
  done('systemctl', 'reset-failed', 'cloud-broker');
  done('systemd-run', '--unit=cloud-broker', 'mosquitto', '-c', '/srv/entryphone/mosquitto.conf');
  await eventually('whole with another broker', isWhole);
});
