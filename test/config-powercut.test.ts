import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { ChunkStore } from '../src/adapters/slots/chunk-store.js';
import { diskOfKind } from '../src/adapters/slots/slot-disk.js';
import { SlotStore } from '../src/adapters/slots/slot-store.js';
import { countStart } from '../src/adapters/slots/start-count.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { chunkFile } from '../src/fleet/manifest.js';
import { newJob, type UpdateJournal } from '../src/fleet/update-journal.js';
import { partRelease } from '../src/lab/kind-machine.js';
import { PowerCutDisk } from '../src/lab/power-cut-disk.js';
import { JobFile } from '../src/update/job-file.js';
import { hasSeedAlone } from '../src/update/seed.js';
import type { ReleaseTarget } from '../src/update/step-context.js';
import { UpdateRun } from '../src/update/update-run.js';

const STATION = { facts: { architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: '1.4.0' } } as const;

/** Each call took 9 s of processor, and found nothing more. */
const STRIDE = 5;

type Part = Awaited<ReturnType<typeof partRelease>>;
type Behaviour = 'good' | 'mute' | 'crashing';

/** A station on a disk in memory that restarts as often as it is told to, or crashes; until the job is over. */
async function livesOn(disk: PowerCutDisk, release: Part, behaviour: Behaviour): Promise<UpdateJournal> {
  const { manifest, text, repository } = release;
  const kindDisk = diskOfKind(disk, 'config');
  for (let lives = 0; lives < 14; lives++) {
    await countStart(kindDisk);
    const slots = new SlotStore(kindDisk);
    const at = await kindDisk.readLink('current');
    const loaded = at === 'a' || at === 'b' ? at : null;
    const isOurs = loaded !== null && (await slots.read()).manifests[loaded]?.hash === manifest.hash;
    if (isOurs && behaviour === 'crashing') continue;
    const jobs = new JobFile(disk);
    let job = await jobs.read();
    if (job === null) {
      const journal = newJob({ jobId: 'job-0001', ...manifest });
      job = { journal, manifest, manifestText: text, origin: 'lab', deadlineMs: null, mayRetry: false };
      await jobs.begin(job);
    }
    const ended = Promise.withResolvers<null>();
    const target: ReleaseTarget = {
      seed: async () => [{ path: 'defaults.yaml', bytes: Buffer.from('{}\n') }],
      running: async (onDisk) => loaded ?? (hasSeedAlone(onDisk) ? onDisk.current : null),
      prove: async (proof) => (isOurs && behaviour === 'mute' && proof === 'self-test' ? 'it hears nothing' : null),
      ...{ check: async () => null, isReady: async () => true, hasKept: async () => false, settle: async () => {} },
      restart: () => {
        setImmediate(() => ended.resolve(null));
        return new Promise(() => {});
      },
    };
    const run = new UpdateRun({
      ...{ job, jobs, disk: kindDisk, slots, chunks: new ChunkStore(kindDisk, null), target },
      ...{ station: { ...STATION, noise: () => null, untilQuiet: async () => {} } },
      ...{ clock: systemClock, logger: silentLogger, told: () => {} },
      fetch: async ({ id }) => readFileSync(join(repository.folder, chunkFile(id))),
    });
    const journal = await Promise.race([run.run(), ended.promise]);
    if (journal !== null) return journal;
  }
  throw new Error('it comes to no end');
}

test('however the power goes while defaults are installed, the job comes to its end and a good slot is current', async (t) => {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'entryphone-cuts-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const release = await partRelease(dir, 'config');
  let cases = 0;
  const faults: string[] = [];
  for (const behaviour of ['good', 'mute', 'crashing'] as const) {
    for (let cutAt = 1 + (cases % STRIDE), isCut = true; isCut; cutAt += STRIDE) {
      const disk = new PowerCutDisk();
      disk.cutAt = cutAt;
      isCut = await livesOn(disk, release, behaviour).then(
        () => false,
        (error) => {
          if (disk.calls < cutAt) throw error;
          return true;
        },
      );
      for (const changes of new Set([0, disk.unsyncedChanges])) {
        const left = disk.after({ changes, content: cutAt % 2 === 0 ? 'lost' : 'torn' });
        const { state, reason } = await livesOn(left, release, behaviour);
        const { state: slots, current } = await new SlotStore(diskOfKind(left, 'config')).read();
        const here = slots.slots[current];
        const version = here.is === 'whole' && here.isConfirmed ? here.version : here.is;
        const told = `${state} ${reason} ${version} ${slots.trial === null ? '' : 'on trial'}`.trim();
        const expected = {
          good: /^succeeded null 1\.0\.0$/,
          mute: /^failed (?:it hears nothing|not confirmed after 3 starts) 0\.0\.0$/,
          crashing: /^failed not confirmed after 3 starts 0\.0\.0$/,
        };
        if (!expected[behaviour].test(told)) faults.push(`${behaviour}, cut at ${cutAt}, ${changes} kept: ${told}`);
        cases += 1;
      }
    }
  }
  t.same(faults, [], `${cases} cases`);
  t.ok(cases > 200, `${cases} cases`);
});
