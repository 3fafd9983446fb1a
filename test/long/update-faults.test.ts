import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Test, test } from 'tap';
import { powerCut } from '../../src/lab/cut-off-disk.js';
import type { LabRelease, ReleaseName } from '../../src/lab/lab-releases.js';
import { detachMounts, withOwnMounts } from '../../src/lab/own-mounts.js';
import { PoweredSite, type Report } from '../../src/lab/powered-site.js';
import { inTime } from '../../src/lab/scenario.js';

const MARK = 'ENTRYPHONE_TEST_OWN_MOUNTS';
/** Two minutes of it are for processes that do not come. */
const MOST_JOB_MS = 480_000;
/** Enough for the journal, and for no release. */
const LEFT_BYTES = 2_000_000;

const isRoot = process.getuid?.() === 0;
if (isRoot && process.env[MARK] === undefined) {
  // Mounts of its own: the disk, and what is read-only of it.
  const command = [process.execPath, ...process.execArgv, fileURLToPath(import.meta.url)];
  const env = { ...process.env, [MARK]: '1' };
  const { status } = spawnSync('unshare', withOwnMounts(command), { env, stdio: 'inherit' });
  process.exit(status ?? 1);
}

async function placeOf<N extends ReleaseName>(
  t: Test,
  names: readonly N[],
  first: N,
  flows: boolean,
): Promise<PoweredSite<N>> {
  const dir = mkdtempSync('/tmp/ep-faults-');
  let place: PoweredSite<N> | undefined;
  t.teardown(async () => {
    const log = join(dir, 'site/door.log');
    if (!t.passing() && existsSync(log)) t.comment(readFileSync(log, 'utf8').slice(-6_000));
    await place?.stop();
    detachMounts(dir);
    rmSync(dir, { recursive: true, force: true });
  });
  place = await PoweredSite.start({ dir, log: (text) => t.comment(text) }, { names, first, canMount: true, flows });
  return place;
}

/** A job to its end; then somebody presses the bell. */
async function updated(
  place: Pick<PoweredSite, 'order' | 'station'>,
  release: LabRelease,
): Promise<Report & { by: string | null }> {
  const { ended } = await place.order(release);
  const { state, reason } = await inTime(ended, MOST_JOB_MS, release.manifest.version);
  return { state, reason, ...(await place.station.answered()) };
}

test('whatever a release or a disk does, the bell is answered by a good release, and the report says what happened', {
  skip: !isRoot && 'needs root, for mounts of its own',
}, async (t) => {
  t.setTimeout(900_000);
  const names = ['smallOld', 'smallLine', 'smallWithoutMedia', 'smallHalf', 'smallCrashing'] as const;
  const place = await placeOf(t, names, 'smallOld', false);
  const { made, slots } = place;
  const run = (release: LabRelease) => updated(place, release);

  t.comment('the disk fills up in the middle of it');
  const unpacking = await powerCut(null, {
    folder: slots,
    name: 'job.json',
    texts: ['"at":{"do":"unpack",', '"isDone":false'],
  });
  const { ended } = await place.order(made.smallLine);
  await inTime(unpacking.come, MOST_JOB_MS, 'it unpacks');
  const { bfree, bsize } = statfsSync(slots);
  const filler = join(slots, '../filler');
  spawnSync('fallocate', ['-l', String(bfree * bsize - LEFT_BYTES), filler]);
  t.match(await inTime(ended, MOST_JOB_MS, 'the full disk'), { state: 'failed', reason: 'the disk is full' });
  t.match(await place.station.answered(), { by: '9.0.0' });
  const { ended: tooFull } = await place.order(made.smallLine);
  t.match(await inTime(tooFull, MOST_JOB_MS, 'no room'), {
    state: 'failed',
    // The second where not even what the job says of itself has room.
    reason: /it needs \d+ MB more on the disk|the disk is full/,
  });
  rmSync(filler);

  t.comment('then there is room');
  t.match(await run(made.smallLine), { state: 'succeeded', reason: null, by: '9.1.0' });

  t.comment('the slot is read-only');
  const old = join(slots, 'a');
  // Where the station is: the right to write is a mount's own.
  const mounts = (...words: string[]): number | null => {
    const [program = '', ...rest] = place.site.boards.door.wrap(words);
    return spawnSync(program, rest).status;
  };
  t.equal(mounts('mount', '--bind', old, old), 0);
  t.equal(mounts('mount', '-o', 'remount,bind,ro', old), 0);
  t.match(await run(made.smallCrashing), { state: 'failed', reason: 'the slot is read-only', by: '9.1.0' });
  t.equal(mounts('umount', old), 0);

  t.comment('half a release');
  t.match(await run(made.smallHalf), { state: 'failed', reason: 'not whole', by: '9.1.0' });

  t.comment('its media process ends at once');
  t.match(await run(made.smallWithoutMedia), {
    ...{ state: 'failed', reason: /not all processes became ready: media does not run/, by: '9.1.0' },
  });
  t.match(await place.station.release(), { version: '9.1.0', isConfirmed: true });
});

test('a release whose flows crash is left again', {
  skip: !isRoot && 'needs root, for mounts of its own',
}, async (t) => {
  t.setTimeout(900_000);
  const names = ['flowsOld', 'flowsCrashing'] as const;
  const place = await placeOf(t, names, 'flowsOld', true);
  t.match(await updated(place, place.made.flowsCrashing), {
    ...{ state: 'failed', reason: /not all processes (became ready|stayed up): flows do not run/, by: '9.6.0' },
  });
});
