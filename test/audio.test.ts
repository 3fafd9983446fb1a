import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { AlsaMicrophone } from '../src/adapters/alsa/alsa-microphone.js';
import { AlsaSpeaker } from '../src/adapters/alsa/alsa-speaker.js';
import { listCards } from '../src/adapters/alsa/list-cards.js';
import { native } from '../src/adapters/alsa/native.js';
import { NativeMicrophone } from '../src/adapters/alsa/native-microphone.js';
import type { AudioFrame, RateHz } from '../src/audio/frame.js';
import type { AudioSource, CardState } from '../src/audio/ports.js';
import { systemClock as clock } from '../src/core/clock.js';
import { silentLogger as logger } from '../src/core/logger.js';
import { startVirtualSound } from '../src/lab/virtual-sound.js';

const rateHz: RateHz = 16_000;
const PATIENCE_MS = 15_000;

/** Lets a test await what a card does, event by event. */
class Watcher {
  readonly states: CardState[] = [];
  #waiting: (() => void)[] = [];

  readonly stateChanged = (state: CardState) => {
    this.states.push(state);
    this.happened();
  };

  happened(): void {
    for (const look of this.#waiting) look();
  }

  get downs(): string[] {
    return this.states.flatMap((state) => (state.state === 'down' ? [state.fault.code] : []));
  }

  until(what: string, holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        this.#waiting = this.#waiting.filter((other) => other !== look);
      };
      const timer = setTimeout(() => {
        stop();
        reject(new Error(`waited in vain until ${what}; states: ${JSON.stringify(this.states)}`));
      }, PATIENCE_MS);
      const look = () => {
        if (!holds()) return;
        stop();
        resolve();
      };
      this.#waiting.push(look);
      look();
    });
  }
}

class Ear extends Watcher {
  readonly microphone: AudioSource;
  frames = 0;
  longestGapMs = 0;
  #lastMs = Number.NaN;
  badFrames = 0;
  readonly #recent: Int16Array[] = [];

  constructor(device: string, Driver: typeof NativeMicrophone | typeof AlsaMicrophone = NativeMicrophone) {
    super();
    this.microphone = new Driver({ device, rateHz, clock, logger });
  }

