import type { ButtonAction, Config } from '../config/schema.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CallControl } from './call-control.js';
import type { DoorControl } from './door-control.js';

/**
 * What a press does, as configured. `call` calls when no call lives; while one rings or is talked in (whoever called), it
 * does nothing: an impatient visitor neither doubles a call nor ends it. `answer-or-hang-up` answers what rings here and
 * hangs up whatever else lives. `hang-up` ends (or turns away) what lives. `open-door` opens the peer's door in a call,
 * else this station's.
 */
export class PressActions {
  readonly #actions: Config['buttons'];
  readonly #calls: CallControl;
  readonly #door: DoorControl;
  readonly #logger: Logger;

  constructor(options: { actions: Config['buttons']; calls: CallControl; door: DoorControl; logger: Logger }) {
    this.#actions = options.actions;
    this.#calls = options.calls;
    this.#door = options.door;
    this.#logger = options.logger;
  }

  pressed(button: string): void {
    const action = Object.hasOwn(this.#actions, button) ? this.#actions[button] : undefined;
    if (action === undefined) {
      this.#logger.info({ button }, 'pressed; nothing is configured for it');
      return;
    }
    try {
      this.#logger.info({ button, action: action.do }, this.#perform(action));
    } catch (error) {
      this.#logger.warn({ button, action: action.do, error: errorText(error) }, 'a press failed');
    }
  }

  /** @returns what it came to, for the log */
  #perform(action: ButtonAction): string {
    const { current } = this.#calls;
    switch (action.do) {
      case 'call':
        if (current !== undefined) return `pressed; a call with ${current.peerName} lives already`;
        this.#calls.place(action.target);
        return `pressed; calling ${action.target}`;
      case 'answer-or-hang-up':
        if (current === undefined) return 'pressed; no call lives';
        if (current.state === 'ringing-in') this.#calls.answer();
        else this.#calls.hangUp();
        return current.state === 'ringing-in' ? 'pressed; answered' : 'pressed; hung up';
      case 'hang-up':
        if (current === undefined) return 'pressed; no call lives';
        this.#calls.hangUp();
        return 'pressed; hung up';
      case 'open-door':
        void this.#door.open().then(({ reason }) => this.#logger.info({ reason }, 'the press for the door is done'));
        return 'pressed; opening the door';
    }
  }
}

/** For people: `call Kitchen`, `open-door`. */
export function actionText(action: ButtonAction | undefined): string {
  if (action === undefined) return 'nothing';
  return action.do === 'call' ? `call ${action.target}` : action.do;
}
