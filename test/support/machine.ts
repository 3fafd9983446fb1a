/**
 * A Debian of its own, booted by systemd-nspawn with systemd as its first process: no network but its loopback, the checkout
 * at /opt/entryphone, the virtual GPIO chip of the test at /sys/class/gpio. Needs root, debootstrap and systemd-container.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { startVirtualBoard, type VirtualBoard } from '../../src/lab/virtual-board.js';

const checkout = resolve(import.meta.dirname, '../../..');
const cache = join(checkout, '.toolchain/cache');
const PACKAGES = ['systemd-sysv', 'libasound2', 'mosquitto', 'util-linux'];
const BOOT_LIMIT_MS = 20_000;
const POWER_OFF_LIMIT_MS = 20_000;

/** What the machine mounts over its /sys/class before the station starts: that of the test, with the virtual chip in it. */
const GPIO_UNIT = `[Unit]
Before=entryphone-station.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=mount --rbind /virtual/class /sys/class
`;

/**
 * The root folder of a Debian of this machine's own release, so that programs built here run there. Made once, by debootstrap;
 * half of one is never taken for whole.
 */
function debian(): string {
  const suite = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
  const root = join(cache, `debian-${suite}-${PACKAGES.join('-')}`);
  if (existsSync(root)) return root;
  mkdirSync(cache, { recursive: true });
  const making = mkdtempSync(join(cache, 'making-'));
  try {
    const include = `--include=${PACKAGES.join(',')}`;
    execFileSync('debootstrap', ['--variant=minbase', include, suite, making], { stdio: ['ignore', 'ignore', 'pipe'] });
    chmodSync(making, 0o755);
    renameSync(making, root);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  return root;
}

/** Roots of tests that were killed. */
function removeLeftovers(): void {
  for (const name of readdirSync(cache)) {
    const pid = /^machine-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(cache, name), { recursive: true, force: true });
  }
}

const CLEAN = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL=C.UTF-8', 'SYSTEMD_PAGER='];
const NODE = '/opt/entryphone/.toolchain/bin/node';
const FETCH = `
  fetch(process.argv[1], { signal: AbortSignal.timeout(2000) })
    .then(async (answer) => { console.log(await answer.text()); process.exit(answer.ok ? 0 : 1); })
    .catch(() => process.exit(1));
`;
const OPEN_SOCKET = `
  require('node:net').connect(process.argv[1])
    .on('connect', () => { console.log('open'); process.exit(); })
    .on('error', (error) => console.log(error.code));
`;

export class Machine {
  readonly root: string;
  readonly board: VirtualBoard;
  readonly #nspawn: ChildProcess;
  readonly #said: string[] = [];
  #pid = 0;

  private constructor(root: string, board: VirtualBoard) {
    this.root = root;
    this.board = board;
    const command = [
      ...['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', '--boot', '--console=pipe', '--private-network'],
      ...[`--directory=${root}`, `--bind-ro=${checkout}:/opt/entryphone`, '--bind=/sys/class:/virtual/class'],
    ];
    // It ends with the test, however that ends.
    const [program = '', ...args] = board.wrap(['setpriv', '--pdeathsig', 'TERM', '--', ...command]);
    this.#nspawn = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#nspawn.stdout, this.#nspawn.stderr]) {
      stream?.on('data', (chunk: Buffer) => this.#said.push(chunk.toString()));
    }
  }

  /**
   * A fresh Debian with Entryphone installed into it by `prepare`, booted. Resolves when systemd answers.
   * @param prepare gets the folder of the root
   */
  static async boot(prepare: (root: string) => void): Promise<Machine> {
    const base = debian();
    removeLeftovers();
    const root = mkdtempSync(join(cache, `machine-${process.pid}-`));
    let board: VirtualBoard | undefined;
    try {
      execFileSync('cp', ['-a', '--reflink=auto', `${base}/.`, root]);
      prepare(root);
      const units = join(root, 'etc/systemd/system');
      // Debian's own broker would have the port.
      symlinkSync('/dev/null', join(units, 'mosquitto.service'));
      writeFileSync(join(units, 'virtual-gpio.service'), GPIO_UNIT);
      mkdirSync(join(units, 'entryphone-station.service.wants'), { recursive: true });
      symlinkSync('../virtual-gpio.service', join(units, 'entryphone-station.service.wants/virtual-gpio.service'));
      const groupId = Number(/^gpio:[^:]*:(\d+):/m.exec(readFileSync(join(root, 'etc/group'), 'utf8'))?.[1]);
      board = await startVirtualBoard({ label: 'entryphone-virtual', groupId });
      const machine = new Machine(root, board);
      await machine.#booted();
      return machine;
    } catch (error) {
      await board?.stop();
      rmSync(root, { recursive: true, force: true });
      throw error;
    }
  }

