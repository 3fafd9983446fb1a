import { existsSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { loadManagerConfig } from '../../config/manager-config.js';
import { AppError } from '../../core/errors.js';
import { makeFolder } from '../../core/folder.js';
import { MANAGER_ID } from '../../protocol/topics.js';
import { note } from './output.js';

/** @throws AppError `usage` where there is no certificate for a manager; `config-invalid` */
export async function prepareManager(
  folder: string,
  options: { readonly url: string; readonly credentials: string; readonly site?: string; readonly repository?: string },
): Promise<void> {
  const dir = resolve(folder);
  const own = resolve(options.credentials, 'clients', `${MANAGER_ID}.pem`);
  if (!existsSync(own)) {
    throw new AppError('usage', `${own} is not there`, {
      remedy: 'The site host makes it at its start, in state/pki; the cloud: entryphone gateway prepare',
    });
  }
  makeFolder(dir);
  const file = join(dir, 'manager.yaml');
  if (!existsSync(file)) {
    const mqtt = { url: options.url, ca: resolve(options.credentials, 'ca.pem'), cert: own, key: own };
    const site = options.site === undefined ? {} : { site: options.site };
    const repository = options.repository === undefined ? {} : { repository: { folder: resolve(options.repository) } };
    writeFileSync(file, stringify({ mqtt, ...site, ...repository, state: 'state', run: 'run' }), { mode: 0o600 });
  }
  const { run } = loadManagerConfig(file);
  note(`start it: .toolchain/bin/node dist/src/bin/manager.js --config ${file}`);
  note(`then: ./entryphone fleet stations --socket ${join(run, 'manager.sock')}`);
}
