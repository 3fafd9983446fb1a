/**
 * A station's disk and processes, as far as an update changes them: each change is one operation, so that the power can go after each.
 * What stands for the launcher does as `device/launcher.sh` does.
 */
import { gaveUp, type SlotContent, type SlotName, type SlotState } from '../../src/fleet/slots.js';
import {
  isOver,
  type JobEvent,
  type JobFault,
  newJob,
  transition,
  type UpdateJournal,
} from '../../src/fleet/update-journal.js';
import { type DesiredRelease, planUpdate, type UpdateFacts, type UpdateStep } from '../../src/fleet/update-plan.js';

export class PowerCut extends Error {}

/** How a release behaves: it proves itself, it comes up and does not, it ends at once. */
export type Behaviour = 'good' | 'mute' | 'crashing';

export const OLD = { version: '1.0.0', hash: 'old'.padEnd(64, '0') };
export const NEW: DesiredRelease = {
  ...{ kind: 'firmware', version: '1.1.0', architecture: 'x64', hash: 'new'.padEnd(64, '0') },
  ...{ requires: { boards: [], freeBytes: 100 }, sizeBytes: 90 },
};
const MOST_STARTS = 3;
/** What a cancelled job says to what goes on as if it were not. */
const CANCELLED: readonly JobFault[] = ['over', 'ending-already', 'only-back-from-here'];

export class UpdateWorld {
  readonly behaviour: Behaviour;
  /** The manifest in each slot: what is there is whole. */
  readonly manifests: Record<SlotName, { version: string; hash: string } | null> = { a: OLD, b: null };
  current: SlotName = 'a';
  previous: SlotName = 'a';
  trying: { slot: SlotName; starts: number } | null = null;
  back: { from: SlotName; reason: string } | null = null;
  failed = new Map<string, string>();
  floor = OLD.version;
  fetched = false;
  unpacked = false;
  running: SlotName | null = 'a';
  journal: UpdateJournal = newJob({ jobId: 'job-0001', kind: 'firmware', version: NEW.version, hash: NEW.hash });
  /** Operations so far, and after how many the power goes. */
  operations = 0;
  cutAfter = Infinity;
  /** Before which operation somebody cancels. */
  cancelBefore = Infinity;
  readonly done: UpdateStep['do'][] = [];

  constructor(behaviour: Behaviour) {
    this.behaviour = behaviour;
  }

  get state(): SlotState {
    const trial = this.trying !== null && this.trying.slot === this.current ? this.trying : null;
    const contentOf = (slot: SlotName): SlotContent => {
      const there = this.manifests[slot];
      if (there === null) return { is: 'empty' };
      const reason = this.failed.get(there.hash);
      if (reason !== undefined) return { is: 'failed', ...there, reason };
      return { is: 'whole', ...there, isConfirmed: trial === null ? slot === this.current : slot !== trial.slot };
    };
    return {
      v: 1,
      slots: { a: contentOf('a'), b: contentOf('b') },
      trial: trial === null ? null : { ...trial, from: this.previous },
      floor: this.floor,
    };
  }

  get facts(): UpdateFacts {
    const { hasSwitched, ending } = this.journal;
    return {
      ...{ architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: OLD.version },
      ...{ current: this.current, running: this.running, isReady: true, lackingBytes: this.fetched ? 0 : 50 },
      ...{ hasFetched: this.fetched, hasSwitched, ending },
    };
  }

  get runningRelease(): string | undefined {
    return this.running === null ? undefined : this.manifests[this.running]?.version;
  }

  /** The power comes back: the launcher starts what is to be started. */
  powerUp(): void {
    this.cutAfter = Infinity;
    this.#start();
  }

  /** Plans and does until nothing is left. @throws PowerCut */
  run(): void {
    for (let rounds = 0; ; rounds += 1) {
      if (rounds > 60) throw new Error(`no end: ${this.done.slice(-12).join(' ')}`);
      if (isOver(this.journal.state)) return;
      this.#tidy();
      const [step] = planUpdate(this.state, NEW, this.facts);
      if (step === undefined) break;
      this.done.push(step.do);
      if (step.do === 'reject' || step.do === 'fail') {
        this.#tell({ type: step.do, reason: step.reason });
        if (step.do === 'reject') return;
        continue;
      }
      this.#doAll(step);
    }
    const here = this.state.slots[this.current];
    this.#tell({ type: 'end', isConfirmed: here.is === 'whole' && here.hash === NEW.hash && here.isConfirmed });
  }

