import { existsSync, writeFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join, resolve } from 'node:path';
import type { Command } from 'commander';
import { stringify } from 'yaml';
import { cloudAcl, GATEWAY_ID, mosquittoConfig, siteIdentity } from '../../adapters/broker/mosquitto-config.js';
import { ensurePki } from '../../adapters/pki/site-pki.js';
import { AppError } from '../../core/errors.js';
import { makeFolder } from '../../core/folder.js';
import { ID_PATTERN, MANAGER_ID } from '../../protocol/topics.js';
import { note } from './output.js';

interface PrepareOptions {
  readonly site: string[];
  readonly address: string[];
  readonly port: string;
}

export function addGatewayCommand(program: Command): void {
  program
    .command('gateway')
    .description('what joins several sites (docs/gateway.md)')
    .command('prepare <dir>')
    .description(
      "makes the cloud's certificates, its broker's configuration, and a gateway.yaml to fill in; keeps what is there",
    )
    .requiredOption('--site <id...>', 'the sites that it joins')
    .requiredOption(
      '--address <name...>',
      "names or addresses that the cloud's broker answers to, the gateway's own first",
    )
    .option('--port <number>', "of the cloud's broker", '8883')
    .action(prepare);
}

async function prepare(folder: string, options: PrepareOptions): Promise<void> {
  const { site: sites, address: addresses } = options;
  const port = Number(options.port);
  const wrong = sites.find((site) => !ID_PATTERN.test(site));
  if (wrong !== undefined) throw new AppError('usage', `${wrong} is no id of a site`);
  if (!(Number.isInteger(port) && port > 0 && port < 65_536)) throw new AppError('usage', `${options.port} is no port`);
  const dir = resolve(folder);
  const paths = { acl: join(dir, 'acl'), store: join(dir, 'store') };
  makeFolder(paths.store);
  const clients = [GATEWAY_ID, MANAGER_ID, ...sites.map(siteIdentity)];
  const pki = await ensurePki({ dir: join(dir, 'pki'), owner: 'cloud', clients, addresses });
  const broker = mosquittoConfig({ address: '0.0.0.0', port }, { ...pki.server, ...paths }, undefined);
  writeFileSync(paths.acl, cloudAcl(sites), { mode: 0o600 });
  writeFileSync(join(dir, 'mosquitto.conf'), broker, { mode: 0o600 });
  const config = join(dir, 'gateway.yaml');
  if (!existsSync(config))
    writeFileSync(config, stringify(initialConfig(options, pki.credentialsOf(GATEWAY_ID), port)));
  note(`the cloud's broker: mosquitto -c ${join(dir, 'mosquitto.conf')}`);
  note(`the gateway: fill in ${config}, then .toolchain/bin/node dist/src/bin/gateway.js --config ${config}`);
  for (const site of sites) {
    note(`site ${site}: give its site host ${pki.caPath} and ${pki.credentialsOf(siteIdentity(site)).cert}`);
  }
}

function initialConfig(
  { site: sites, address: [own = '127.0.0.1'] }: PrepareOptions,
  { ca, cert, key }: { ca: string; cert: string; key: string },
  port: number,
): object {
  return {
    rtp: { address: isIP(own) === 0 ? ownAddress() : own, ports: { from: 40_000, to: 40_999 } },
    mqtt: { url: `mqtts://${own}:${port}`, ca, cert, key },
    sites: Object.fromEntries(sites.map((site) => [site, { stations: {} }])),
  };
}

/** A first guess: stations send their packets there. */
function ownAddress(): string {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1';
}
