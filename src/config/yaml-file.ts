import { readFileSync, statSync } from 'node:fs';
import { LineCounter, parseDocument } from 'yaml';
import type * as z from 'zod';
import { AppError } from '../core/errors.js';

/** Where and what; `path` is dotted (`rtp.ports.from`), empty for the file as a whole. */
export interface ConfigFault {
  readonly file: string;
  readonly path: string;
  readonly text: string;
}

/** Every fault of a configuration at once; `code` is `config-invalid`. */
export class ConfigError extends AppError {
  readonly faults: readonly ConfigFault[];

  constructor(faults: readonly ConfigFault[]) {
    const lines = faults.map((fault) => `  ${fault.file}: ${fault.path === '' ? '' : `${fault.path}: `}${fault.text}`);
    super(
      'config-invalid',
      `the configuration has ${faults.length} fault${faults.length === 1 ? '' : 's'}:\n${lines.join('\n')}`,
    );
    this.faults = faults;
  }
}

/** A configuration of 64 stations is 20 KiB. */
const MOST_BYTES = 1_048_576;

/** So often a value may be named again (`*name`): more may unpack without end. */
const MOST_ALIASES = 20;

/** Faults are added to `faults`. */
export function readYaml(file: string, faults: ConfigFault[]): unknown {
  let text: string;
  try {
    const { size } = statSync(file);
    if (size > MOST_BYTES) {
      faults.push({ file, path: '', text: `is ${size} bytes; at most ${MOST_BYTES}` });
      return undefined;
    }
    text = readFileSync(file, 'utf8');
  } catch (error) {
    faults.push({ file, path: '', text: `can't be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'})` });
    return undefined;
  }
  return parseYaml(text, file, faults, MOST_ALIASES);
}

/** What a text in YAML says, an empty one `{}`. Faults are added to `faults`, with its name for the file. */
export function parseYaml(text: string, file: string, faults: ConfigFault[], mostAliases: number): unknown {
  const lines = new LineCounter();
  // Its warnings would go to stderr, between the lines of a log.
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'error' });
  if (document.errors.length > 0) {
    for (const error of document.errors) {
      faults.push({ file, path: '', text: `line ${lines.linePos(error.pos[0]).line}: ${error.message}` });
    }
    return undefined;
  }
  try {
    return document.toJS({ maxAliasCount: mostAliases }) ?? {};
  } catch (error) {
    faults.push({ file, path: '', text: (error as Error).message });
    return undefined;
  }
}

/** Faults are added to `faults`, each with its path. */
export function check<T>(schema: z.ZodType<T>, raw: unknown, file: string, faults: ConfigFault[]): T | undefined {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    const path = issue.path.map(String).join('.');
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys)
        faults.push({ file, path: path === '' ? key : `${path}.${key}`, text: 'is not a key that is known here' });
    } else {
      const isMissing = issue.code === 'invalid_type' && issue.message.endsWith('received undefined');
      faults.push({ file, path, text: isMissing ? `is missing (${issue.expected})` : issue.message });
    }
  }
  return undefined;
}
