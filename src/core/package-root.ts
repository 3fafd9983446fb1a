import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder that this program was installed in, or checked out to: the nearest above that has a package.json. */
export const packageRoot = rootAbove(import.meta.dirname);

function rootAbove(folder: string): string {
  const above = dirname(folder);
  return above === folder || existsSync(join(folder, 'package.json')) ? folder : rootAbove(above);
}
