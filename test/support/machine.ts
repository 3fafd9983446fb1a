/**
 * A Debian of its own, booted by systemd-nspawn with systemd as its first process: no network but its loopback, the checkout
 * at /opt/entryphone or a folder of the test elsewhere, the virtual GPIO chip of the test at /sys/class/gpio. Needs root, debootstrap
 * and systemd-container.
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
  statfsSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { startVirtualBoard, type VirtualBoard } from '../../src/lab/virtual-board.js';

const checkout = resolve(import.meta.dirname, '../../..');
const cache = join(checkout, '.toolchain/cache');
const PACKAGES = ['systemd-sysv', 'libasound2', 'mosquitto', 'util-linux'];
/** Where machines stand: in memory, where there is room. Power that is cut here leaves files as they were written, there as on a disk. */
const MEMORY = '/dev/shm';
const OURS = 'entryphone-machine-';
const MACHINE_BYTES = 4e9;
const BOOT_LIMIT_MS = 60_000;
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
function debian(packages: readonly string[]): string {
  const suite = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
  const root = join(cache, `debian-${suite}-${packages.join('-')}`);
  if (existsSync(root)) return root;
  mkdirSync(cache, { recursive: true });
  const making = mkdtempSync(join(cache, 'making-'));
  try {
    const include = `--include=${packages.join(',')}`;
    execFileSync('debootstrap', ['--variant=minbase', include, suite, making], { stdio: ['ignore', 'ignore', 'pipe'] });
    chmodSync(making, 0o755);
    renameSync(making, root);
  } finally {
    rmSync(making, { recursive: true, force: true });
  }
  return root;
}

/**
 * A new folder for what a test needs much room for; others may read it.
 * @returns one that the next test takes away if this one doesn't
 */
export function roomyFolder(): string {
  const { bavail, bsize } = existsSync(MEMORY) ? statfsSync(MEMORY) : { bavail: 0, bsize: 0 };
  const parent = bavail * bsize >= MACHINE_BYTES ? MEMORY : cache;
  mkdirSync(cache, { recursive: true });
  for (const place of [MEMORY, cache]) removeLeftovers(place);
  const folder = mkdtempSync(join(parent, `${OURS}${process.pid}-`));
  chmodSync(folder, 0o755);
  return folder;
}

/** Of tests that were killed. */
function removeLeftovers(place: string): void {
  for (const name of existsSync(place) ? readdirSync(place) : []) {
    const pid = name.startsWith(OURS) ? /^(\d+)-/.exec(name.slice(OURS.length))?.[1] : undefined;
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) rmSync(join(place, name), { recursive: true, force: true });
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
  readonly #bound: readonly string[];
  #nspawn: ChildProcess;
  readonly #said: string[] = [];
  #pid = 0;

  private constructor(root: string, board: VirtualBoard, bound: readonly string[]) {
    this.root = root;
    this.board = board;
    this.#bound = bound;
    this.#nspawn = this.#start();
  }

  /**
   * A fresh Debian with Entryphone installed into it by `prepare`, booted. Resolves when systemd answers.
   * @param prepare gets the folder of the root
   * @param options.bound folders of this machine, and where each is to be found, read-only, in that one
   * @param options.packages of Debian, beside those of every machine
   */
  static async boot(
    prepare: (root: string) => void,
    options: { readonly bound?: readonly string[]; readonly packages?: readonly string[] } = {},
  ): Promise<Machine> {
    const { bound = [`${checkout}:/opt/entryphone`], packages = [] } = options;
    const base = debian([...PACKAGES, ...packages]);
    const root = roomyFolder();
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
      const machine = new Machine(root, board, bound);
      await machine.#booted(/running|degraded/);
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

  /** The power goes: each process of it ends at once, and what was written to files is there. */
  async cutPower(): Promise<void> {
    await this.#kill();
    this.#pid = 0;
  }

  /** After the power was cut. Resolves when systemd answers, whatever is starting yet. */
  async powerOn(): Promise<void> {
    this.#nspawn = this.#start();
    await this.#booted(/starting|running|degraded/);
  }

  #start(): ChildProcess {
    const command = [
      ...['systemd-nspawn', '--quiet', '--register=no', '--keep-unit', '--boot', '--console=pipe', '--private-network'],
      ...[`--directory=${this.root}`, '--bind=/sys/class:/virtual/class'],
      ...this.#bound.map((folders) => `--bind-ro=${folders}`),
    ];
    // It ends with the test, however that ends.
    const [program = '', ...args] = this.board.wrap(['setpriv', '--pdeathsig', 'TERM', '--', ...command]);
    const nspawn = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [nspawn.stdout, nspawn.stderr]) {
      stream.on('data', (chunk: Buffer) => this.#said.push(chunk.toString()));
    }
    return nspawn;
  }

  async #booted(is: RegExp): Promise<void> {
    const untilMs = performance.now() + BOOT_LIMIT_MS;
    while (performance.now() < untilMs && this.#nspawn.exitCode === null) {
      this.#pid = this.#firstProcess() ?? 0;
      if (this.#pid > 0 && is.test(this.run('systemctl', 'is-system-running').text)) return;
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
