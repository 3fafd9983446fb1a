import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chromium } from 'playwright-core';
import { AppError } from '../src/core/errors.js';
import { packageRoot } from '../src/core/package-root.js';
import { sleep } from '../src/lab/scenario.js';

/**
 * `run-picture.js FILE.png`: what `entryphone run` says while a visitor rings, and what the commands of the README answer: their own
 * words, in the colours of a terminal, shown by Debian's Chromium.
 */
const SIZE = { width: 1430, height: 760 };
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'];
const RING_MS = 2_000;
const TALK_MS = 1_000;
const FLOWS_MS = 8_000;

/** Dim, red, green and cyan. */
const SHOWN = new Set(['2', '31', '32', '36']);

const file = resolve(process.argv[2] ?? 'docs/run.png');
const dir = mkdtempSync(join(tmpdir(), 'ep-picture-'));
const env = { ...process.env, XDG_RUNTIME_DIR: join(dir, 'run'), FORCE_COLOR: '1' };
const program = join(packageRoot, 'entryphone');
const site = spawn(program, ['run', '--dir', join(dir, 'site')], { env, stdio: ['ignore', 'pipe', 'pipe'] });
let left = '$ ./entryphone run\n';
for (const output of [site.stdout, site.stderr]) {
  output.on('data', (chunk: Buffer) => {
    left += chunk.toString('utf8');
  });
}
let right = '';

try {
  while (!left.includes('ready: ')) await Promise.race([once(site.stdout, 'data'), endOf(site)]);
  await sleep(FLOWS_MS);
  await typed('press door bell', RING_MS);
  await typed('press indoor bell', RING_MS);
  const said = typed('say door "Hello, the parcel is here" &', 0);
  const answered = typed('say indoor "Please put it behind the door" &', 0);
  await sleep(TALK_MS);
  await typed('press indoor open', 500);
  await typed('status', 0);
  await Promise.all([said, answered]);
  await paint();
} finally {
  site.kill('SIGINT');
  await once(site, 'exit');
  rmSync(dir, { recursive: true, force: true });
}
process.stderr.write(`${file}\n`);

async function endOf(child: ChildProcess): Promise<never> {
  await once(child, 'exit');
  throw new AppError('site-ended', `entryphone run has ended:\n${left}`);
}

async function typed(line: string, waitMs: number): Promise<void> {
  right += `$ ./entryphone ${line}\n`;
  const child = spawn('sh', ['-c', `"${program}" ${line.replace(/ &$/, '')} 2>&1`], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  child.stdout.on('data', (chunk: Buffer) => {
    right += chunk.toString('utf8');
  });
  await once(child, 'close');
  await sleep(waitMs);
}

async function paint(): Promise<void> {
  const style = `body { margin: 0; background: #111418; color: #ddd; display: flex; font: 12px/15px 'DejaVu Sans Mono', monospace }
    pre { margin: 8px; font: inherit; white-space: pre-wrap; flex: 1; overflow-wrap: anywhere } pre + pre { flex: none; border-left: 1px solid #555; padding-left: 8px }
    .c2 { opacity: .55 } .c31 { color: #f55 } .c32 { color: #4d4 } .c36 { color: #3bc }`;
  const html = `<style>${style}</style><pre>${coloured(left)}</pre><pre>${coloured(right)}</pre>`;
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: SIZE, deviceScaleFactor: 1 });
    await page.setContent(html);
    await page.screenshot({ path: file, fullPage: true });
  } finally {
    await browser.close();
  }
}

/** SGR (ECMA-48, 8.3.117) as spans, of the few that the command line uses. */
function coloured(text: string): string {
  const escaped = text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  const [plain, ...parts] = escaped.split('\x1b[');
  const spans = parts.map((part) =>
    part.replace(/^(\d+)m/, (_, code: string) => (SHOWN.has(code) ? `<span class="c${code}">` : '</span>')),
  );
  return [plain, ...spans].join('');
}
