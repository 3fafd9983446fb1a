import { dirname, resolve } from 'node:path';
import * as z from 'zod';
import { deepFreeze } from './load.js';
import { id } from './schema.js';
import { ConfigError, type ConfigFault, check, readYaml } from './yaml-file.js';

/** The fleet manager's configuration, in YAML. Paths that are not absolute are meant from the file's own folder. */
export const managerSchema = z.strictObject({
  mqtt: z
    .strictObject({
      url: z.url({ protocol: /^mqtts?$/ }).describe("mqtts://host:port of a site's broker, or of the cloud's"),
      ca: z.string().min(1),
      cert: z.string().min(1).describe('with the name fleet-manager'),
      key: z.string().min(1),
    })
    .describe('the broker that stations are reached by'),
  site: id
    .optional()
    .describe('the one whose broker it is; without it every site of a broker, which NATS lets nobody ask for'),
  repository: z
    .strictObject({
      folder: z.string().min(1).describe('releases, chunks and metadata (entryphone release publish)'),
      keys: z
        .string()
        .min(1)
        .optional()
        .describe('folder with the keys of timestamp and snapshot, by which news are vouched for each day'),
      passphraseFile: z.string().min(1).optional().describe('what those keys are opened with'),
    })
    .optional()
    .describe('what is served to stations that reach no web server; without it nobody can be updated'),
  state: z.string().min(1).describe('folder for stations, jobs, the audit, and the key that signs orders'),
  run: z.string().min(1).describe('folder for the socket of entryphone fleet'),
});
export type ManagerConfig = z.infer<typeof managerSchema>;

/** @throws ConfigError with every fault of the file */
export function loadManagerConfig(file: string): Readonly<ManagerConfig> {
  const faults: ConfigFault[] = [];
  const raw = readYaml(file, faults);
  const config = raw === undefined ? undefined : check(managerSchema, raw, file, faults);
  if (config === undefined || faults.length > 0) throw new ConfigError(faults);
  const at = (path: string): string => resolve(dirname(file), path);
  const { mqtt, site, repository, state, run } = config;
  return deepFreeze({
    mqtt: { url: mqtt.url, ca: at(mqtt.ca), cert: at(mqtt.cert), key: at(mqtt.key) },
    ...(site === undefined ? {} : { site }),
    ...(repository === undefined
      ? {}
      : {
          repository: {
            folder: at(repository.folder),
            ...(repository.keys === undefined ? {} : { keys: at(repository.keys) }),
            ...(repository.passphraseFile === undefined ? {} : { passphraseFile: at(repository.passphraseFile) }),
          },
        }),
    state: at(state),
    run: at(run),
  });
}
