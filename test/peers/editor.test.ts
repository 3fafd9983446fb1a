/** The flows' editor as an installer has it: in Debian's Chromium, of a real flows process with its password. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Browser, chromium, type Locator, type Page } from 'playwright-core';
import { type Test, test } from 'tap';
import { AdminApi } from '../../src/adapters/node-red/admin-api.js';
import { LOCALES, type Locale, PALETTE_DIR, type PaletteNode, readPalette } from '../../src/flows/palette-catalogue.js';
import { EDITOR_USER } from '../../src/protocol/flows-api.js';
import { FlowsPost } from '../support/flows-post.js';
import { until } from '../support/site.js';

/** A browser that asks nobody but the page that it is given; its folder is its own, and goes with it. */
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const VIEWPORT = { width: 1_440, height: 1_000 };
/** On the sheet, below the flow that ships and beside the trays. */
const EMPTY_PLACE = { x: 120, y: 640 };
const BUTTON = 'entryphone-button';

const { nodes: palette } = readPalette();
const shown = palette.filter(({ category }) => category !== 'config');

const scripts: Record<string, string> = JSON.parse(readFileSync(join(PALETTE_DIR, 'package.json'), 'utf8'))['node-red']
  .nodes;

/** A node's words, as its catalogue has them. */
function wordsOf(type: string, locale: Locale): { palette?: string; label: Record<string, string> } {
  const [folder = ''] = (scripts[type] ?? '').split('/');
  return JSON.parse(readFileSync(join(PALETTE_DIR, folder, 'locales', locale, `${folder}.json`), 'utf8'))[folder];
}

const plain = (text: string): string => text.replace(/\s+/g, '');

/** A page of the editor, and what went wrong in it. */
class Editor {
  readonly faults: string[] = [];
  readonly page: Page;

  static async open(browser: Browser, url: string, locale: Locale): Promise<Editor> {
    const context = await browser.newContext({ viewport: VIEWPORT, locale });
    // What is waited for in vain ends by the test's own timeout: a busy machine is no fault of the editor.
    context.setDefaultTimeout(0);
    const editor = new Editor(await context.newPage());
    await editor.page.goto(url);
    return editor;
  }

  private constructor(page: Page) {
    this.page = page;
    page.on('pageerror', (error) => this.faults.push(String(error)));
    page.on('response', (response) => {
      if (response.status() >= 400) this.faults.push(`${response.status()} ${new URL(response.url()).pathname}`);
    });
  }

  async tryPassword(password: string): Promise<void> {
    await this.page.fill('#node-dialog-login-username', EDITOR_USER);
    await this.page.fill('#node-dialog-login-password', password);
    await this.page.click('#node-dialog-login-submit');
  }

  /** Signs in, and waits until the flow that ships is drawn. */
  async signIn(password: string): Promise<void> {
    await this.tryPassword(password);
    await this.page.locator('#red-ui-workspace-chart .red-ui-flow-node').first().waitFor();
    await this.paletteNode(BUTTON).waitFor();
    this.faults.length = 0;
  }

  paletteNode(type: string): Locator {
    return this.page.locator(`#red-ui-palette .red-ui-palette-node[data-palette-type="${type}"]`);
  }

  get tray(): Locator {
    return this.page.locator('.red-ui-tray');
  }

  get selected(): Locator {
    return this.page.locator('#red-ui-workspace-chart .red-ui-flow-node-selected');
  }

  /** Drags one from the palette onto the sheet. @returns where it is now, on the page */
  async drag(type: string): Promise<{ x: number; y: number }> {
    const { mouse } = this.page;
    const sheet = await this.page.locator('#red-ui-workspace-chart').boundingBox();
    const place = { x: (sheet?.x ?? 0) + EMPTY_PLACE.x, y: (sheet?.y ?? 0) + EMPTY_PLACE.y };
    await this.page.keyboard.press('Escape');
    await this.paletteNode(type).scrollIntoViewIfNeeded();
    await this.paletteNode(type).hover();
    await mouse.down();
    await mouse.move(place.x - 40, place.y - 40, { steps: 4 });
    await mouse.move(place.x, place.y, { steps: 4 });
    await mouse.up();
    await this.selected.waitFor();
    return place;
  }

  /** Opens the form of a node by two clicks on it. */
  async edit(place: { x: number; y: number }): Promise<void> {
    await this.page.mouse.dblclick(place.x, place.y);
    await this.page.locator('#node-dialog-ok').waitFor();
    await this.settled(this.tray.last());
  }

