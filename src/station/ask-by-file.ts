import { writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeFolder } from '../core/folder.js';

/**
 * Asks by a file for what the station may not order itself: a systemd path unit sees that it changes.
 * @param file in a folder that the station alone writes to; no other process can put a link there before it
 * @throws AppError `folder-unusable`; the disk's errors
 */
export function askByFile(file: string, text: string): void {
  // On a board it is there from the boot on (entryphone.tmpfiles.conf).
  makeFolder(dirname(file), 0o755);
  writeFileSync(file, text, { mode: 0o644 });
}
