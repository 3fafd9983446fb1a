import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { resolveChip } from '../src/adapters/gpio/chip.js';
import { type Board, boardSchema } from '../src/config/schema.js';
import { startVirtualBoard, type VirtualBoard } from '../src/lab/virtual-board.js';
import type { ProbeEvent, ProbeOrder } from './support/gpio-probe.js';

const compiled = resolve(import.meta.dirname, '..');
const bell = 4;
const relayLine = 17;
const ledLine = 23;

function profile(safe: 'high' | 'low' = 'low', chip = 'entryphone-virtual'): Board {
  return boardSchema.parse({
    gpio: {
      chip,
      buttons: { bell: { line: bell, pressed: 'high', debounceMs: 30 } },
      relay: { line: relayLine, wiring: safe === 'low' ? 'fail-secure' : 'fail-safe', safe },
      leds: { call: { line: ledLine, lit: 'high' } },
    },
  });
}

/** The other end of `gpio-probe`. */
class Probe {
  readonly child: ChildProcess;
  #events: ProbeEvent[] = [];
  #wake: () => void = () => {};

  constructor(t: Test, board: VirtualBoard, boardProfile: Board) {
    const program = join(compiled, 'test/support/gpio-probe.js');
    const [command = '', ...rest] = board.wrap([process.execPath, program, JSON.stringify(boardProfile)]);
    this.child = spawn(command, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.child.on('message', (event: ProbeEvent) => {
      this.#events.push(event);
      this.#wake();
    });
    t.teardown(() => this.child.kill('SIGKILL'));
  }

  order(order: ProbeOrder): void {
    this.child.send(order);
  }

  /** Events up to and with the first of this kind, taken out. */
  async until<Kind extends ProbeEvent['event']>(kind: Kind): Promise<ProbeEvent & { event: Kind }> {
    for (;;) {
      const found = this.#events.find((one) => one.event === kind);
      if (found !== undefined) {
        this.#events = this.#events.filter((one) => one !== found);
        return found as ProbeEvent & { event: Kind };
      }
      await new Promise<void>((woken) => {
        this.#wake = woken;
      });
    }
  }

  /** What has come and was not waited for. */
  get rest(): readonly ProbeEvent[] {
    return this.#events;
  }

  async ended(signal?: NodeJS.Signals): Promise<void> {
    const exit = once(this.child, 'exit');
    if (signal === undefined) this.order({ do: 'close' });
    else this.child.kill(signal);
    await exit;
  }
}

async function boardFor(
  t: Test,
  options: Partial<Parameters<typeof startVirtualBoard>[0]> = {},
): Promise<VirtualBoard> {
  const board = await startVirtualBoard({ label: 'entryphone-virtual', ...options });
  t.teardown(() => board.stop());
  return board;
}

/** The changes of a line from now on. */
function record(board: VirtualBoard, line: number): { level: 0 | 1; atMs: number }[] {
  const changes: { level: 0 | 1; atMs: number }[] = [];
  board.onLevel((changed, level, atMs) => changed === line && changes.push({ level, atMs }));
  return changes;
}

test('buttons: pressed, bouncing, held at the start; the chip is found by its label', async (t) => {
  const board = await boardFor(t, { label: 'other-chip', others: [{ label: 'entryphone-virtual', base: 544 }] });
  const line = 544 - 512 + bell; // a VirtualBoard counts from the first chip's first line
  board.drive(line, 1);
  await board.reached(line, 1);
  const probe = new Probe(t, board, profile());
  await probe.until('ready');
  probe.order({ do: 'faults' });
  t.match(await probe.until('faults'), { bell: null, relay: null });
  const bounceTo = async (level: 0 | 1): Promise<void> => {
    for (let i = 0; i < 21; i++) board.drive(line, i % 2 === 0 ? level : level === 1 ? 0 : 1);
    await new Promise((done) => setTimeout(done, 300)); // how long the contact stays so
  };
  await bounceTo(0);
  t.same(probe.rest, [], 'held at the start, then let go: no press');
  for (const round of [1, 2]) {
    await bounceTo(1);
    await probe.until('pressed');
    await bounceTo(0);
    probe.order({ do: 'faults' });
    await probe.until('faults');
    t.same(probe.rest, [], `one press of a bouncing contact (${round})`);
  }
  await board.press(line, 300);
  await probe.until('pressed');
  await bounceTo(0);
  probe.order({ do: 'stall', forMs: 400 });
  await probe.until('stalls');
  await board.press(line, 50);
  await probe.until('pressed');
  probe.order({ do: 'faults' });
  await probe.until('faults');
  t.same(probe.rest, [], 'a press that came and went while the process stood still, once');
  await probe.ended();
});

test('a chip that is not there is named, with those that are', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'gpio-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  t.throws(() => resolveChip('nowhere', folder), { code: 'chip-absent', message: /shows none/ });
  const board = await boardFor(t);
  const probe = new Probe(t, board, profile('low', 'elsewhere'));
  await probe.until('ready');
  probe.order({ do: 'pulse', pulseMs: 100 });
  t.equal((await probe.until('refused')).code, 'chip-absent');
  await probe.ended();
  const said = await relaySafe(board, profile('low', 'elsewhere'));
  t.equal(said.code, 1);
  t.match(said.text, /elsewhere.*there are entryphone-virtual/);
});

