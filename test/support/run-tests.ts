/**
 * Runs the compiled tests by tap and closes with one line that machines read: `N passed, N failed, N skipped`. A passed or
 * failed one is a `test(…)` of a file; skips count wherever they stand. Arguments choose files: `run-tests.js rtp call`.
 */
import { spawn } from 'node:child_process';
import { createReadStream, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Parser } from 'tap-parser';

const root = resolve(import.meta.dirname, '../../..');
const compiled = resolve(import.meta.dirname, '..');
const chosen = process.argv.slice(2);
const files = readdirSync(compiled)
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => chosen.length === 0 || chosen.includes(name.replace('.test.js', '')))
  .sort()
  .map((name) => join(compiled, name));
const record = join(root, '.tap', 'record.tap');
mkdirSync(join(root, '.tap'), { recursive: true });
rmSync(record, { force: true });

const tap = join(root, 'node_modules/tap/dist/esm/run.mjs');
const child = spawn(
  process.execPath,
  [
    tap,
    'run',
    '--disable-coverage',
    '--reporter=terse',
    '--jobs=1',
    '--timeout=180',
    `--output-file=${record}`,
    ...files,
  ],
  { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] },
);
const exitCode = await new Promise<number>((done) => child.once('exit', (code) => done(code ?? 1)));

const sums = { passed: 0, failed: 0, skipped: 0 };
const parser = new Parser();
const countSkips = (level: Parser): void => {
  level.on('assert', (result) => {
    if (result.skip) sums.skipped += 1;
  });
  level.on('child', countSkips);
};
parser.on('child', (file: Parser) => {
  file.on('assert', (result) => {
    if (result.skip) sums.skipped += 1;
    else if (result.ok) sums.passed += 1;
    else sums.failed += 1;
  });
  file.on('child', countSkips);
});
let failedFiles = 0;
parser.on('assert', (result) => {
  if (!result.ok) failedFiles += 1;
});
if (existsSync(record)) {
  await new Promise<void>((done) => {
    parser.on('complete', () => done());
    createReadStream(record).pipe(parser);
  });
}
// A file that crashed outside its tests has failed, though none of its tests did.
if ((exitCode !== 0 || failedFiles > 0) && sums.failed === 0) sums.failed = Math.max(1, failedFiles);
console.log(`${sums.passed} passed, ${sums.failed} failed, ${sums.skipped} skipped`);
process.exitCode = sums.failed === 0 && sums.passed > 0 && exitCode === 0 ? 0 : 1;