  readonly frame = (frame: AudioFrame) => {
    if (frame.samples.length !== rateHz / 100 || frame.rateHz !== rateHz) this.badFrames++;
    const gapMs = frame.capturedAtMs - this.#lastMs - 10;
    if (gapMs > this.longestGapMs) this.longestGapMs = gapMs;
    this.#lastMs = frame.capturedAtMs;
    this.#recent.push(frame.samples.slice());
    if (this.#recent.length > 20) this.#recent.shift();
    this.frames++;
    this.happened();
  };

  open(): this {
    this.microphone.open(this);
    return this;
  }

  /** How much of the last 200 ms is this tone: 0 … 1. */
  purity(toneHz: number): number {
    const samples = this.#recent.flatMap((frame) => [...frame]);
    let [re, im, power] = [0, 0, 1];
    for (const [i, sample] of samples.entries()) {
      const phase = (2 * Math.PI * toneHz * i) / rateHz;
      re += sample * Math.cos(phase);
      im += sample * Math.sin(phase);
      power += sample * sample;
    }
    return (2 * (re * re + im * im)) / (samples.length * power);
  }

  hears(toneHz: number): Promise<void> {
    return this.until(`${toneHz} Hz is heard`, () => this.#recent.length === 20 && this.purity(toneHz) > 0.9);
  }

  hearsAgain(): Promise<void> {
    const before = this.frames;
    return this.until('frames come again', () => this.frames > before + 10);
  }
}

class Mouth extends Watcher {
  readonly speaker: AlsaSpeaker;
  readonly #toneHz: number;
  #at = 0;
  pulls = 0;

  constructor(device: string, toneHz: number) {
    super();
    this.speaker = new AlsaSpeaker({ device, rateHz, clock, logger });
    this.#toneHz = toneHz;
  }

  readonly pull = () => {
    this.pulls++;
    this.happened();
    return Int16Array.from({ length: rateHz / 100 }, () =>
      Math.round(8_000 * Math.sin((2 * Math.PI * this.#toneHz * this.#at++) / rateHz)),
    );
  };

  open(): this {
    this.speaker.open(this);
    return this;
  }
}

const dir = await mkdtemp(join(tmpdir(), 'entryphone-audio-'));
const sound = await startVirtualSound({ dir, stations: ['door', 'indoor'] });
Object.assign(process.env, sound.env);
// A card without 16-bit samples.
const alsaConfiguration = join(dir, 'asound.conf');
await appendFile(alsaConfiguration, 'pcm.float-only { type lfloat slave { pcm "null" format S16_LE } }\n');
const door = sound.devices('door');
const indoor = sound.devices('indoor');

test('cards: what goes in comes out, on each station its own', async (t) => {
  const mouths = [
    new Mouth(door.speaker, 440).open(),
    new Mouth(door.feed, 1_000).open(),
    new Mouth(indoor.speaker, 700).open(),
  ];
  const atDoor = new Ear(door.loop).open();
  const behindDoor = new Ear(door.microphone, AlsaMicrophone).open();
  const atIndoor = new Ear(indoor.loop).open();
  const mute = new Ear(indoor.microphone, AlsaMicrophone).open();
  t.same(mouths[0]?.speaker.delayMs(), 0, 'no delay is told before it plays');
  await Promise.all([atDoor.hears(440), behindDoor.hears(1_000), atIndoor.hears(700), mute.hearsAgain()]);
  t.ok(mute.purity(440) < 0.5 && mute.purity(700) < 0.5 && mute.purity(1_000) < 0.5, 'nobody hears what is not theirs');
  for (const { speaker } of mouths) {
    t.same(speaker.state, { state: 'up' });
    t.ok(speaker.delayMs() > 0 && speaker.delayMs() < 500, `a delay of ${speaker.delayMs()} ms`);
    t.type(speaker.figures.xruns, 'number');
  }
  t.equal(atDoor.badFrames, 0, 'every frame is 10 ms');

  // On a machine whose writing thread is late as well, the card itself runs dry.
  const gaps = () => (mouths[0]?.speaker.figures.starvedFrames ?? 0) + (mouths[0]?.speaker.figures.xruns ?? 0);
  const gapsBefore = gaps();
  const pullsBefore = mouths[0]?.pulls ?? 0;
  const busyUntilMs = clock.nowMs() + 150;
  while (clock.nowMs() < busyUntilMs);
  await atDoor.hearsAgain();
  await atDoor.hears(440);
  t.ok(gaps() > gapsBefore, 'a blocked loop is filled with silence');
  t.ok(
    (mouths[0]?.pulls ?? 0) >= pullsBefore + 15,
    'what came too late is pulled all the same, so that no delay builds up',
  );

  // The loop stands still for longer than sound is good for: the oldest goes, and what comes then says how much is missing.
  const lostBefore = atDoor.microphone.figures.droppedFrames;
  const stillUntilMs = clock.nowMs() + 600;
  while (clock.nowMs() < stillUntilMs);
  await atDoor.hearsAgain();
  const { droppedFrames } = atDoor.microphone.figures;
  t.ok(
    droppedFrames > lostBefore && atDoor.longestGapMs > 5 * (droppedFrames - lostBefore),
    `${droppedFrames - lostBefore} dropped, ${atDoor.longestGapMs} ms`,
  );
  for (const periodMs of [40, 20] as const) {
    atDoor.microphone.setPeriodMs(periodMs);
    await atDoor.hearsAgain();
    await atDoor.hears(440);
    t.match(atDoor.microphone.figures, { periodMs, droppedFrames }, `${periodMs} ms at once`);
  }

  for (const { speaker } of mouths) speaker.close();
  const pullsAtClose = mouths.map((mouth) => mouth.pulls);
  await mute.hearsAgain();
  t.same(
    mouths.map((mouth) => mouth.pulls),
    pullsAtClose,
    'nothing is pulled after close',
  );
  for (const { microphone } of [atDoor, behindDoor, atIndoor, mute]) microphone.close();
  const framesAtClose = atDoor.frames;
  mouths[0]?.open();
  await mouths[0]?.until(
    'it is pulled again',
    () => mouths[0] !== undefined && mouths[0].pulls > (pullsAtClose[0] ?? 0) + 10,
  );
  t.equal(atDoor.frames, framesAtClose, 'no frame comes after close');
  mouths[0]?.speaker.close();
  t.ok(Array.isArray(listCards()), 'the cards of the machine are listed');

  const unfit = new Ear('float-only').open();
  const unfitMouth = new Mouth('float-only', 440).open();
  for (const one of [unfit, unfitMouth]) await one.until('it is down', () => one.downs.length > 0);
  t.same([unfit.downs, unfitMouth.downs], [['card-format'], ['card-format']], 'not as asked: refused');
  t.match(unfit.microphone.state, { fault: { message: /no 16-bit samples/, remedy: /plughw/ } });
  unfit.microphone.close();
  unfitMouth.speaker.close();
});

test('cards: absent ones are named once and found when they come, lost ones come back', async (t) => {
  await Promise.all([sound.unplugMicrophone('door'), sound.unplugSpeaker('door')]);
  const retries: number[] = [];
  const counting = {
    ...clock,
    after: (ms: number, action: () => void) => {
      retries.push(ms);
      return clock.after(ms, action);
    },
  };
  const ear = new Ear(door.microphone).open();
  const other = new Ear(door.microphone, AlsaMicrophone).open();
  const mouth = new Mouth(door.speaker, 440).open();
  const nowhere = new AlsaSpeaker({ device: 'no-such-card', rateHz, clock: counting, logger });
  const watcher = new Watcher();
  nowhere.open({ pull: () => new Int16Array(rateHz / 100), stateChanged: watcher.stateChanged });
  await Promise.all([
    ear.until('it is down', () => ear.downs.length > 0),
    other.until('it is down', () => other.downs.length > 0),
    mouth.until('it is down', () => mouth.downs.length > 0),
    watcher.until('it is down', () => watcher.downs.length > 0),
  ]);
  await new Promise<void>((resolve) => {
    const look = () => (retries.filter((ms) => ms === 500).length > 3 ? resolve() : clock.after(20, look));
    look();
  });
  t.same(
    [ear.downs, other.downs, mouth.downs, watcher.downs],
    [['card-absent'], ['card-absent'], ['card-absent'], ['card-absent']],
    'each named once',
  );
  t.match(ear.microphone.state, { state: 'down', fault: { remedy: /audio list/ } });
  t.equal(mouth.pulls, 0, 'nothing is pulled for a card that is not there');
  nowhere.close();

  await Promise.all([sound.replugMicrophone('door'), sound.replugSpeaker('door')]);
  const loop = new Ear(door.loop).open();
  await Promise.all([ear.hearsAgain(), other.hearsAgain(), loop.hears(440)]);
  t.same([ear.microphone.state, mouth.speaker.state], [{ state: 'up' }, { state: 'up' }]);

  await Promise.all([sound.unplugMicrophone('door'), sound.unplugSpeaker('door')]);
  for (const one of [ear, other]) await one.until('it is down again', () => one.downs.length === 2);
  await mouth.until('it is down again', () => mouth.downs.length === 2);
  t.equal(mouth.speaker.delayMs(), 0);
  await Promise.all([sound.replugMicrophone('door'), sound.replugSpeaker('door')]);
  await Promise.all([ear.hearsAgain(), other.hearsAgain(), loop.hears(440)]);
  for (const { badFrames, microphone } of [ear, other]) {
    t.equal(badFrames, 0);
    t.notOk(microphone.mustRestart);
    microphone.close();
  }
  loop.microphone.close();
  mouth.speaker.close();
});

test('cards: a hung card is told, holds nobody up, and goes on when it can', async (t) => {
  const ear = new Ear(indoor.microphone, AlsaMicrophone).open();
  const own = new Ear(indoor.microphone).open();
  const mouth = new Mouth(indoor.speaker, 440).open();
  await Promise.all([ear.hearsAgain(), own.hearsAgain()]);
  await mouth.until('it is up', () => mouth.speaker.state.state === 'up');
  await Promise.all([sound.hangMicrophone('indoor'), sound.hangSpeaker('indoor')]);
  await ear.until('it is down', () => ear.downs.length > 0);
  await own.until('it is down', () => own.downs.length > 0);
  await mouth.until('it is down', () => mouth.downs.length > 0);
  t.same([ear.downs, own.downs, mouth.downs], [['card-hung'], ['card-hung'], ['card-hung']]);
  ear.microphone.close();
  own.microphone.close();
  mouth.speaker.close();
  t.same([ear.microphone.state, mouth.speaker.state], [{ state: 'closed' }, { state: 'closed' }], 'close returns');
  t.same(own.microphone.state, { state: 'closed' });
  ear.open();
  own.open();
  mouth.open();
  await own.until('it is still hung', () => own.downs.length > 1);
  await ear.until('it is still hung', () => ear.downs.length > 1);
  await mouth.until('it is still hung', () => mouth.downs.length > 1);
  t.same([ear.downs[1], mouth.downs[1]], ['card-hung', 'card-hung']);
  t.ok(ear.microphone.mustRestart, "the package's thread hangs: the process would have to be ended");
  t.notOk(own.microphone.mustRestart || mouth.speaker.mustRestart, 'ours let go of the card');
  await Promise.all([sound.replugMicrophone('indoor'), sound.replugSpeaker('indoor')]);
  await Promise.all([ear.hearsAgain(), own.hearsAgain()]);
  await mouth.until('it is up', () => mouth.speaker.state.state === 'up');
  t.notOk(ear.microphone.mustRestart);
  ear.microphone.close();
  own.microphone.close();
  mouth.speaker.close();
});

test('cards: a process may end in the midst of playing, and ends by a signal with a hung microphone', async (t) => {
  const adapters = join(import.meta.dirname, '../src/adapters/alsa');
  const script = (body: string) => `
    const { AlsaSpeaker } = await import('${adapters}/alsa-speaker.js');
    const { AlsaMicrophone } = await import('${adapters}/alsa-microphone.js');
    const { NativeMicrophone } = await import('${adapters}/native-microphone.js');
    const { systemClock: clock } = await import('${adapters}/../../core/clock.js');
    const { silentLogger: logger } = await import('${adapters}/../../core/logger.js');
    const of = (device) => ({ device, rateHz: 16000, clock, logger });
    ${body}`;
  const run = (body: string) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', script(body)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => child.kill('SIGKILL'));
    return child;
  };

  const player = run(`let pulls = 0;
    new AlsaSpeaker(of('${door.speaker}')).open({ stateChanged() {}, pull() {
      if (++pulls === 30) process.exit(0);
      return new Int16Array(160);
    } });`);
  t.same(await once(player, 'exit'), [0, null]);

  // In a thread of its own as well: the module may be loaded once in each.
  const recorder = run(`const { Worker } = await import('node:worker_threads');
    const code = (then) => \`Promise.all([import('${adapters}/native-microphone.js'), import('${adapters}/../../core/clock.js'),
      import('${adapters}/../../core/logger.js')]).then(([{ NativeMicrophone }, { systemClock: clock }, { silentLogger: logger }]) => {
        let frames = 0;
        const microphone = new NativeMicrophone({ device: '${door.microphone}', rateHz: 16000, clock, logger });
        microphone.open({ stateChanged() {}, frame() { if (++frames === 30) \${then}; } });
      })\`;
    const ended = (then) => new Promise((done) => new Worker(code(then), { eval: true }).once('exit', done));
    const exits = await Promise.all([ended('microphone.close()'), ended('process.exit(7)')]);
    new NativeMicrophone(of('${door.microphone}')).open({ stateChanged() {}, frame() { process.exit(exits[1]); } });`);
  t.same(await once(recorder, 'exit'), [7, null]);

  const listener = run(`new AlsaMicrophone(of('${door.microphone}')).open({
    frame() {}, stateChanged: (state) => console.log(state.state, state.fault?.code ?? '') });`);
  let said = '';
  listener.stdout.on('data', (text: Buffer) => {
    said += text;
    if (said === 'up \n') void sound.hangMicrophone('door');
    if (said.includes('card-hung')) listener.kill('SIGTERM');
  });
  t.same(await once(listener, 'exit'), [null, 'SIGTERM']);
  await sound.replugMicrophone('door');
});

test('native capture writes into nothing but what it was given', async (t) => {
  const watcher = new Watcher();
  const [samples, agesMs] = [new Int16Array(640), new Float64Array(64)];
  let frames = 0;
  const take = (count: number) => {
    frames += count;
    // As a worker does that is handed the memory.
    if (samples.byteLength > 0) structuredClone([samples, agesMs], { transfer: [samples.buffer, agesMs.buffer] });
    watcher.happened();
  };
  // ALSA's own, which gives silence as fast as it is read.
  const options = { device: 'null', rateHz, periodMs: 10 as const, samples, agesMs, take, changed: () => {} };
  const wrong = new Int16Array(64) as unknown as Float64Array;
  t.throws(
    () => new native.Capture({ ...options, agesMs: wrong }),
    { message: /agesMs/ },
    'ages would reach beyond it',
  );
  const microphone = new native.Capture(options);
  await watcher.until('it was heard', () => frames > 0);
  const before = frames;
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(frames, before, 'memory that was given away is left alone');
  microphone.close();
});

test('the virtual cards end at once, and what reads from them learns of it', async (t) => {
  const ear = new Ear(door.microphone).open();
  await ear.hearsAgain();
  const startedAtMs = clock.nowMs();
  await sound.stop();
  t.ok(clock.nowMs() - startedAtMs < 2_000);
  await ear.until('it is down', () => ear.downs.length > 0);
  ear.microphone.close();
});
