import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import RED from 'node-red';
import { chromium } from 'playwright-core';
import { packageRoot } from '../src/core/package-root.js';
import { PALETTE_DIR } from '../src/flows/palette-catalogue.js';

/**
 * `palette-picture.js FILE.png`: the whole palette as Node-RED's editor has it, in Debian's Chromium, beside the flow of a help
 * point, which is imported and not deployed. It asks no station.
 */
const SIZE = { width: 1440, height: 1330 };
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'];
const WAIT_MS = 60_000;

const file = resolve(process.argv[2] ?? 'docs/palette.png');
const dir = mkdtempSync(join(tmpdir(), 'ep-palette-picture-'));
const server = createServer((request, response) => RED.httpAdmin(request, response));
RED.init(server, {
  userDir: dir,
  nodesDir: [PALETTE_DIR],
  httpAdminRoot: '/',
  httpNodeRoot: false,
  paletteCategories: ['entryphone', 'subflows', 'common', 'function', 'network', 'sequence', 'parser', 'storage'],
  lang: 'en-US',
  telemetry: { enabled: false, updateNotification: false },
  externalModules: { autoInstall: false, palette: { allowInstall: false } },
  editorTheme: { tours: false, palette: { catalogues: [] }, header: { title: 'Entryphone' } },
  logging: { console: { level: 'off' } },
});
try {
  await RED.start();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', () => listening()));
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
  try {
    const page = await browser.newPage({ viewport: SIZE, deviceScaleFactor: 1 });
    page.setDefaultTimeout(WAIT_MS);
    await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
    await page.locator('#red-ui-palette .red-ui-palette-label', { hasText: 'alert' }).first().waitFor();
    await page.locator('#red-ui-loading-progress').waitFor({ state: 'hidden' });
    const flow: unknown = JSON.parse(readFileSync(join(packageRoot, 'flows/help-point.json'), 'utf8'));
    await page.evaluate((nodes) => {
      type Editor = {
        nodes: { import(nodes: unknown): void };
        workspaces: { show(id: string): void };
        view: { redraw(isWhole: boolean): void };
      };
      const editor = (globalThis as unknown as { RED: Editor }).RED;
      editor.nodes.import(nodes);
      editor.workspaces.show('entryphone00000help');
      editor.view.redraw(true);
    }, flow);
    await page.locator('.red-ui-flow-node-label', { hasText: 'a cry' }).first().waitFor();
    await page.mouse.move(SIZE.width / 2, SIZE.height - 100);
    await page.screenshot({ path: file });
  } finally {
    await browser.close();
  }
} finally {
  await RED.stop();
  server.close();
  server.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
}
process.stderr.write(`${file}\n`);
