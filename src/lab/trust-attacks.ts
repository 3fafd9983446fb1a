import { join } from 'node:path';
import type { Attack } from './attack.js';
import { another, DAY_MS, described, FIRMWARE, FLOWS, manifest, nextVersion, online, trusting } from './trust-bench.js';

/** What is signed, and serves another time, another file, or no end: by whoever has the network, or online keys as well. */
export const TRUST_ATTACKS: readonly Attack[] = [
  {
    name: 'rollback-timestamp',
    does: 'serves the timestamp of yesterday',
    code: 'trust-rollback',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('timestamp');
      bench.pass(DAY_MS);
      await bench.publish();
      await trust.refresh();
      bench.serve('metadata/timestamp.json', old);
      return () => trust.refresh();
    },
  },
  {
    name: 'rollback-snapshot',
    does: 'has the key of timestamp, and names an older snapshot',
    code: 'trust-rollback',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('snapshot');
      await another(bench);
      await trust.refresh();
      await bench.forgeTimestamp({ version: 1, ...described(old) }, bench.key('timestamp'));
      return () => trust.refresh();
    },
  },
  {
    name: 'rollback-targets',
    does: 'has the keys of timestamp and snapshot, and names older targets',
    code: 'trust-rollback',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('targets');
      await another(bench);
      await trust.refresh();
      await bench.forgeAbove({ 'targets.json': { version: 1, ...described(old) } }, online(bench));
      return () => trust.refresh();
    },
  },
  {
    name: 'rollback-root',
    does: 'serves the first root as the second',
    code: 'trust-rollback',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      bench.serve('metadata/2.root.json', await bench.published('root', 1));
      return () => trust.refresh();
    },
  },
  {
    name: 'freeze',
    does: 'serves the same timestamp for ever',
    code: 'trust-expired',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      bench.pass(8 * DAY_MS);
      return () => trust.refresh();
    },
  },
  {
    name: 'freeze-with-a-clock-of-1970',
    does: 'serves the same timestamp to a station whose clock fell back to 1970, twice, and that was up for eight days',
    code: 'trust-expired',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      bench.setClock(0);
      // Nothing is refused because of the clock.
      await trust.refresh();
      bench.pass(8 * DAY_MS);
      await trust.refresh().catch(() => {});
      bench.restart();
      bench.setClock(0);
      const station = await bench.trust();
      return () => station.refresh();
    },
  },
  {
    name: 'freeze-of-a-new-station-with-a-clock-of-1970',
    does: 'serves metadata of last month to a station that was made today and has no time',
    code: 'trust-expired',
    prepare: async (dir) => {
      const { bench } = await trusting(dir);
      const old = await bench.published('timestamp');
      bench.pass(30 * DAY_MS);
      await bench.rotate('root');
      bench.serve('metadata/timestamp.json', old);
      bench.setClock(0);
      const station = await bench.open(join(dir, 'new'), 2);
      return () => station.refresh();
    },
  },
  {
    name: 'fast-forward',
    does: 'had the online keys, and signed version 1,000,000; they were rotated, the station recovered, it comes again',
    code: 'trust-unsigned',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const far = 1_000_000;
      const snapshot = await bench.forge('snapshot', (signed) => nextVersion(signed, { version: far }), [
        bench.key('snapshot'),
      ]);
      const meta = { 'snapshot.json': { version: far, ...described(snapshot) } };
      const forgeTimestamp = (version: number) =>
        bench.forge('timestamp', (signed) => nextVersion(signed, { version, meta }), [stolen.timestamp]);
      const stolen = online(bench);
      bench.serve(`metadata/${far}.snapshot.json`, snapshot);
      bench.serve('metadata/timestamp.json', await forgeTimestamp(far));
      const { versions } = await trust.refresh();
      if (versions.timestamp !== far) throw new Error('the attack did not take hold');
      bench.serveNothingElse();
      await bench.rotate('timestamp');
      await bench.rotate('snapshot');
      const after = await trust.refresh();
      if ((after.versions.timestamp ?? far) >= 100) throw new Error('the station did not recover');
      bench.serve(`metadata/${far}.snapshot.json`, snapshot);
      bench.serve('metadata/timestamp.json', await forgeTimestamp(far + 1));
      return () => trust.refresh();
    },
  },
  {
    name: 'mix-and-match-targets',
    does: 'serves the targets of another day under the name of those that the snapshot names',
    code: 'trust-mixed',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('targets');
      await another(bench);
      bench.serve('metadata/2.targets.json', old);
      return () => trust.refresh();
    },
  },
  {
    name: 'mix-and-match-snapshot',
    does: 'serves the snapshot of another day under the name of the one that the timestamp names',
    code: 'trust-mixed',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('snapshot');
      await another(bench);
      bench.serve('metadata/2.snapshot.json', old);
      return () => trust.refresh();
    },
  },
  {
    name: 'mix-and-match-flows',
    does: 'serves the flows of another day under the name of those that the snapshot names',
    code: 'trust-mixed',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const old = await bench.published('flows');
      await another(bench, 'flows/1.3.0/any/manifest.json');
      bench.serve('metadata/2.flows.json', old);
      return () => trust.target(FLOWS);
    },
  },
  {
    name: 'arbitrary-package',
    does: 'serves another manifest of the same length',
    code: 'trust-wrong-target',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const target = await trust.target(FIRMWARE);
      bench.serve(FIRMWARE, manifest('firmware', '6.6.6'));
      return () => trust.fetchTarget(target);
    },
  },
  {
    name: 'older-package-as-newer',
    does: 'has the key of flows, and signs old flows as new ones',
    code: 'trust-wrong-target',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const path = 'flows/6.6.6/any/manifest.json';
      await bench.repository.addTargets([{ path, bytes: manifest('flows') }]);
      await bench.publish();
      bench.serve(path, manifest('flows'));
      return () => trust.manifest(path);
    },
  },
  {
    name: 'truncated-package',
    does: 'serves the first half of the manifest',
    code: 'trust-wrong-target',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const target = await trust.target(FIRMWARE);
      bench.serve(FIRMWARE, manifest('firmware').subarray(0, 10));
      return () => trust.fetchTarget(target);
    },
  },
  {
    name: 'endless-data',
    does: 'serves a timestamp that does not end',
    code: 'trust-too-large',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      bench.serve('metadata/timestamp.json', async () => endless());
      return () => trust.refresh();
    },
  },
  {
    name: 'endless-package',
    does: 'serves a manifest that does not end',
    code: 'trust-too-large',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      const target = await trust.target(FIRMWARE);
      bench.serve(FIRMWARE, async () => endless());
      return () => trust.fetchTarget(target);
    },
  },
  {
    name: 'endless-by-a-signed-length',
    does: 'has the online keys, names targets of ten gigabytes, and serves them',
    code: 'trust-too-large',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      await bench.forgeAbove({ 'targets.json': { version: 2, length: 10_000_000_000 } }, online(bench));
      bench.serve('metadata/2.targets.json', async () => endless());
      return () => trust.refresh();
    },
  },
  {
    name: 'slow-fetch',
    does: 'serves nothing, and never ends',
    code: 'trust-too-slow',
    prepare: async (dir) => {
      const { bench } = await trusting(dir);
      const trust = await bench.impatient();
      bench.serve('metadata/timestamp.json', async () => never());
      return () => trust.refresh();
    },
  },
  {
    name: 'slow-answer',
    does: 'never answers',
    code: 'trust-too-slow',
    prepare: async (dir) => {
      const { bench } = await trusting(dir);
      const trust = await bench.impatient();
      bench.serve('metadata/timestamp.json', () => new Promise(() => {}));
      return () => trust.refresh();
    },
  },
  {
    name: 'corrupted-json',
    does: 'serves half a timestamp',
    code: 'trust-malformed',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      bench.serve('metadata/timestamp.json', (await bench.published('timestamp')).subarray(0, 200));
      return () => trust.refresh();
    },
  },
  {
    name: 'metadata-left-out',
    does: 'serves no snapshot',
    code: 'trust-missing',
    prepare: async (dir) => {
      const { bench, trust } = await trusting(dir);
      await another(bench);
      bench.serve('metadata/2.snapshot.json', async () => undefined);
      return () => trust.refresh();
    },
  },
  {
    name: 'path-that-leads-out',
    does: 'orders a target outside the repository',
    code: 'trust-target-unknown',
    prepare: async (dir) => {
      const { trust } = await trusting(dir);
      return () => trust.target('releases/../../../etc/shadow');
    },
  },
];

async function* endless(): AsyncGenerator<Uint8Array> {
  for (;;) yield Buffer.alloc(65_536, 0x20);
}

/** Ends with the attack's process alone: whoever waits for it must give up by itself. */
async function* never(): AsyncGenerator<Uint8Array> {
  await new Promise(() => {});
  yield Buffer.alloc(0);
}
