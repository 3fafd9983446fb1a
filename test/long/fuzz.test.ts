/** A million hostile inputs for every parser, and for the whole of a media session: nothing is thrown, nothing grows. */
import { type Test, test } from 'tap';
import { type FuzzTarget, fuzz } from '../support/fuzz.js';
import { parserTargets } from '../support/parser-targets.js';
import { sessionTarget } from '../support/session-target.js';

const SEED = Number(process.env.ENTRYPHONE_FUZZ_SEED ?? 4_711);
const INPUTS = 1_000_000;
/** On a slow machine there are fewer, and the test says so. */
const MOST_MS = 200_000;
/** What the engine's own caches do by themselves; an input that left 10 bytes behind would come to 8 MB. */
const MOST_GROWN_BYTES = 4_000_000;

function attack(t: Test, target: FuzzTarget): void {
  const { inputs, classes, grownBytes } = fuzz(target, {
    seed: SEED,
    inputs: INPUTS,
    mostMs: MOST_MS,
    weighs: true,
    progress: (done) => process.stderr.write(`fuzz: ${target.name}: ${done / 1_000}k\n`),
  });
  target.close?.();
  t.comment(`${inputs} inputs, ${(grownBytes / 1_000).toFixed(0)} kB grown`, Object.fromEntries(classes));
  t.ok(inputs > INPUTS / 100, `${inputs} inputs`);
  t.ok(grownBytes < MOST_GROWN_BYTES, `grown by ${grownBytes} bytes`);
  t.ok(classes.size >= target.leastClasses, [...classes.keys()].join(', '));
}

for (const target of parserTargets()) test(target.name, { timeout: 600_000 }, async (t) => attack(t, target));
for (const isSecure of [false, true]) {
  test(`a media session, ${isSecure ? 'SRTP' : 'plain RTP'}`, { timeout: 600_000 }, async (t) => {
    attack(t, await sessionTarget(isSecure));
  });
}
