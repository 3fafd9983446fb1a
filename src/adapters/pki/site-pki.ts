import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../core/clock.js';
import { createDurably, writeDurably } from '../../core/durable-file.js';
import { AppError } from '../../core/errors.js';
import { MANAGER_ID, MEDIA_SUFFIX, mediaIdentity } from '../../protocol/topics.js';
import { type Identity, makeAuthority, makeLeaf, type Subject } from './certificate.js';

/** CN of the switchboard's certificate; no station may have this id. */
export const SWITCHBOARD_ID = 'switchboard';

/** PEM files. `cert` and `key` are one file that holds both, so that they can never be of two makings. */
export interface Credentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface SitePki {
  readonly caPath: string;
  readonly server: Credentials;
  /** Of a station of the directory or of `switchboard`, of the media identity of either, or of `fleet-manager`. @throws AppError `unknown-station` */
  credentialsOf(id: string): Credentials;
}

/** Replaced when less than this remains. */
const RENEW_BEFORE_MS = 365 * 86_400_000;

/** A site's; see `ensurePki`. @throws AppError also `config-invalid` for a reserved id */
export async function ensureSitePki(options: {
  dir: string;
  site: string;
  stations: readonly string[];
  /** The server's own, besides localhost. */
  addresses: readonly string[];
  clock?: Clock;
}): Promise<SitePki> {
  const { stations, site, ...rest } = options;
  const reserved = stations.find((id) => id === SWITCHBOARD_ID || id === MANAGER_ID || id.endsWith(MEDIA_SUFFIX));
  if (reserved !== undefined) {
    throw new AppError('config-invalid', `A station can't have the id "${reserved}": the site itself has it`, {
      remedy: 'Give the station another id.',
    });
  }
  const clients = [MANAGER_ID, ...[SWITCHBOARD_ID, ...stations].flatMap((one) => [one, mediaIdentity(one)])];
  return ensurePki({ ...rest, owner: site, clients });
}

/**
 * An authority and everybody's certificates, in `dir`: `authority.pem` (with its key: stays here), `ca.pem`, `server.pem`,
 * `clients/{id}.pem`. What is missing, near its end, or made by another authority is made anew; the rest is kept. May be
 * called by several processes at once.
 * @throws AppError `pki-damaged` for a file that is not what its name says
 */
export async function ensurePki(options: {
  dir: string;
  /** Whose authority it is: a site's id, or `cloud`. */
  owner: string;
  /** Common names. */
  clients: readonly string[];
  /** The server's own, besides localhost. */
  addresses: readonly string[];
  clock?: Clock;
}): Promise<SitePki> {
  const { dir, owner } = options;
  const nowMs = (options.clock ?? systemClock).wallMs();
  const authority = await ensureAuthority(join(dir, 'authority.pem'), owner, nowMs);
  const caPath = join(dir, 'ca.pem');
  if ((await readIfThere(caPath)) !== authority.certificatePem) await writeDurably(caPath, authority.certificatePem);

  const ensure = async (path: string, subject: Subject): Promise<Credentials> => {
    const there = await readIdentity(path, 'Remove it; a new one is made at the next start.');
    if (there === undefined || !isGood(there, authority, subject, nowMs)) {
      await writeDurably(path, textOf(await makeLeaf(authority, subject, nowMs)));
    }
    return { ca: caPath, cert: path, key: path };
  };

  const addresses = [...new Set(['localhost', '127.0.0.1', '::1', ...options.addresses])];
  const server = await ensure(join(dir, 'server.pem'), { commonName: `broker of ${owner}`, use: 'server', addresses });
  const clients = new Map<string, Credentials>();
  for (const id of options.clients) {
    clients.set(id, await ensure(join(dir, 'clients', `${id}.pem`), { commonName: id, use: 'client' }));
  }
  return {
    caPath,
    server,
    credentialsOf: (id) => {
      const credentials = clients.get(id);
      if (credentials !== undefined) return credentials;
      throw new AppError('unknown-station', `${owner} has no certificate for "${id}"`, {
        remedy: 'Add it to siteHost.stations.',
      });
    },
  };
}

async function ensureAuthority(path: string, site: string, nowMs: number): Promise<Identity> {
  const remedy =
    'Restore it from a backup; without one, remove the whole folder and give every station its new certificate.';
  const there = await readIdentity(path, remedy);
  if (there === undefined) {
    const made = await makeAuthority(site, nowMs);
    if (await createDurably(path, textOf(made))) return made;
    return ensureAuthority(path, site, nowMs);
  }
  const certificate = new X509Certificate(there.certificatePem);
  if (!certificate.ca) throw damaged(path, 'it is no authority', remedy);
  if (certificate.validToDate.getTime() - nowMs > RENEW_BEFORE_MS) return there;
  const renewed = await makeAuthority(site, nowMs, there.keyPem);
  await writeDurably(path, textOf(renewed));
  return renewed;
}

/** Whether `identity` is of this authority, for this subject, and has time left. */
function isGood(identity: Identity, authority: Identity, subject: Subject, nowMs: number): boolean {
  const certificate = new X509Certificate(identity.certificatePem);
  const issuer = new X509Certificate(authority.certificatePem);
  if (!certificate.verify(issuer.publicKey) || certificate.subject !== `CN=${subject.commonName}`) return false;
  if (certificate.validToDate.getTime() - nowMs <= RENEW_BEFORE_MS) return false;
  return (subject.addresses ?? []).every(
    (address) => (isIP(address) === 0 ? certificate.checkHost(address) : certificate.checkIP(address)) !== undefined,
  );
}

/** @returns undefined where there is no such file. @throws AppError `pki-damaged` */
async function readIdentity(path: string, remedy: string): Promise<Identity | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  const certificatePem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/.exec(text)?.[0];
  const keyPem = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n/.exec(text)?.[0];
  if (certificatePem === undefined || keyPem === undefined) {
    throw damaged(path, 'it lacks a whole certificate and key', remedy);
  }
  try {
    if (new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem)))
      return { certificatePem, keyPem };
  } catch (error) {
    throw damaged(path, error instanceof Error ? error.message : String(error), remedy);
  }
  throw damaged(path, 'key and certificate do not belong together', remedy);
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function textOf(identity: Identity): string {
  return identity.certificatePem + identity.keyPem;
}

function damaged(path: string, why: string, remedy: string): AppError {
  return new AppError('pki-damaged', `${path} is damaged: ${why}`, { remedy });
}
