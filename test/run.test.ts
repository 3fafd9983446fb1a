import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type Test, test } from 'tap';
import { freePort } from './support/site.js';

const program = resolve(import.meta.dirname, '../src/bin/entryphone.js');

/** `entryphone run` in a process group and a folder of its own, as a terminal has it. */
class Run {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  readonly #runtimeDir: string;
  #wake: () => void = () => {};

  static async start(t: Test, dir: string): Promise<Run> {
    return new Run(t, dir, await freePort());
  }

  private constructor(t: Test, dir: string, port: number) {
    this.#runtimeDir = join(dir, 'run');
    this.child = spawn(
      process.execPath,
      [program, 'run', '--no-flows', '--dir', join(dir, 'site'), '--port', String(port)],
      { env: { ...process.env, XDG_RUNTIME_DIR: this.#runtimeDir }, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
    );
    t.teardown(() => this.child.kill('SIGKILL'));
    for (const input of [this.child.stdout, this.child.stderr]) {
      if (input !== null) createInterface({ input }).on('line', (line) => this.#heard(line));
    }
    this.child.once('exit', () => this.#wake());
  }

  async says(what: string): Promise<void> {
    while (!this.lines.some((line) => line.includes(what))) {
      if (this.child.exitCode !== null) throw new Error(`ended before it said: ${what}\n${this.lines.join('\n')}`);
      await new Promise<void>((woken) => {
        this.#wake = woken;
      });
    }
  }

  /** Ctrl-C. */
  async interrupted(): Promise<{ code: number | null; tookMs: number; left: string[] }> {
    const sinceMs = performance.now();
    const exit = once(this.child, 'exit');
    process.kill(-(this.child.pid ?? 0), 'SIGINT');
    const [code] = (await exit) as [number | null];
    const tookMs = performance.now() - sinceMs;
    const files = existsSync(this.#runtimeDir) ? readdirSync(this.#runtimeDir) : [];
    return { code, tookMs, left: [...files, ...processesThatName(this.#runtimeDir)] };
  }

  #heard(line: string): void {
    this.lines.push(line);
    this.#wake();
  }
}

/** Command lines of live processes in whose arguments or environment the folder stands. */
function processesThatName(dir: string): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^[0-9]+$/.test(pid) && Number(pid) !== process.pid)
    .flatMap((pid) => {
      try {
        const [command = '', environment] = ['cmdline', 'environ'].map((file) =>
          readFileSync(`/proc/${pid}/${file}`, 'utf8'),
        );
        return `${command}${environment}`.includes(dir) ? [command.replaceAll('\0', ' ')] : [];
      } catch {
        return []; // it has ended
      }
    });
}

test('a folder that is none is named, with what to do', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-run-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'a-file');
  writeFileSync(file, 'mine');
  for (const place of [file, join(file, 'below'), '/proc/below', '/proc/below/that']) {
    const run = spawnSync(process.execPath, [program, 'run', '--dir', place], {
      encoding: 'utf8',
      env: { ...process.env, XDG_RUNTIME_DIR: dir },
    });
    t.equal(run.status, 2, place);
    t.match(run.stderr, / can't be used as a folder \((ENOENT|ENOTDIR)\)[\s\S]*Name another folder/);
  }
  t.equal(readFileSync(file, 'utf8'), 'mine');
  t.end();
});

test('Ctrl-C ends a site at once, while it starts too, and a start right after works', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-run-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  for (const moment of ['virtual sound card', 'the media processes', 'ready: ']) {
    const run = await Run.start(t, dir);
    await run.says(moment);
    const { code, tookMs, left } = await run.interrupted();
    t.equal(code, 0, moment);
    t.comment(`${moment}: ended in ${Math.round(tookMs)} ms`);
    t.same(left, [], 'nothing is left');
    if (moment !== 'ready: ') {
      t.notOk(
        run.lines.some((line) => line.startsWith('ready')),
        'the start was given up',
      );
      continue;
    }
    t.same(
      run.lines.filter((line) => /could not be made safe|can't be used/.test(line)),
      [],
      'boards and cards were there to the end',
    );
  }
});