for (const safe of ['low', 'high'] as const) {
  test(`a door whose safe level is ${safe}: pulse, sudden death, relay-safe`, async (t) => {
    const shut = safe === 'high' ? 1 : 0;
    const opened = shut === 1 ? 0 : 1;
    const board = await boardFor(t);
    board.drive(relayLine, shut); // the resistor that holds the line before anybody drives it
    await board.reached(relayLine, shut);
    const changes = record(board, relayLine);
    const first = new Probe(t, board, profile(safe));
    await first.until('ready');
    t.same(changes, [], 'opening the line moves nothing');

    first.order({ do: 'pulse', pulseMs: 400 });
    const openedAtMs = await board.reached(relayLine, opened);
    const shutAtMs = await board.reached(relayLine, shut);
    const lengthMs = shutAtMs - openedAtMs;
    t.ok(lengthMs > 395 && lengthMs < 2_000, `400 ms took ${lengthMs.toFixed(1)} ms at the pin`);
    t.equal(changes.length, 2);

    for (const pulseMs of [600, 590, 580]) first.order({ do: 'pulse', pulseMs });
    const againMs = -(await board.reached(relayLine, opened)) + (await board.reached(relayLine, shut));
    t.ok(againMs > 595 && againMs < 1_700, `the longest of three pulses, not their sum: ${againMs.toFixed(1)} ms`);
    t.equal(changes.length, 4, 'in one opening');

    first.order({ do: 'pulse', pulseMs: 60_000 });
    await board.reached(relayLine, opened);
    await first.ended('SIGKILL');
    t.equal(board.level(relayLine), opened, 'the level outlives its writer');
    const said = await relaySafe(board, profile(safe));
    t.match(said.text, new RegExp(`line 17 of entryphone-virtual is ${safe}`));
    t.equal(said.code, 0);
    await board.reached(relayLine, shut);
    t.match(await relaySafe(board, profile(safe)), { code: 0 }, 'again: nothing to do is no fault');

    const second = new Probe(t, board, profile(safe));
    await second.until('ready');
    t.equal(changes.length, 6, 'nor does taking over an exported line');
    second.order({ do: 'pulse', pulseMs: 60_000 });
    second.order({ do: 'light', on: true });
    await board.reached(ledLine, 1);
    t.equal(board.level(relayLine), opened);
    await second.ended();
    await board.reached(relayLine, shut);
    t.equal(board.level(ledLine), 0, 'an orderly end shuts the door and puts out the light');
  });
}

test('a contact moves with the relay, sticks, and is missed', async (t) => {
  const board = await boardFor(t);
  const contactLine = 6;
  board.follow(contactLine, relayLine);
  const withContact = { gpio: { ...profile().gpio, contact: { line: contactLine, closed: 'low' as const } } };
  const probe = new Probe(t, board, withContact);
  await probe.until('ready');
  const closed = async (): Promise<boolean | null> => {
    probe.order({ do: 'contact' });
    return (await probe.until('contact')).closed;
  };
  t.equal(await closed(), true);
  probe.order({ do: 'pulse', pulseMs: 300 });
  await board.reached(contactLine, 1);
  t.equal(await closed(), false, 'the other way round than the relay, as the profile says');
  await board.reached(contactLine, 0);
  t.equal(await closed(), true);
  board.follow(contactLine, null);
  probe.order({ do: 'pulse', pulseMs: 100 });
  await board.reached(relayLine, 1);
  await board.reached(relayLine, 0);
  t.equal(board.level(contactLine), 0, 'it stuck');
  board.hold(contactLine, true); // unexported under the probe
  probe.order({ do: 'contact' });
  t.match(await probe.until('contact'), { closed: null, fault: 'pin-taken' });
  await probe.ended();
});

