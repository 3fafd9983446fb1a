import './reflect-metadata.js';
import { webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import * as x509 from '@peculiar/x509';

/** A certificate and its key, PEM in one text: the certificate first. */
export interface Identity {
  readonly certificatePem: string;
  readonly keyPem: string;
}

export interface Subject {
  /** CN: the station's id, which the broker takes as its user name. */
  readonly commonName: string;
  readonly use: 'server' | 'client';
  /** Names and addresses that a server answers to. */
  readonly addresses?: readonly string[];
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 30 * 365;
const LEAF_DAYS = 3 * 365;
/** Boards without a battery start with an old clock: nothing we make may be "not yet valid" to them. */
const NOT_BEFORE = new Date('2020-01-01T00:00:00Z');
/** What such a clock must at least be taken for when an end is set. */
const LONG_AGO_MS = Date.UTC(2026, 0, 1);
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** Makes a site's authority (ECDSA P-256), or renews its certificate under the key that it has. */
export async function makeAuthority(site: string, nowMs: number, keyPem?: string): Promise<Identity> {
  const keys = keyPem === undefined ? await newKeys() : await readKeys(keyPem);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: [{ O: ['Entryphone'] }, { CN: [`Site ${site}`] }],
      notBefore: NOT_BEFORE,
      notAfter: endOf(nowMs, AUTHORITY_DAYS),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      ],
    },
    webcrypto,
  );
  return { certificatePem: `${certificate.toString('pem')}\n`, keyPem: keyPem ?? (await exportKey(keys.privateKey)) };
}

/** Makes a certificate of `authority` and its key. */
export async function makeLeaf(authority: Identity, subject: Subject, nowMs: number): Promise<Identity> {
  const issuer = new x509.X509Certificate(authority.certificatePem);
  const keys = await newKeys();
  const names = (subject.addresses ?? []).map((value) => ({ type: isIP(value) === 0 ? 'dns' : 'ip', value }) as const);
  const certificate = await x509.X509CertificateGenerator.create(
    {
      subject: [{ CN: [subject.commonName] }],
      issuer: issuer.subjectName,
      notBefore: NOT_BEFORE,
      notAfter: endOf(nowMs, LEAF_DAYS),
      signingAlgorithm: ALGORITHM,
      signingKey: (await readKeys(authority.keyPem)).privateKey,
      publicKey: keys.publicKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([subject.use === 'server' ? SERVER_AUTH : CLIENT_AUTH]),
        await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey, false, webcrypto),
        ...(names.length > 0 ? [new x509.SubjectAlternativeNameExtension(names)] : []),
      ],
    },
    webcrypto,
  );
  return { certificatePem: `${certificate.toString('pem')}\n`, keyPem: await exportKey(keys.privateKey) };
}

function endOf(nowMs: number, days: number): Date {
  return new Date(Math.max(nowMs, LONG_AGO_MS) + days * DAY_MS);
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return `${x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY')}\n`;
}

async function readKeys(keyPem: string): Promise<webcrypto.CryptoKeyPair> {
  const privateKey = await webcrypto.subtle.importKey('pkcs8', x509.PemConverter.decodeFirst(keyPem), ALGORITHM, true, [
    'sign',
  ]);
  const { kty, crv, x, y } = await webcrypto.subtle.exportKey('jwk', privateKey);
  const publicJwk = { kty, crv, x, y } as webcrypto.JsonWebKey;
  const publicKey = await webcrypto.subtle.importKey('jwk', publicJwk, ALGORITHM, true, ['verify']);
  return { privateKey, publicKey };
}