  /** Runs a command in the machine, as its root. @returns what it wrote; its exit code beside */
  run(...command: string[]): { readonly status: number | null; readonly text: string } {
    // Nothing of this environment: tap's NODE_OPTIONS, for one, name files that aren't there.
    const { status, stdout, stderr } = spawnSync(
      'nsenter',
      [`--target=${this.#pid}`, '--mount', '--uts', '--ipc', '--net', '--pid', '--', ...CLEAN, ...command],
      { encoding: 'utf8', timeout: 30_000 },
    );
    return { status, text: `${stdout}${stderr}`.trim() };
  }

  /** Connects to a socket as the main process of a unit could, by its user and groups. @returns `open`, or why not: `EACCES` */
  opens(unit: string, path: string): string {
    const pid = this.run('systemctl', 'show', '-P', 'MainPID', unit).text;
    const status = this.run('cat', `/proc/${pid}/status`).text;
    const ids = (name: string) => new RegExp(`^${name}:\\s+(.*)$`, 'm').exec(status)?.[1]?.trim().split(/\s+/) ?? [];
    const groups = ids('Groups').join(',');
    const who = [
      `--reuid=${ids('Uid')[0]}`,
      `--regid=${ids('Gid')[0]}`,
      groups === '' ? '--clear-groups' : `--groups=${groups}`,
    ];
    return this.run('setpriv', ...who, '--', NODE, '-e', OPEN_SOCKET, path).text;
  }

  /** A page of an HTTP server of the machine. @returns its text; undefined where it doesn't answer with 200 */
  page(url: string): string | undefined {
    const { status, text } = this.run(NODE, '-e', FETCH, url);
    return status === 0 ? text : undefined;
  }

  /** A file of the running machine, seen from here: sockets too. */
  path(file: string): string {
    return join(`/proc/${this.#pid}/root`, file);
  }

  /** Powers it off, or ends it; takes away its root folder. */
  async stop(): Promise<void> {
    if (this.#nspawn.exitCode === null && this.#nspawn.signalCode === null) {
      this.run('systemctl', 'poweroff');
      const timer = setTimeout(() => this.#kill(), POWER_OFF_LIMIT_MS);
      await once(this.#nspawn, 'exit');
      clearTimeout(timer);
    }
    await this.board.stop();
    rmSync(this.root, { recursive: true, force: true });
  }

  async #booted(): Promise<void> {
    const untilMs = performance.now() + BOOT_LIMIT_MS;
    while (performance.now() < untilMs && this.#nspawn.exitCode === null) {
      this.#pid = this.#firstProcess() ?? 0;
      if (this.#pid > 0 && /running|degraded/.test(this.run('systemctl', 'is-system-running').text)) return;
      await new Promise((done) => setTimeout(done, 100));
    }
    const journal = this.#pid > 0 ? this.run('journalctl', '--no-pager', '-o', 'cat', '-n', '40').text : '';
    await this.#kill();
    throw new Error(`the machine does not boot: ${this.#said.join('').slice(-3_000)}\n${journal}`);
  }

  /** The end of its first process is the end of all of them; systemd-nspawn alone would leave them behind. */
  async #kill(): Promise<void> {
    if (this.#nspawn.exitCode !== null || this.#nspawn.signalCode !== null) return;
    const ended = once(this.#nspawn, 'exit');
    if (this.#pid > 0) process.kill(this.#pid, 'SIGKILL');
    else this.#nspawn.kill('SIGTERM');
    await ended;
  }

  /** The machine's systemd, by its number here: the one child of systemd-nspawn that became it. */
  #firstProcess(): number | undefined {
    const own = readdirSync(`/proc/${this.#nspawn.pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${this.#nspawn.pid}/task/${task}/children`, 'utf8').trim().split(' '),
    );
    return own.map(Number).find((pid) => {
      try {
        return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'systemd';
      } catch {
        return false;
      }
    });
  }
}