test('a pin that another holds is waited for; the others work', async (t) => {
  const board = await boardFor(t);
  board.hold(relayLine, true);
  const probe = new Probe(t, board, profile());
  await probe.until('ready');
  probe.order({ do: 'pulse', pulseMs: 100 });
  t.equal((await probe.until('refused')).code, 'pin-taken');
  const said = await relaySafe(board, profile());
  t.equal(said.code, 1);
  t.match(said.text, /held by another driver or program\. .*free it/);
  board.drive(bell, 1);
  await probe.until('pressed');
  board.drive(bell, 0);
  board.hold(relayLine, false);
  for (;;) {
    probe.order({ do: 'faults' });
    if ((await probe.until('faults')).relay === null) break;
    await new Promise((done) => setTimeout(done, 50));
  }
  probe.order({ do: 'pulse', pulseMs: 100 });
  await board.reached(relayLine, 1);

  board.hold(bell, true); // taken away from a program that watches it
  for (;;) {
    probe.order({ do: 'faults' });
    if ((await probe.until('faults')).bell === 'pin-taken') break;
    await new Promise((done) => setTimeout(done, 50));
  }
  await probe.ended();
});

test('two boards at once know nothing of each other', async (t) => {
  const [one, two] = await Promise.all([boardFor(t), boardFor(t)]);
  const [first, second] = [new Probe(t, one, profile()), new Probe(t, two, profile())];
  await Promise.all([first.until('ready'), second.until('ready')]);
  one.drive(bell, 1);
  await first.until('pressed');
  second.order({ do: 'pulse', pulseMs: 60_000 });
  await two.reached(relayLine, 1);
  t.equal(one.level(relayLine), 0);
  t.equal(two.level(bell), 0);
  t.ok(second.rest.every((event) => event.event !== 'pressed'));
  await Promise.all([first.ended(), second.ended()]);
});

test('a virtual board ends with the process that started it, not with a signal to all its group', async (t) => {
  const script = `import { startVirtualBoard } from ${JSON.stringify(join(compiled, 'src/lab/virtual-board.js'))};
    const board = await startVirtualBoard({ label: 'short-lived' });
    process.on('SIGTERM', () => {
      board.drive(4, 1);
      board.reached(4, 1).then(() => console.log('there'), (error) => console.log(error.message));
    });
    console.log(board.pid);
    setInterval(() => {}, 1000);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  });
  t.teardown(() => parent.kill('SIGKILL'));
  const [chunk] = (await once(parent.stdout, 'data')) as [Buffer];
  const pid = Number(chunk.toString());
  t.ok(runs(pid));
  process.kill(-(parent.pid ?? 0), 'SIGTERM');
  const [answer] = (await once(parent.stdout, 'data')) as [Buffer];
  t.equal(answer.toString().trim(), 'there');
  parent.kill('SIGKILL');
  while (runs(pid)) await new Promise((done) => setTimeout(done, 20));
  t.notOk(runs(pid));
});

/** Neither gone nor a zombie that nobody has waited for. */
function runs(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

/** Runs `relay-safe` on the board, with a configuration that is faulty but for the name of the board profile. */
async function relaySafe(board: VirtualBoard, boardProfile: Board): Promise<{ code: number | null; text: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'relay-safe-'));
  try {
    writeFileSync(join(folder, 'board.yaml'), JSON.stringify({ ...boardProfile, unknown: true }));
    writeFileSync(join(folder, 'station.yaml'), 'board: board.yaml\nstation: 5\nrtp: {address: [unclosed\n');
    const [command = '', ...rest] = board.wrap([
      process.execPath,
      join(compiled, 'src/bin/relay-safe.js'),
      '--config',
      join(folder, 'station.yaml'),
    ]);
    const child = spawn(command, rest, { stdio: ['ignore', 'inherit', 'pipe'] });
    let text = '';
    child.stderr.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    const [code] = (await once(child, 'close')) as [number | null];
    return { code, text };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
