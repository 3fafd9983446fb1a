/**
 * Makes the model that ships, and measures it: `make model`. A quarter of an hour on a busy machine.
 *
 *   main.js [--out FOLDER]     the model and its card into FOLDER, and nothing else: to compare two runs
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { stringify } from 'yaml';
import { loadModel } from '../src/adapters/onnx/onnx-model.js';
import { packageRoot } from '../src/core/package-root.js';
import { listenTo } from './held-out.js';
import { makeModel } from './make-model.js';
import { figuresOf, withFigures } from './report.js';
import { NAME, SHIPPED } from './sound-events.js';

const { values } = parseArgs({ options: { out: { type: 'string' } } });
const folder = values.out ?? join(packageRoot, 'models');
const startedMs = performance.now();
const log = (line: string): void =>
  console.error(`${((performance.now() - startedMs) / 1000).toFixed(0).padStart(4)} s  ${line}`);

const made = await makeModel(SHIPPED, log);
await mkdir(folder, { recursive: true });
await writeFile(join(folder, made.card.file), made.bytes);
await writeFile(join(folder, `${NAME}.card.yaml`), stringify(made.card, { aliasDuplicateObjects: false }));
log(`${made.card.file}: ${made.card.sizeBytes} bytes, SHA-256 ${made.card.sha256}`);
if (values.out === undefined) {
  const model = await loadModel(made);
  log('listening to what is held out');
  const heldOut = await listenTo(model, 'heldOut', SHIPPED.heldOut);
  await model.close();
  const page = join(packageRoot, 'docs/hearing.md');
  await writeFile(page, withFigures(await readFile(page, 'utf8'), figuresOf(made, heldOut, SHIPPED.heldOut)));
  log('docs/hearing.md has the figures');
}
