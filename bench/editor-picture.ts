import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { chromium, type Page } from 'playwright-core';
import { systemClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { sleep, startScenarioSite, watchBoth } from '../src/lab/scenario.js';
import { buttonLine } from '../src/lab/site-control.js';
import { flowsAre } from '../src/lab/site-flows.js';
import { EDITOR_USER } from '../src/protocol/flows-api.js';

/**
 * `editor-picture.js FILE.png`: the door station's flows in their editor, in Debian's Chromium, while a real visitor rings. The
 * site is one of the lab's, and ends with this.
 */
const SIZE = { width: 1440, height: 860 };
/** A browser that asks nobody but the page that it is given. */
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'];
const SETTLE_MS = 1_500;

const file = resolve(process.argv[2] ?? 'docs/editor.png');
const dir = mkdtempSync(join(tmpdir(), 'ep-picture-'));
const site = await startScenarioSite({ dir, log: (text) => process.stderr.write(`${text}\n`) }, { flows: true });
try {
  const watches = await watchBoth(site);
  await flowsAre(watches, 'door', { withinMs: 30_000, fits: ({ state }) => state === 'running', text: 'running' });
  await sleep(SETTLE_MS);
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: SIZE, deviceScaleFactor: 1 });
    await signIn(page);
    const since = systemClock.nowMs();
    await site.boards.door.press(buttonLine(site, 'door', 'bell'));
    await watches.indoor.callIs('ringing-in', since);
    await page.getByText('ringing-out', { exact: false }).first().waitFor({ timeout: 10_000 });
    await sleep(SETTLE_MS);
    await page.mouse.move(SIZE.width / 2, SIZE.height - 150);
    await page.screenshot({ path: file });
  } finally {
    await browser.close();
  }
  watches.door.close();
  watches.indoor.close();
} finally {
  await site.stop();
  rmSync(dir, { recursive: true, force: true });
}
process.stderr.write(`${file}\n`);

async function signIn(page: Page): Promise<void> {
  const port = site.plan.flows?.ports.door;
  if (port === undefined) throw new AppError('flows-off', 'this site runs without flows');
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.fill('#node-dialog-login-username', EDITOR_USER);
  await page.fill(
    '#node-dialog-login-password',
    readFileSync(join(dir, 'site/door/state/flows/editor-password'), 'utf8').trim(),
  );
  await page.click('#node-dialog-login-submit');
  await page.locator('.red-ui-flow-node-label', { hasText: 'bell' }).first().waitFor({ timeout: 20_000 });
}
