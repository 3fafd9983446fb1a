import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { parse } from '@babel/parser';
import { test } from 'tap';

const root = resolve(import.meta.dirname, '../..');
const source = join(root, 'src');

/** `adapters/mqtt`, `rtp`, …: the room of a file below src. */
function roomOf(file: string): string {
  const [first = '', second = ''] = relative(source, file).split('/');
  return first === 'adapters' ? `adapters/${second}` : first;
}

/** Files of src → the files of src that they import, type imports and dynamic ones included. */
function importsBelowSource(): Map<string, string[]> {
  const imports = new Map<string, string[]>();
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) => /(?<!\.d)\.ts$/.test(name));
  for (const name of files) {
    const file = join(source, name);
    const text = readFileSync(file, 'utf8');
    const { program } = parse(text, {
      sourceType: 'module',
      plugins: ['typescript'],
    });
    const specifiers = program.body.flatMap((statement) =>
      'source' in statement && statement.source ? [statement.source.value] : [],
    );
    // What is imported later, or as a type in place: `import('…')`.
    specifiers.push(...[...text.matchAll(/\bimport\(\s*'([^']+)'/g)].map(([, specifier = '']) => specifier));
    const local = specifiers.filter((one) => one.startsWith('.'));
    imports.set(
      file,
      local.map((one) => resolve(dirname(file), one.replace(/\.js$/, '.ts'))),
    );
  }
  return imports;
}

/** The table of ARCHITECTURE.md: rows of the form "| `room/` | what | may import |". */
function mayImport(): Map<string, string[]> {
  const rows = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8').matchAll(/^\| `([a-z]+)\/` \|[^|]*\| ([^|]*) \|$/gm);
  return new Map([...rows].map(([, room = '', list = '']) => [room, list === 'nothing' ? [] : list.split(', ')]));
}

const imports = importsBelowSource();

test('every import is one that the table of ARCHITECTURE.md allows', async (t) => {
  const table = mayImport();
  t.ok(table.size >= 14, `${table.size} rooms in the table`);
  const faults: string[] = [];
  for (const [file, targets] of imports) {
    const room = roomOf(file);
    const row = room.startsWith('adapters/') ? 'adapters' : room;
    const allowed = table.get(row);
    if (allowed === undefined) {
      faults.push(`${relative(root, file)}: ${row}/ is no room of the table`);
      continue;
    }
    for (const target of targets) {
      const other = roomOf(target);
      if (other === room || allowed.includes(other.startsWith('adapters/') ? 'adapters' : other)) {
        const betweenAdapters = row === 'adapters' && other.startsWith('adapters/') && other !== room;
        if (!betweenAdapters) continue;
      }
      faults.push(`${relative(root, file)} imports ${relative(root, target)}`);
    }
  }
  t.same(faults, []);
});

test('no file is part of an import cycle', async (t) => {
  const cycles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: string[]): void => {
    const at = path.indexOf(file);
    if (at >= 0) {
      cycles.push([...path.slice(at), file].map((one) => relative(source, one)).join(' → '));
      return;
    }
    if (done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
  t.same(cycles, []);
});

test('every import within src leads to a file, and no file is an index or a drawer', async (t) => {
  const broken = [...imports].flatMap(([file, targets]) =>
    targets
      .filter((one) => !imports.has(one) && !one.endsWith('.d.ts'))
      .map((one) => `${relative(root, file)} → ${relative(root, one)}`),
  );
  t.same(broken, []);
  t.same(
    [...imports.keys()].filter((file) => /\/(index|utils?|helpers?|common|misc)(\.ts|\/)/.test(relative(source, file))),
    [],
  );
});
