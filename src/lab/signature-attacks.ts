import { join } from 'node:path';
import type { Attack } from './attack.js';
import { described, manifest, nextVersion, online, signedBy, TrustBench, trusting } from './trust-bench.js';

/** What is not signed, or by somebody who may not. */
export const SIGNATURE_ATTACKS: readonly Attack[] = [
  {
    name: 'wrong-role-firmware-by-flows',
    does: 'has the key of flows, and signs a firmware',
    code: 'trust-target-unknown',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const path = 'releases/6.6.6/arm64/manifest.json';
      await forgeFlows(bench, path, manifest('firmware', '6.6.6'));
      return () => trust.target(path);
    },
  },
  {
    name: 'wrong-role-firmware-as-flows',
    does: 'has the key of flows, and signs a firmware in the place of flows',
    code: 'trust-wrong-role',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const path = 'flows/6.6.6/any/manifest.json';
      await forgeFlows(bench, path, manifest('firmware', '6.6.6'));
      bench.serve(path, manifest('firmware', '6.6.6'));
      return () => trust.manifest(path);
    },
  },
  {
    name: 'wrong-role-targets-by-timestamp',
    does: 'has the online keys, and signs targets with them',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      await forgeTargets(bench, [bench.key('timestamp'), bench.key('snapshot')]);
      return () => trust.target('releases/6.6.6/arm64/manifest.json');
    },
  },
  {
    name: 'wrong-role-snapshot-as-timestamp',
    does: 'serves the snapshot as the timestamp',
    code: 'trust-wrong-role',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      bench.serve('metadata/timestamp.json', await bench.published('snapshot'));
      return () => trust.refresh();
    },
  },
  {
    name: 'threshold-not-met',
    does: 'has one key of root, of which two must sign, and signs a root',
    code: 'trust-threshold',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const root = await bench.forge('root', (signed) => nextVersion(signed), [bench.key('root')]);
      bench.serve('metadata/2.root.json', root);
      return () => trust.refresh();
    },
  },
  {
    name: 'threshold-by-one-key-twice',
    does: 'has one key of root, and signs with it twice',
    code: 'trust-malformed',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const root = await bench.forge('root', (signed) => nextVersion(signed), [bench.key('root')]);
      const { signed, signatures } = JSON.parse(root.toString('utf8'));
      bench.serve('metadata/2.root.json', JSON.stringify({ signed, signatures: [...signatures, ...signatures] }));
      return () => trust.refresh();
    },
  },
  {
    name: 'root-of-new-keys-alone',
    does: 'signs a root with keys of its own, which it names',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const other = await TrustBench.make(join(dir, 'other'), { isOther: true });
      const signed = JSON.parse((await other.published('root')).toString('utf8')).signed;
      nextVersion(signed);
      bench.serve('metadata/2.root.json', signedBy('root', signed, other.keys.root));
      return () => trust.refresh();
    },
  },
  {
    name: 'revoked-key',
    does: 'has a key of targets that was rotated away, and both online keys',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const revoked = await bench.rotate('targets');
      await trust.refresh();
      await forgeTargets(bench, [revoked]);
      return () => trust.target('releases/6.6.6/arm64/manifest.json');
    },
  },
  {
    name: 'revoked-key-while-the-rest-is-held-back',
    does: 'has an online key that was rotated away; the station saw the new root, and then nothing else but what is of old',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('timestamp');
      await bench.rotate('timestamp');
      bench.serve('metadata/timestamp.json', 'held back');
      await trust.refresh().catch(() => {});
      bench.restart();
      // The new root too is hidden now: the station must have kept it.
      bench.serve('metadata/2.root.json', async () => undefined);
      bench.serve('metadata/timestamp.json', old);
      const station = await bench.trust();
      return () => station.refresh();
    },
  },
  {
    name: 'unsigned',
    does: 'serves targets without a signature',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      await forgeTargets(bench, []);
      return () => trust.refresh();
    },
  },
  {
    name: 'signature-of-other-content',
    does: 'changes what was signed, and leaves the signature',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const { signed, signatures } = JSON.parse((await bench.published('timestamp')).toString('utf8'));
      nextVersion(signed);
      bench.serve('metadata/timestamp.json', JSON.stringify({ signed, signatures }));
      return () => trust.refresh();
    },
  },
  {
    name: 'another-repository',
    does: 'serves the whole metadata of a repository of its own',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench } = await trusting(dir);
      const other = await TrustBench.make(join(dir, 'other'), { isOther: true });
      bench.serve('metadata/timestamp.json', await other.published('timestamp'));
      bench.serve('metadata/1.snapshot.json', await other.published('snapshot'));
      bench.serve('metadata/1.targets.json', await other.published('targets'));
      const station = await bench.open(join(dir, 'new'));
      return () => station.refresh();
    },
  },
];

async function forgeFlows(bench: TrustBench, path: string, bytes: Uint8Array): Promise<void> {
  const { length, hashes } = described(bytes);
  const forged = await bench.forge(
    'flows',
    (signed) => nextVersion(signed, { targets: { [path]: { length, hashes } } }),
    [bench.key('flows')],
  );
  bench.serve('metadata/2.flows.json', forged);
  await bench.forgeAbove({ 'flows.json': { version: 2, ...described(forged) } }, online(bench));
}

async function forgeTargets(bench: TrustBench, signers: Parameters<TrustBench['forge']>[2]): Promise<void> {
  const path = 'releases/6.6.6/arm64/manifest.json';
  const entry = described(manifest('firmware', '6.6.6'));
  const forged = await bench.forge(
    'targets',
    (signed) => nextVersion(signed, { targets: { ...signed.targets, [path]: entry } }),
    signers,
  );
  const { version } = JSON.parse(forged.toString('utf8')).signed;
  bench.serve(`metadata/${version}.targets.json`, forged);
  await bench.forgeAbove({ 'targets.json': { version, ...described(forged) } }, online(bench));
}
