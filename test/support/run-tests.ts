/**
 * Runs the compiled tests by tap, a line a file, and closes with one line that machines read: `N passed, N failed, N skipped`.
 * A passed or failed one is a `test(…)` of a file; skips count wherever they stand.
 *
 *   run-tests.js [--long | --peers] [name…]     `rtp call` for two files; --long or --peers for those of that folder
 */
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { styleText } from 'node:util';
import tap from 'tap';
import { Parser, type Result } from 'tap-parser';

const root = resolve(import.meta.dirname, '../../..');
/** What a file may take. */
const kinds = {
  '--long': { folder: 'long', timeoutSeconds: 1_800, jobs: 1 },
  '--peers': { folder: 'peers', timeoutSeconds: 600, jobs: 1 },
} as const;
const isKind = (argument: string): argument is keyof typeof kinds => Object.hasOwn(kinds, argument);
const kind = process.argv.find(isKind);
// Two at once halve the time; each has ports, cards and pins of its own. More would only stretch what is awaited.
const here = { folder: '.', timeoutSeconds: 180, jobs: Math.min(2, availableParallelism()) };
const { folder: name, timeoutSeconds, jobs } = kind === undefined ? here : kinds[kind];
const folder = resolve(import.meta.dirname, '..', name);
const chosen = process.argv.slice(2).filter((argument) => !isKind(argument));
const files = (existsSync(folder) ? readdirSync(folder) : [])
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => chosen.length === 0 || chosen.includes(name.replace('.test.js', '')))
  .sort()
  .map((name) => join(folder, name));
mkdirSync(join(root, '.tap'), { recursive: true });

const sums = { passed: 0, failed: 0, skipped: 0 };
const failures: string[] = [];

/** Skips count at every depth; what has failed is told where it stands, not again by those around it. */
function follow(level: Parser, path: string): void {
  level.on('assert', (result: Result) => {
    if (result.skip) sums.skipped += 1;
    const isAround = failures.some((failure) => failure.startsWith(`${path} > ${result.name}`));
    if (!result.ok && !result.skip && !result.todo && !isAround) {
      failures.push(`${path} > ${result.name}\n${JSON.stringify(result.diag ?? {}, null, 2).slice(0, 3_000)}`);
    }
  });
  level.on('child', (child: Parser) => follow(child, `${path} > ${child.name}`));
}

const parser = new Parser();
let ofFile = { passed: 0, failed: 0 };
parser.on('child', (file: Parser) => {
  const counts = { passed: 0, failed: 0 };
  ofFile = counts;
  file.on('assert', (result: Result) => {
    if (result.skip) return;
    const outcome = result.ok ? 'passed' : 'failed';
    counts[outcome] += 1;
    sums[outcome] += 1;
  });
  follow(file, relative('dist', file.name));
});
let failedFiles = 0;
// After its tests; the time is the file's own, whatever ran beside it.
parser.on('assert', ({ ok, name: path, time, diag }: Result) => {
  // What tap adds of its own, when a file's time is over, stands with the file already.
  if (!path.endsWith('.test.js')) return;
  const name = relative('dist', path);
  const { passed, failed } = ofFile;
  ofFile = { passed: 0, failed: 0 };
  const text = `${ok ? 'ok  ' : 'FAIL'} ${name}: ${passed} passed${failed === 0 ? '' : `, ${failed} failed`} (${((time ?? 0) / 1000).toFixed(1)} s)`;
  console.log(styleText(ok ? 'green' : 'red', text));
  if (ok) return;
  failedFiles += 1;
  if (failed === 0) failures.push(`${name}\n${JSON.stringify(diag ?? {}, null, 2)}`);
});

tap.jobs = jobs;
// Of a file's own tap, which counts; that of this process is none.
const env = { ...process.env, TAP_TIMEOUT: String(timeoutSeconds) };
tap.setTimeout(0);
tap.pipe(parser);
for (const file of files) {
  // Not by `tap run`, which loads its coverage into each process that a test starts, be it disabled: half of all the time.
  const args = ['-u', 'NODE_OPTIONS', process.execPath, '--enable-source-maps', file];
  const how = { buffered: true, timeout: 1_000 * timeoutSeconds, cwd: root, env, stdio: 'inherit' } as const;
  void tap.spawn('env', args, how, file);
}
const complete = files.length > 0 ? once(parser, 'complete') : Promise.resolve();
tap.end();
await complete;

for (const failure of failures) console.log(`\n${styleText('red', 'not ok')} ${failure}`);
// A file that crashed outside its tests has failed, though none of its tests did.
if (sums.failed === 0) sums.failed = failedFiles;
console.log(`${sums.passed} passed, ${sums.failed} failed, ${sums.skipped} skipped`);
process.exitCode = sums.failed === 0 && sums.passed > 0 ? 0 : 1;
