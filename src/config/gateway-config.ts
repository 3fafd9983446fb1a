import { dirname, resolve } from 'node:path';
import * as z from 'zod';
import { deepFreeze } from './load.js';
import { id, portNumber, rtpSchema } from './schema.js';
import { ConfigError, type ConfigFault, check, readYaml } from './yaml-file.js';

/** `{station}@{site}` */
const address = z.string().regex(/^[a-z0-9-]{1,64}@[a-z0-9-]{1,64}$/, 'must be {station}@{site}');

/** The gateway's configuration, in YAML. Paths that are not absolute are meant from the file's own folder. */
export const gatewaySchema = z.strictObject({
  http: z.strictObject({ port: portNumber.default(8_080).describe("on this machine's loopback alone") }).prefault({}),
  rtp: rtpSchema
    .refine((rtp) => !['0.0.0.0', '::'].includes(rtp.address), {
      message: 'must be one address, which stations are told to send to',
      path: ['address'],
    })
    .describe('where stations reach the room workers by UDP; each party of a call has a port of its own'),
  workers: z
    .strictObject({
      count: z.int().min(1).max(32).default(2).describe('about one for a core'),
      memoryMib: z.int().min(16).max(4_096).default(256).describe('a worker that holds more is replaced'),
    })
    .prefault({}),
  mqtt: z.strictObject({
    url: z.url({ protocol: /^mqtts?$/ }).describe("mqtts://host:port of the cloud's broker"),
    ca: z.string().min(1),
    cert: z.string().min(1),
    key: z.string().min(1),
  }),
  sites: z
    .record(
      id,
      z.strictObject({
        stations: z.record(
          id,
          z.strictObject({
            name: z.string().min(1).max(80),
            numbers: z.array(z.string().max(32)).default([]),
            mayCall: z.array(address).optional(),
          }),
        ),
      }),
    )
    .describe('who can be called from other sites, and whom each may call (all, where it is left out)'),
});
export type GatewayConfig = z.infer<typeof gatewaySchema>;

/** @throws ConfigError with every fault of the file */
export function loadGatewayConfig(file: string): Readonly<GatewayConfig> {
  const faults: ConfigFault[] = [];
  const raw = readYaml(file, faults);
  const config = raw === undefined ? undefined : check(gatewaySchema, raw, file, faults);
  for (const [site, { stations }] of Object.entries(config?.sites ?? {})) {
    for (const [station, { mayCall }] of Object.entries(stations)) {
      for (const [index, callee] of (mayCall ?? []).entries()) {
        const [other = '', at = ''] = callee.split('@');
        if (config?.sites[at]?.stations[other] !== undefined) continue;
        const path = `sites.${site}.stations.${station}.mayCall.${index}`;
        faults.push({ file, path, text: `${callee} is no station of the directory` });
      }
    }
  }
  if (config === undefined || faults.length > 0) throw new ConfigError(faults);
  const absolute = (path: string) => resolve(dirname(file), path);
  const { url, ca, cert, key } = config.mqtt;
  return deepFreeze({ ...config, mqtt: { url, ca: absolute(ca), cert: absolute(cert), key: absolute(key) } });
}
