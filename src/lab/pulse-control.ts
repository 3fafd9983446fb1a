import type { ChildProcess } from 'node:child_process';
import { createConnection } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

const ANSWER_TIMEOUT_MS = 2_000;

/** The command line of a running PulseAudio daemon (module-cli-protocol-unix, pulse-cli-syntax(5)). */
export class PulseControl {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Resolves as soon as the daemon answers. @throws Error if it ends or does not come in time */
  static async connect(path: string, daemon: ChildProcess, timeoutMs: number): Promise<PulseControl> {
    const control = new PulseControl(path);
    const untilMs = performance.now() + timeoutMs;
    for (;;) {
      const listed = await control.#run(['list-modules']).catch(() => '');
      if (listed !== '') return control;
      if (daemon.pid === undefined || daemon.exitCode !== null || daemon.signalCode !== null) {
        throw new Error('pulseaudio ended as it started');
      }
      if (performance.now() > untilMs) throw new Error('pulseaudio does not listen');
      await pause(10);
    }
  }

  /** Cuts off whoever uses a source or sink, and takes it away. Unloading alone would move its users to another one. */
  async remove(kind: 'source' | 'sink', name: string): Promise<void> {
    const streams = kind === 'source' ? 'source-output' : 'sink-input';
    const users = items(await this.#run([`list-${streams}s`])).filter((item) => item.includes(`<${name}>`));
    await this.#run([
      ...users.map((item) => `kill-${streams} ${Number.parseInt(item, 10)}`),
      ...(await this.#modulesOf(kind, name)).map((item) => `unload-module ${Number.parseInt(item, 10)}`),
    ]);
  }

  /** Brings a source or sink back: resumed if it is there, else by loading its module anew. */
  async restore(kind: 'source' | 'sink', name: string, module: string): Promise<void> {
    const there = (await this.#modulesOf(kind, name)).length > 0;
    await this.#run([there ? `suspend-${kind} ${name} 0` : `load-module ${module}`]);
  }

  /** What a sink plays goes into another as well, so many dB louder (or, below 0, less loud). */
  async join(from: string, to: string, gainDb: number): Promise<void> {
    // Rates are left alone: both sinks have the server's own clock.
    const how = 'source_dont_move=1 sink_dont_move=1 adjust_time=0 latency_msec=20';
    await this.#run([`load-module module-loopback source=${from}.monitor sink=${to} ${how}`]);
    const streams = items(await this.#run(['list-sink-inputs']));
    const own = streams.filter((item) => item.includes('module-loopback') && item.includes(`<${to}>`));
    // PulseAudio's volumes are cubes (pa_sw_volume_from_linear).
    const volume = Math.round(65_536 * Math.cbrt(10 ** (gainDb / 20)));
    await this.#run(own.map((item) => `set-sink-input-volume ${Number.parseInt(item, 10)} ${volume}`));
  }

  async part(from: string): Promise<void> {
    const loops = items(await this.#run(['list-modules'])).filter(
      (item) => item.includes('<module-loopback>') && item.includes(`source=${from}.monitor `),
    );
    await this.#run(loops.map((item) => `unload-module ${Number.parseInt(item, 10)}`));
  }

  async suspend(kind: 'source' | 'sink', name: string): Promise<void> {
    await this.#run([`suspend-${kind} ${name} 1`]);
  }

  async #modulesOf(kind: 'source' | 'sink', name: string): Promise<string[]> {
    return items(await this.#run(['list-modules'])).filter((item) => item.includes(`${kind}_name=${name} `));
  }

  /** Commands and what they print; the daemon closes the connection when it has done the last one. */
  #run(commands: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      let printed = '';
      const socket = createConnection({ path: this.#path, timeout: ANSWER_TIMEOUT_MS });
      socket.setEncoding('utf8').on('data', (text: string) => {
        printed += text;
      });
      socket.on('error', reject).on('timeout', () => socket.destroy(new Error('pulseaudio does not answer')));
      socket.on('close', () => resolve(printed));
      socket.end(`${commands.join('\n')}\n`);
    });
  }
}

/** The entries of a `list-…` answer; each begins with its index. */
function items(listing: string): string[] {
  return listing.split(/^\s*\*?\s*index: /m).slice(1);
}
