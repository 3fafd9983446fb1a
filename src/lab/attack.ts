import { AppError, errorText } from '../core/errors.js';

/** Something that nobody may get away with, on real parts. */
export interface Attack {
  /** Of the fault, as fixtures are named. */
  readonly name: string;
  /** What the attacker does, in words. */
  readonly does: string;
  /** Of the refusal. */
  readonly code: string;
  /** In an empty folder: all that goes before passes. @returns the attack itself, which must throw an `AppError` of `code` */
  prepare(dir: string): Promise<() => Promise<unknown>>;
}

export interface AttackOutcome {
  readonly refused: boolean;
  /** In words, as the log has it. */
  readonly reason: string;
}

/** Runs one: it counts as refused where the refusal is the one that this attack must meet, and no other fault. */
export async function attackOutcome(attack: Attack, dir: string): Promise<AttackOutcome> {
  try {
    const strike = await attack.prepare(dir);
    return await strike().then(
      () => ({ refused: false, reason: 'it was taken' }),
      (error: unknown) => ({
        refused: error instanceof AppError && error.code === attack.code,
        reason: errorText(error),
      }),
    );
  } catch (error) {
    return { refused: false, reason: `it was not tried: ${errorText(error)}` };
  }
}