  /** Trays slide in: what is in one is where it stays when its ends are. */
  async settled(tray: Locator): Promise<void> {
    await tray.evaluate((element) =>
      Promise.all(element.getAnimations().map(({ finished }: { finished: Promise<unknown> }) => finished)),
    );
  }

  /** Presses a button of a tray, which goes with that. */
  async press(button: string): Promise<void> {
    await this.page.click(button);
    await this.page.locator(button).waitFor({ state: 'detached' });
  }

  /** Deletes what is selected. */
  async deleteSelected(): Promise<void> {
    await this.page.keyboard.press('Delete');
    await this.selected.waitFor({ state: 'detached' });
  }
}

async function start(t: Test): Promise<{ post: FlowsPost; browser: Browser }> {
  const post = await FlowsPost.start(t);
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: FLAGS,
    timeout: 0,
  });
  t.teardown(() => browser.close());
  return { post, browser };
}

/** Its form, in words of this language, and its help; then nothing of it is left. */
async function looksRight(t: Test, editor: Editor, node: PaletteNode, locale: Locale): Promise<void> {
  const { page } = editor;
  const { type } = node;
  await editor.edit(await editor.drag(type));
  const form = page.locator('#dialog-form');
  const text = plain((await form.textContent()) ?? '');
  const { name = '' } = wordsOf(type, locale).label;
  t.ok(text.includes(plain(name)), `${type}: ${name}`);
  if (locale === 'zh-CN') t.match(text, /\p{Script=Han}/u, type);
  t.notMatch(text, /\b[a-z-]+\.(label|option|tip|palette)\b/, `${type}: every key has its words`);
  await page.locator('.red-ui-tray-footer .fa-book').last().click();
  const help = page.locator('.red-ui-sidebar-help-stack .red-ui-help', { hasText: node.help[locale] ?? 'no help' });
  await help.first().waitFor();
  await editor.press('#node-dialog-cancel');
  await editor.deleteSelected();
}

test('the editor in a browser', async (t) => {
  const { post, browser } = await start(t);

  for (const locale of LOCALES) {
    await t.test(`every node of the palette: label, form, help (${locale})`, async (t) => {
      const editor = await Editor.open(browser, post.url, locale);
      await editor.tryPassword('wrong');
      await editor.page.locator('#node-dialog-login-failed').waitFor();
      t.equal(await editor.page.locator('.red-ui-flow-node').count(), 0, 'nothing is seen without the password');
      await editor.signIn(post.password);
      for (const node of shown) {
        const label = (await editor.paletteNode(node.type).textContent()) ?? '';
        t.equal(plain(label), plain(wordsOf(node.type, locale).palette ?? ''), node.type);
        await looksRight(t, editor, node, locale);
      }
      t.same(editor.faults, []);
      await editor.page.context().close();
    });
  }

  await t.test('a node is dragged, edited, deployed; a press is told under it', async (t) => {
    const editor = await Editor.open(browser, post.url, 'en-US');
    const { page } = editor;
    await editor.signIn(post.password);
    await editor.edit(await editor.drag(BUTTON));
    const station = 'entryphone00station';
    await page.selectOption('#node-input-station', station);
    await page.click('#node-input-btn-station-edit');
    await page.locator('#node-config-dialog-ok').waitFor();
    await editor.settled(editor.tray.last());
    const { name = '' } = wordsOf('entryphone-station', 'en-US').label;
    t.match(
      (await page.locator('#node-config-dialog-edit-form').textContent()) ?? '',
      name,
      'the form of the config node',
    );
    await editor.press('#node-config-dialog-cancel');
    await page.fill('#node-input-button', 'open');
    await page.fill('#node-input-name', 'Porch');
    await editor.press('#node-dialog-ok');

    const { rev: before } = await post.status();
    await page.click('#red-ui-header-button-deploy');
    await until(async () => (await post.status()).rev !== before);
    const { url, token } = await post.signIn();
    const { flows, rev } = await new AdminApi({ url, token }).getFlows();
    const porch = flows.find(({ type, name }) => type === BUTTON && name === 'Porch');
    t.match(porch, { station, button: 'open', press: true });
    await until(async () => (await post.status()).rev === rev && (await post.status()).state === 'running');

    const porchNode = page.locator(`[id="${porch?.id}"]`);
    await until(async () => {
      post.board.press('open');
      return /^press \d\d:\d\d:\d\d$/.test((await statusUnder(porchNode)) ?? '');
    });
    t.match(
      await statusUnder(page.locator('[id="door0000button0open"]')),
      /^press /,
      'the other node that watches, too',
    );
    t.same(editor.faults, []);
  });
});

async function statusUnder(node: Locator): Promise<string | null> {
  return node.locator('.red-ui-flow-node-status-label').textContent();
}