  /** A step, and the plan's following ones as long as nothing came in between. */
  #doAll(first: UpdateStep): void {
    const steps = planUpdate(this.state, NEW, this.facts);
    if (steps[0]?.do !== first.do) throw new Error('the same facts make the same plan');
    for (const step of steps) {
      if (step !== steps[0]) this.done.push(step.do);
      const ending = this.journal.ending;
      if (!this.#tell({ type: 'begin', step })) return;
      const isOnTheWay = this.#execute(step);
      if (isOnTheWay) this.#tell({ type: 'finish' });
      if (!isOnTheWay || this.journal.ending !== ending) return;
    }
  }

  /** @returns false where the plan has to be made anew */
  #execute(step: UpdateStep): boolean {
    const { journal } = this;
    switch (step.do) {
      case 'fetch':
        this.#operation(() => {
          this.fetched = true;
        });
        break;
      case 'clear':
        this.#operation(() => {
          this.previous = this.current;
        });
        this.#operation(() => {
          this.manifests[step.slot] = null;
        });
        this.unpacked = false;
        break;
      case 'unpack':
        this.#operation(() => {
          this.unpacked = true;
        });
        break;
      case 'seal':
        if (!this.unpacked) throw new Error('sealed before it was unpacked');
        this.#operation(() => {
          this.manifests[step.slot] = { version: NEW.version, hash: NEW.hash };
        });
        break;
      case 'switch':
        if (this.manifests[step.slot] === null) throw new Error('switched to a slot that is not whole');
        this.#operation(() => {
          this.previous = step.from;
        });
        this.#operation(() => {
          this.trying = { slot: step.slot, starts: 0 };
        });
        this.#operation(() => {
          this.current = step.slot;
        });
        break;
      case 'restart':
        this.#operation(() => this.#start());
        return this.running === step.slot;
      case 'confirm':
        if (this.running !== step.slot || this.behaviour !== 'good') {
          this.#tell({ type: 'fail', reason: 'the self-test heard nothing' });
          return false;
        }
        this.#operation(() => {
          this.trying = null;
        });
        break;
      case 'raise-floor':
        this.#operation(() => {
          this.floor = step.version;
        });
        break;
      case 'clean':
        this.#operation(() => {
          this.fetched = false;
        });
        break;
      case 'switch-back':
        this.#operation(() => this.#note(gaveUp(this.state, step.from, step.failure ?? ''), step.failure));
        this.#operation(() => {
          this.current = step.slot;
        });
        this.#operation(() => {
          this.trying = null;
        });
        break;
      case 'await-ready':
        if (this.running !== step.slot) throw new Error('the old release is not up');
        break;
    }
    return journal.ending === this.journal.ending;
  }

  #note(state: SlotState, failure: string | null): void {
    if (failure === null) return;
    for (const slot of ['a', 'b'] as const) {
      const content = state.slots[slot];
      if (content.is === 'failed') this.failed.set(content.hash, content.reason);
    }
  }

  /** As the launcher: counts, and goes back; a release that crashes is started until it does. */
  #start(): void {
    for (;;) {
      if (this.trying !== null && this.trying.slot === this.current) {
        if (this.trying.starts >= MOST_STARTS) {
          this.back = { from: this.current, reason: 'not confirmed after 3 starts' };
          this.current = this.previous;
          this.trying = null;
        } else this.trying = { ...this.trying, starts: this.trying.starts + 1 };
      }
      this.running = this.current;
      const isNew = this.manifests[this.current]?.hash === NEW.hash;
      if (!(isNew && this.behaviour === 'crashing' && this.trying !== null)) return;
    }
  }

  /** What the launcher or a power cut left: a trial of a slot that is not current means nothing, `back` is news. */
  #tidy(): void {
    const { back, trying } = this;
    if (trying !== null && trying.slot !== this.current) {
      this.#operation(() => {
        this.trying = null;
      });
    }
    if (back === null) return;
    this.#operation(() => this.#note(gaveUp(this.state, back.from, back.reason), back.reason));
    this.#operation(() => {
      this.back = null;
    });
  }

  /** @returns false where it came too late, since somebody has cancelled */
  #tell(event: JobEvent): boolean {
    let isTaken = true;
    this.#operation(() => {
      const result = transition(this.journal, event);
      isTaken = result.ok;
      if (result.ok) this.journal = result.journal;
      else if (!CANCELLED.includes(result.fault)) throw new Error(`${event.type}: ${result.fault}`);
    });
    return isTaken;
  }

  #operation(change: () => void): void {
    if (this.operations >= this.cutAfter) {
      this.running = null;
      throw new PowerCut();
    }
    if (this.operations === this.cancelBefore) {
      const result = transition(this.journal, { type: 'cancel', reason: 'by the manager' });
      if (result.ok) this.journal = result.journal;
    }
    this.operations += 1;
    change();
  }
}
