import { execFileSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '../src/core/errors.js';
import { Measured } from './children.js';

const LOOPBACK = '127.0.0.1';
const ANSWER_WITHIN_MS = 2_000;

/** What is missing on this machine of rtpengine and what it needs, unpacked and not installed: no service starts. */
function unpack(dir: string): { program: string; libraries: string } {
  mkdirSync(dir, { recursive: true });
  const plan = execFileSync('apt-get', ['install', '-s', '--no-install-recommends', 'rtpengine-daemon'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const packages = [...plan.matchAll(/^Inst (\S+)/gm)].map(([, name = '']) => name);
  if (packages.length === 0) return { program: 'rtpengine', libraries: '' };
  execFileSync('apt-get', ['download', ...packages], { cwd: dir, stdio: 'ignore' });
  const root = join(dir, 'root');
  for (const file of readdirSync(dir).filter((name) => name.endsWith('.deb'))) {
    execFileSync('dpkg', ['-x', join(dir, file), root], { stdio: 'ignore' });
  }
  const folders = readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.name.includes('.so'))
    .map((entry) => entry.parentPath);
  return { program: join(root, 'usr/bin/rtpengine'), libraries: [...new Set(folders)].join(':') };
}

/** rtpengine as a child, forwarding in user space, driven by its ng protocol (bencode over UDP). */
export class Rtpengine {
  readonly measured: Measured;
  readonly #control: Socket;
  readonly #port: number;
  #cookie = 0;

  private constructor(measured: Measured, control: Socket, port: number) {
    this.measured = measured;
    this.#control = control;
    this.#port = port;
  }

  /** @returns the text of why not, where it can't be had here */
  static async start(options: { dir: string; controlPort: number; firstPort: number }): Promise<Rtpengine | string> {
    const { dir, controlPort, firstPort } = options;
    try {
      const { program, libraries } = unpack(join(dir, 'rtpengine'));
      const measured = await Measured.start(
        'rtpengine',
        [
          program,
          '--foreground',
          '--log-stderr',
          '--table=-1',
          '--no-redis-required',
          `--pidfile=${join(dir, 'rtpengine.pid')}`,
          `--interface=${LOOPBACK}`,
          `--listen-ng=${LOOPBACK}:${controlPort}`,
          `--port-min=${firstPort}`,
          `--port-max=${firstPort + 999}`,
        ],
        { ...process.env, LD_LIBRARY_PATH: libraries },
        /Startup complete/,
      );
      const control = createSocket('udp4').bind(0, LOOPBACK);
      await once(control, 'listening');
      return new Rtpengine(measured, control, controlPort);
    } catch (error) {
      return errorText(error).slice(0, 300);
    }
  }

  /** Offer and answer of a call whose parties receive at `ports`. @returns where each of them sends to */
  async call(callId: string, ports: readonly [number, number]): Promise<[number, number]> {
    const [one, two] = ports;
    const common = { 'call-id': callId, 'from-tag': 'one', ICE: 'remove' };
    const toTwo = await this.#ask({ ...common, command: 'offer', sdp: sdpOf(one) });
    const toOne = await this.#ask({ ...common, command: 'answer', 'to-tag': 'two', sdp: sdpOf(two) });
    return [portOf(toOne), portOf(toTwo)];
  }

  async stop(): Promise<void> {
    this.#control.close();
    await this.measured.stop();
  }

  async #ask(command: Readonly<Record<string, string>>): Promise<string> {
    const body = Object.entries(command).map(([key, value]) => `${bencode(key)}${bencode(value)}`);
    this.#cookie += 1;
    this.#control.send(`${this.#cookie} d${body.join('')}e`, this.#port, LOOPBACK);
    const [answer] = (await once(this.#control, 'message', { signal: AbortSignal.timeout(ANSWER_WITHIN_MS) })) as [
      Buffer,
    ];
    return answer.toString('utf8');
  }
}

function bencode(text: string): string {
  return `${Buffer.byteLength(text)}:${text}`;
}

function sdpOf(port: number): string {
  const session = `v=0\r\no=- 1 1 IN IP4 ${LOOPBACK}\r\ns=-\r\nc=IN IP4 ${LOOPBACK}\r\nt=0 0\r\n`;
  return `${session}m=audio ${port} RTP/AVP 96\r\na=rtpmap:96 opus/48000/2\r\na=rtcp-mux\r\n`;
}

function portOf(answer: string): number {
  const port = Number(/m=audio (\d+)/.exec(answer)?.[1]);
  if (port > 0) return port;
  throw new Error(`rtpengine refused a call: ${answer.slice(0, 200)}`);
}
