/** Hostile input for every parser, a little of it; `make test-long` has a million for each (`long/fuzz.test.ts`). */
import { test } from 'tap';
import { fuzz } from './support/fuzz.js';
import { Mutator } from './support/mutate.js';
import { parserTargets } from './support/parser-targets.js';
import { seededRandom } from './support/random.js';
import { sessionTarget } from './support/session-target.js';

const SEED = 2_026;
const INPUTS = 3_000;
const MOST_MS = 1_500;

for (const target of parserTargets()) {
  test(`hostile input: ${target.name}`, async (t) => {
    const { classes, inputs } = fuzz(target, { seed: SEED, inputs: INPUTS, mostMs: MOST_MS });
    t.ok(inputs > 0);
    t.comment(Object.fromEntries(classes));
    t.ok(classes.size >= target.leastClasses, `classes: ${[...classes.keys()].join(', ')}`);
  });
}

for (const isSecure of [false, true]) {
  test(`hostile input: a media session as a whole, ${isSecure ? 'SRTP' : 'plain RTP'}`, async (t) => {
    const target = await sessionTarget(isSecure);
    t.teardown(() => target.close?.());
    const { classes } = fuzz(target, { seed: SEED, inputs: INPUTS, mostMs: MOST_MS });
    t.comment(Object.fromEntries(classes));
    t.ok(classes.size >= target.leastClasses, `classes: ${[...classes.keys()].join(', ')}`);
  });
}

test('the same seed makes the same input again', async (t) => {
  const corpus = [Buffer.from('one sample'), Buffer.from('another')];
  const make = (seed: number) => {
    const mutator = new Mutator({ random: seededRandom(seed), corpus, words: ['word'] });
    return Array.from({ length: 200 }, () => mutator.next());
  };
  t.same(make(1), make(1));
  t.notSame(make(1), make(2));
  t.same(corpus, [Buffer.from('one sample'), Buffer.from('another')], 'the corpus is as it was');
});
