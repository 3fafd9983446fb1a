import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { runInNewContext } from 'node:vm';
import * as z from 'zod';
import { flowNodes } from '../adapters/node-red/admin-api.js';
import { AppError, errorText } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';

/** Where Node-RED loads our nodes from. */
export const PALETTE_DIR = join(packageRoot, 'dist/src/palette');

/** The languages of the editor in which every node has its words and its help. */
export const LOCALES = ['en-US', 'zh-CN'] as const;
export type Locale = (typeof LOCALES)[number];

export interface PaletteNode {
  readonly type: string;
  /** `config` for a node that others share and no flow shows. */
  readonly category: string;
  readonly inputs: number;
  readonly outputs: number;
  /** Those in which it has words and help. */
  readonly locales: readonly Locale[];
  /** Names of the examples of the editor's Import menu that it occurs in. */
  readonly examples: readonly string[];
  /** The first sentence or two of its help, as plain text. */
  readonly help: Readonly<Partial<Record<Locale, string>>>;
}

const manifest = z.object({
  'node-red': z.object({ nodes: z.record(z.string(), z.string().regex(/^[a-z0-9/-]+\.js$/)) }),
});
const definition = z.object({
  category: z.string(),
  inputs: z.int().min(0).default(0),
  outputs: z.int().min(0).default(0),
  defaults: z.record(z.string(), z.unknown()),
});
type Words = { readonly [key: string]: string | Words };
const words: z.ZodType<Words> = z.lazy(() => z.record(z.string(), z.union([z.string(), words])));

const DEFINE_MS = 500;

/**
 * The palette as its files say: package.json, each node's page of the editor, its catalogues and help, the examples.
 * @param dir of the palette's package.json
 * @returns the nodes, and in words what is missing or wrong: a word or a help text in a locale, an example
 * @throws AppError `palette-damaged` when a file of it can't be read for what it should be
 */
export function readPalette(dir = PALETTE_DIR): { nodes: PaletteNode[]; faults: string[] } {
  const faults: string[] = [];
  const { nodes } = read(join(dir, 'package.json'), (text) => manifest.parse(JSON.parse(text)))['node-red'];
  const examples = new Map<string, ReadonlySet<string>>();
  for (const file of readdirSync(join(dir, 'examples')).sort()) {
    const flow = read(join(dir, 'examples', file), (text) => flowNodes.parse(JSON.parse(text)));
    examples.set(basename(file, '.json'), new Set(flow.map(({ type }) => type)));
  }
  const described = Object.entries(nodes).map(([type, script]) => {
    const node = readNode(type, join(dir, script), faults);
    const shown = [...examples].filter(([, types]) => types.has(type)).map(([name]) => name);
    if (shown.length === 0) faults.push(`${type}: no example has it`);
    return { ...node, examples: shown };
  });
  return { nodes: described, faults };
}

function readNode(type: string, script: string, faults: string[]): Omit<PaletteNode, 'examples'> {
  const page = read(script.replace(/\.js$/, '.html'), (text) => text);
  const { category, inputs, outputs } = read(script.replace(/\.js$/, '.html'), () => defined(type, page));
  const used = wordsUsed(page + read(script, (text) => text));
  const name = basename(script, '.js');
  const catalogues = new Map<Locale, Map<string, string>>();
  const help: Partial<Record<Locale, string>> = {};
  for (const locale of LOCALES) {
    const base = join(dirname(script), 'locales', locale, name);
    if (existsSync(`${base}.json`)) {
      catalogues.set(locale, flat(read(`${base}.json`, (text) => words.parse(JSON.parse(text)))));
    }
    const summary = existsSync(`${base}.html`) ? read(`${base}.html`, (text) => summaryOf(type, text)) : undefined;
    if (summary === undefined) faults.push(`${type}: no help in ${locale}`);
    else help[locale] = summary;
  }
  // Where both have a word, the first language's counts.
  const all = new Map([...catalogues.values()].reverse().flatMap((catalogue) => [...catalogue]));
  const whole = LOCALES.filter((locale) => {
    const catalogue = catalogues.get(locale) ?? new Map<string, string>();
    const missing = [...new Set([...used, ...all.keys()])].filter((key) => !catalogue.has(key));
    faults.push(...missing.map((key) => `${type}: no word for ${key} in ${locale}`));
    for (const [key, text] of catalogue) {
      if (blanks(text) !== blanks(all.get(key) ?? '')) faults.push(`${type}: ${key} has other blanks in ${locale}`);
    }
    return missing.length === 0 && help[locale] !== undefined;
  });
  return { type, category, inputs, outputs, locales: whole, help };
}

/** What the page says to the editor about this type, found by running the page's script with an editor that only listens. */
function defined(type: string, page: string): z.output<typeof definition> {
  const [, script = ''] = /<script type="text\/javascript">([\s\S]*?)<\/script>/.exec(page) ?? [];
  const told = new Map<string, unknown>();
  runInNewContext(
    script,
    {
      RED: {
        nodes: { registerType: (name: string, what: unknown) => told.set(name, what) },
        validators: { typedInput: () => () => true, number: () => () => true, regex: () => () => true },
      },
    },
    { timeout: DEFINE_MS },
  );
  if (!page.includes(`data-template-name="${type}"`)) throw new Error(`no form for ${type}`);
  return definition.parse(told.get(type));
}

/** Keys that a page or a script asks for by name; those that it puts together are not among them. */
function wordsUsed(text: string): string[] {
  const inPage = [...text.matchAll(/data-i18n="([^"]+)"/g)].flatMap(([, keys = '']) =>
    keys.split(';').map((key) => key.replace(/^\[[a-z]+\]/, '')),
  );
  const inScript = [...text.matchAll(/(?:this|RED)\._\(\s*'([^':]+)'/g)].map(([, key = '']) => key);
  return [...inPage, ...inScript];
}

function flat(tree: Words, path = ''): Map<string, string> {
  return new Map(
    Object.entries(tree).flatMap(([key, inner]) =>
      typeof inner === 'string' ? [[path + key, inner] as const] : [...flat(inner, `${path}${key}.`)],
    ),
  );
}

/** `__value__`, …: what is filled in. */
function blanks(text: string): string {
  return [...text.matchAll(/__[a-z]+__/gi)]
    .map(([blank]) => blank)
    .sort()
    .join();
}

function summaryOf(type: string, page: string): string | undefined {
  if (!page.includes(`data-help-name="${type}"`)) return undefined;
  const [, paragraph] = /<p>([\s\S]*?)<\/p>/.exec(page) ?? [];
  return paragraph?.replace(/<[^>]+>/g, '').replace(/\s+/g, ' ');
}

function read<T>(file: string, parse: (text: string) => T): T {
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new AppError('palette-damaged', `${file}: ${errorText(cause)}`, {
      remedy: 'Install this version again',
      cause,
    });
  }
}
