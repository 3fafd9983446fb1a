/**
 * Nice values (nice(1)), for machines that have fewer processors than a site has processes: what stands in for hardware is not
 * late for want of one, and media comes next. `SCHED_FIFO`, as a board's unit has it, is not for here: where as many media
 * processes as processors start at once under it, each waits in a circle for threads of V8 that never get their turn.
 */
export const CARD_NICENESS = -19;
export const MEDIA_NICENESS = -15;

/** The command with that niceness, where this user may; else as it is, and it says so on stderr. */
export function withNiceness(niceness: number, command: readonly string[]): string[] {
  return ['nice', '-n', String(niceness), ...command];
}
