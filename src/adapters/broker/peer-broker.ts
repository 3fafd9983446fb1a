import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { type ConnectionOptions, connect } from 'node:tls';
import type { Clock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import { type BrokerUser, natsConfig, type PeerKind, rabbitConfig, rabbitDefinitions } from './peer-config.js';
import type { CredentialFiles } from './site-broker.js';

export interface PeerBrokerOptions {
  readonly kind: PeerKind;
  /** Folder of its own. */
  readonly dir: string;
  /** Of 127.0.0.1: MQTT's, and two more that its own parts talk by. */
  readonly ports: { readonly mqtt: number; readonly own: number; readonly other: number };
  readonly users: readonly BrokerUser[];
  /** The listener's certificate. */
  readonly server: CredentialFiles;
  /** Of one of the users: used to see whether the listener is ready. */
  readonly probe: CredentialFiles;
  readonly clock: Clock;
}

/** RabbitMQ takes ten seconds on a good day. */
const READY_WITHIN_MS = 120_000;
const PROBE_EVERY_MS = 100;
const KILL_AFTER_MS = 10_000;
const MOST_LAST_WORDS = 2_000;

/** NATS or RabbitMQ as a child, for the lab and for tests; it never outlives us. Its folder is kept over `restart()`. */
export class PeerBroker {
  readonly #options: PeerBrokerOptions;
  #children: ChildProcess[] = [];
  #lastWords = '';

  private constructor(options: PeerBrokerOptions) {
    this.#options = options;
  }

  /** Resolves when it shakes hands. @throws AppError `broker-missing`, `broker-ended`, `broker-not-ready` */
  static async start(options: PeerBrokerOptions): Promise<PeerBroker> {
    const broker = new PeerBroker({ ...options, dir: resolve(options.dir) });
    await broker.#start();
    return broker;
  }

  /** SIGTERM, then SIGKILL; nothing of it is left. */
  async stop(): Promise<void> {
    // Who was started last is ended first.
    for (const child of this.#children.reverse()) await this.#end(child, 'SIGTERM');
    this.#children = [];
  }

  /** As a power cut: SIGKILL, and a new start with what is on its disk. */
  async restart(): Promise<void> {
    for (const child of this.#children.reverse()) await this.#end(child, 'SIGKILL');
    this.#children = [];
    await this.#start();
  }

  async #start(): Promise<void> {
    mkdirSync(this.#options.dir, { recursive: true, mode: 0o700 });
    if (this.#options.kind === 'nats') this.#nats();
    else this.#rabbit();
    try {
      await this.#ready();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  #nats(): void {
    const { dir, ports, users, server } = this.#options;
    const config = join(dir, 'nats.conf');
    writeFileSync(config, natsConfig(ports, { dir, ...server }, users), { mode: 0o600 });
    this.#spawn(programOf('nats-server', ['/usr/sbin']), ['-c', config], {});
  }

  #rabbit(): void {
    const { dir, ports, users, server } = this.#options;
    writeFileSync(join(dir, 'rabbitmq.conf'), rabbitConfig(ports.mqtt, { dir, ...server }), { mode: 0o600 });
    writeFileSync(join(dir, 'definitions.json'), rabbitDefinitions(users), { mode: 0o600 });
    writeFileSync(join(dir, 'enabled_plugins'), '[rabbitmq_mqtt].\n');
    const env = {
      HOME: dir,
      RABBITMQ_NODENAME: `entryphone${ports.mqtt}@localhost`,
      RABBITMQ_CONFIG_FILE: join(dir, 'rabbitmq.conf'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(dir, 'enabled_plugins'),
      RABBITMQ_MNESIA_BASE: join(dir, 'mnesia'),
      RABBITMQ_LOG_BASE: join(dir, 'log'),
      RABBITMQ_PID_FILE: join(dir, 'pid'),
      RABBITMQ_CONF_ENV_FILE: '/dev/null',
      // Its script becomes Erlang instead of watching over it: what ends it is we.
      RUNNING_UNDER_SYSTEMD: 'true',
      RABBITMQ_GENERATED_CONFIG_DIR: join(dir, 'config'),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(dir, 'advanced.config'),
      RABBITMQ_DIST_PORT: String(ports.own),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
      ERL_EPMD_PORT: String(ports.other),
      ERL_EPMD_ADDRESS: '127.0.0.1',
    };
    // Erlang would leave a daemon of it behind.
    this.#spawn(programOf('epmd', ['/usr/bin']), ['-port', String(ports.other), '-address', '127.0.0.1'], env);
    this.#spawn(programOf('rabbitmq-server', ['/usr/lib/rabbitmq/bin']), [], env);
  }

  #spawn(program: string, args: readonly string[], env: NodeJS.ProcessEnv): void {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--no-new-privs', '--', program, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
      // A group of its own: RabbitMQ has helpers.
      detached: true,
    });
    const note = (chunk: Buffer): void => {
      this.#lastWords = (this.#lastWords + chunk.toString('utf8')).slice(-MOST_LAST_WORDS);
    };
    child.stdout?.on('data', note);
    child.stderr?.on('data', note);
    child.on('error', (error) => note(Buffer.from(error.message)));
    this.#children.push(child);
  }

  async #ready(): Promise<void> {
    const { clock, kind, ports, probe } = this.#options;
    const pem = { ca: await readFile(probe.ca), cert: await readFile(probe.cert), key: await readFile(probe.key) };
    const endMs = clock.nowMs() + READY_WITHIN_MS;
    while (clock.nowMs() < endMs) {
      if (this.#children.some(hasEnded)) throw new AppError('broker-ended', `${kind} ended: ${this.#lastWords}`);
      if (await shakesHands({ host: '127.0.0.1', port: ports.mqtt, ...pem })) return;
      await new Promise<void>((resolve) => clock.after(PROBE_EVERY_MS, resolve));
    }
    throw new AppError('broker-not-ready', `${kind} does not answer at 127.0.0.1:${ports.mqtt}: ${this.#lastWords}`);
  }

  async #end(child: ChildProcess, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    if (child.pid === undefined) return;
    const { pid } = child;
    const ended = new Promise<void>((resolve) => (hasEnded(child) ? resolve() : child.once('exit', () => resolve())));
    // Of a group whose leader is gone there may be somebody left.
    const tell = (how: NodeJS.Signals): void => {
      try {
        process.kill(-pid, how);
      } catch {
        // Nobody is.
      }
    };
    tell(signal);
    const kill = this.#options.clock.after(KILL_AFTER_MS, () => tell('SIGKILL'));
    await ended;
    kill.cancel();
    tell('SIGKILL');
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function shakesHands(options: ConnectionOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ ...options, timeout: 2_000 });
    const done = (open: boolean): void => {
      socket.destroy();
      resolve(open);
    };
    socket.once('secureConnect', () => done(true));
    socket.on('error', () => done(false));
    socket.once('timeout', () => done(false));
  });
}

/** @param folders where Debian has it; of RabbitMQ's program the one that starts it as who we are, not as its own user */
function programOf(name: string, folders: readonly string[]): string {
  const program = [...folders, ...(process.env.PATH ?? '').split(delimiter)]
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
  if (program !== undefined) return program;
  throw new AppError('broker-missing', `The program ${name} is not installed`, {
    remedy: 'Run `sh setup/setup.sh peers`.',
  });
}
