import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { connect } from 'node:tls';
import type { Clock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { RateLimit } from '../../core/rate-limit.js';

const READY_WITHIN_MS = 10_000;
const PROBE_EVERY_MS = 25;
const KILL_AFTER_MS = 700;

export interface MosquittoOptions {
  readonly configPath: string;
  readonly listen: { readonly address: string; readonly port: number };
  /** PEM: what the listener must show, and a client that it lets in. */
  readonly probe: { readonly ca: Buffer; readonly cert: Buffer; readonly key: Buffer };
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One run of mosquitto, from its start until its exit. It never outlives us. */
export class MosquittoProcess {
  readonly #child: ChildProcess;
  readonly #options: MosquittoOptions;
  readonly #lastWords: string[] = [];
  /** Resolves with what made it end. */
  readonly exited: Promise<AppError>;
  #running = true;
  /** It said itself that it runs: another broker at a taken port would shake hands too. */
  #announced = false;

  constructor(options: MosquittoOptions) {
    this.#options = options;
    const program = findMosquitto();
    // Node's child ends with Node whatever happens to Node; under root it gives up all that root may do.
    const bounds = process.getuid?.() === 0 ? ['--bounding-set', '-all', '--inh-caps', '-all'] : [];
    this.#child = spawn(
      'setpriv',
      ['--pdeathsig', 'TERM', '--no-new-privs', ...bounds, '--', program, '-c', options.configPath],
      { stdio: ['ignore', 'ignore', 'pipe'] },
    );
    this.#relayLog();
    this.exited = new Promise((resolve) => {
      let spawnFault: Error | undefined;
      this.#child.once('error', (error) => {
        spawnFault = error;
        if (this.#child.pid === undefined) this.#child.emit('close', null, null);
      });
      this.#child.once('close', (code, signal) => {
        this.#running = false;
        resolve(this.#exitFault(spawnFault?.message ?? signal ?? `status ${code}`));
      });
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves when the listener shakes hands. @throws AppError as `exited` gives it, or `broker-not-ready` */
  async ready(): Promise<void> {
    const { clock, listen } = this.#options;
    const endMs = clock.nowMs() + READY_WITHIN_MS;
    let fault: AppError | undefined;
    void this.exited.then((error) => {
      fault = error;
    });
    while (clock.nowMs() < endMs) {
      const open = this.#announced && (await this.#handshakes());
      if (fault !== undefined) throw fault;
      if (open) return;
      await new Promise<void>((resolve) => clock.after(PROBE_EVERY_MS, resolve));
    }
    throw new AppError('broker-not-ready', `The broker does not answer at ${listen.address}:${listen.port}`, {
      remedy: 'See its lines in the log.',
    });
  }

  /** SIGTERM (it saves its database), then SIGKILL after 0.7 s. */
  async stop(): Promise<void> {
    if (!this.#running) return;
    this.#child.kill('SIGTERM');
    const kill = this.#options.clock.after(KILL_AFTER_MS, () => this.#child.kill('SIGKILL'));
    await this.exited;
    kill.cancel();
  }

  #handshakes(): Promise<boolean> {
    const { address, port } = this.#options.listen;
    const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address;
    return new Promise((resolve) => {
      const socket = connect({ host, port, ...this.#options.probe, timeout: 1_000 });
      const done = (open: boolean): void => {
        socket.end();
        resolve(open);
      };
      socket.once('secureConnect', () => done(true));
      socket.on('error', () => done(false));
      socket.once('timeout', () => {
        socket.destroy();
        done(false);
      });
    });
  }

  #relayLog(): void {
    const { clock, logger } = this.#options;
    const rate = new RateLimit({ most: 20, perMs: 10_000, clock });
    if (this.#child.stderr === null) return;
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      if (/^mosquitto version .* running/.test(line)) this.#announced = true;
      if (line.startsWith('Error')) this.#lastWords.push(line.slice(0, 300));
      if (this.#lastWords.length > 5) this.#lastWords.shift();
      const held = rate.admit();
      if (held !== undefined) logger.debug(held > 0 ? { held } : {}, line.slice(0, 300));
    });
  }

  #exitFault(how: string): AppError {
    const { address, port } = this.#options.listen;
    const words = this.#lastWords.join('; ');
    if (/address already in use/i.test(words)) {
      return new AppError('port-taken', `The broker's port ${address}:${port} is taken by another program`, {
        remedy: `Find it with "ss -tlnp 'sport = :${port}'" and end it, or set another siteHost.listen.port.`,
      });
    }
    if (/cannot assign requested address/i.test(words)) {
      return new AppError('address-absent', `This machine does not have the address ${address} (yet)`, {
        remedy: 'Check siteHost.listen.address.',
      });
    }
    if (/persistent database|persistence file|restoring/i.test(words)) {
      return new AppError('broker-store-damaged', `The broker can't read its database: ${words}`);
    }
    return new AppError('broker-ended', `The broker ended (${how})${words === '' ? '' : `: ${words}`}`, {
      remedy: 'It is started again; see its lines in the log.',
    });
  }
}

function findMosquitto(): string {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'];
  const program = folders.map((folder) => join(folder, 'mosquitto')).find((path) => existsSync(path));
  if (program !== undefined) return program;
  throw new AppError('broker-missing', 'The program mosquitto is not installed', { remedy: 'Run `make setup`.' });
}
