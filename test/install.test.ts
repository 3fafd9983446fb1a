import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { buildRelease } from '../src/adapters/releases/release-builder.js';
import { machineDisk } from '../src/adapters/slots/slot-disk.js';
import { SlotStore } from '../src/adapters/slots/slot-store.js';
import { loadBoard, loadConfig } from '../src/config/load.js';
import type { Manifest } from '../src/fleet/manifest.js';
import { chunkFile } from '../src/fleet/manifest.js';
import { carryOut } from '../src/install/carry-out.js';
import { firstRelease } from '../src/install/first-release.js';
import { SLOTS, type Step } from '../src/install/plan.js';
import { labReleases } from '../src/lab/update-machine.js';
import { ReleaseSigner } from './support/release-signer.js';

const checkout = resolve(import.meta.dirname, '../..');
const entryphone = join(checkout, 'dist/src/bin/entryphone.js');
const boards = readdirSync(join(checkout, 'device')).flatMap((name) => /^(.*)\.yaml$/.exec(name)?.[1] ?? []);

function tempRoot(t: Test): string {
  const root = mkdtempSync(join(tmpdir(), 'entryphone-install-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  return root;
}

interface Report {
  ok: boolean;
  failed: string[];
  applied: boolean;
  steps: { do: string; path?: string; command?: string[]; outcome: string; error?: string }[];
  left: string[];
}

function install(...args: string[]): { status: number | null; stderr: string; report: Report } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [entryphone, 'install', '--json', ...args], {
    encoding: 'utf8',
  });
  return { status, stderr, report: stdout === '' ? ({} as Report) : JSON.parse(stdout) };
}

const filesOf = (root: string) =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();

/** What a link of the image leads to is not there on this machine. */
const readIfFile = (path: string) => (lstatSync(path).isFile() ? readFileSync(path, 'utf8') : readlinkSync(path));

test('the profiles that ship are boards, each with its own chip, and pins that the header has', async (t) => {
  t.same(boards.sort(), ['raspberry-pi-4', 'raspberry-pi-5', 'raspberry-pi-zero-2-w', 'virtual-board']);
  const chips = new Set<string>();
  for (const name of boards) {
    const { profile, gpio, sound } = loadBoard(join(checkout, 'device', `${name}.yaml`));
    t.equal(profile, name, 'which releases are for it is known under whatever name it is installed');
    chips.add(gpio.chip);
    const lines = [gpio.relay, ...Object.values(gpio.buttons), ...Object.values(gpio.leds)].map(
      (one) => one?.line ?? 99,
    );
    t.ok(
      lines.every((line) => line >= 2 && line <= 27),
      name,
    );
    if (name !== 'virtual-board') t.match(sound, { card: 'entryphone', capture: 'entryphone' });
  }
  t.equal(chips.size, boards.length);
});

test('a dry run says what it would do, and changes nothing', async (t) => {
  const root = tempRoot(t);
  const args = ['--board', 'raspberry-pi-4', '--role', 'station', '--broker', '192.0.2.10', '--address', '192.0.2.1'];
  const { status, report } = install(...args, '--root', root);
  t.equal(status, 0);
  t.match(report, { ok: true, applied: false });
  t.match(report.left.join(), 'copy ca.pem, door.pem and door--media.pem');
  t.ok(report.steps.length > 8 && report.steps.every((step) => step.outcome === 'needed'));
  t.same(filesOf(root), []);
});

test('applied to an image: configuration that loads, users, units, firmware; the second time nothing changes', async (t) => {
  const root = tempRoot(t);
  mkdirSync(join(root, 'boot/firmware'), { recursive: true });
  writeFileSync(join(root, 'boot/firmware/config.txt'), '[cm4]\notg_mode=1\n');
  const args = [
    '--board',
    'raspberry-pi-5',
    '--role',
    'site-host',
    '--root',
    root,
    '--address',
    '192.0.2.1',
    '--apply',
  ];
  const first = install(...args);
  t.equal(first.status, 0, first.report.failed?.join());
  t.ok(first.report.steps.every((step) => step.outcome === 'done'));

  const at = (path: string) => join(root, path);
  const read = (path: string) => readFileSync(at(path), 'utf8');
  const { config, board } = loadConfig(at('etc/entryphone/station.yaml'));
  t.match(config, { station: { id: 'indoor', role: 'site-host' }, audio: { capture: 'entryphone' } });
  t.equal(config.siteHost?.listen.address, '192.0.2.1');
  const ofMedia = '/var/lib/entryphone/pki/clients/indoor--media.pem';
  t.same(config.media.identity, { cert: ofMedia, key: ofMedia }, 'made there at its first start');
  t.equal(board.gpio.chip, 'pinctrl-rp1');
  t.match(read('etc/group'), /^entryphone-run:/m);
  for (const user of ['station', 'media', 'flows'])
    t.match(read('etc/passwd'), new RegExp(`^entryphone-${user}:`, 'm'));
  t.ok(readdirSync(at('etc/systemd/system/entryphone.target.wants')).includes('entryphone-station.service'));
  t.equal(read('boot/firmware/config.txt'), 'include entryphone.txt\n[cm4]\notg_mode=1\n', 'before any section');
  t.match(read('boot/firmware/entryphone.txt'), /^gpio=5=ip,pu\ngpio=6=ip,pu\ngpio=17=op,dl$/m);

  const contents = () => filesOf(root).map((file) => `${file}\n${readIfFile(at(file))}`);
  const before = contents();
  const again = install(...args);
  t.equal(again.status, 0);
  t.ok(again.report.steps.every((step) => step.do === 'run' || step.outcome === 'already'));
  t.same(contents(), before);

  const wired = read('etc/entryphone/board.yaml').replace(
    'line: 17, wiring: fail-secure, safe: low',
    'line: 27, wiring: fail-safe, safe: high',
  );
  writeFileSync(at('etc/entryphone/board.yaml'), wired);
  writeFileSync(at('etc/systemd/system/entryphone-media.service'), '[Service]\n');
  const { report } = install(...args);
  const outcomeOf = (path: string) => report.steps.find((step) => step.path === path)?.outcome;
  t.equal(outcomeOf('/etc/entryphone/board.yaml'), 'kept');
  t.equal(read('etc/entryphone/board.yaml'), wired);
  t.equal(outcomeOf('/etc/systemd/system/entryphone-media.service'), 'done', 'a unit is ours');
  t.match(read('boot/firmware/entryphone.txt'), /^gpio=27=op,dh$/m, 'by the wiring that is there');
});

test('with slots: the release in slot a, handed to the station, which the launcher starts; what runs there stays', async (t) => {
  const root = tempRoot(t);
  const { repository, old, next } = await labReleases(join(tempRoot(t), 'repository'));
  const signer = await ReleaseSigner.begin(repository.folder);
  const fileOf = ({ version }: Manifest) => join(repository.folder, `releases/${version}/x64/manifest.json`);
  await signer.sign(...[old, next].map(({ manifest }) => ({ manifest, file: fileOf(manifest) })));
  const trustRoot = readFileSync(join(repository.folder, 'metadata/1.root.json'), 'utf8');
  const at = (path: string) => join(root, path);
  // A station's user that this test may hand files to.
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  mkdirSync(at('etc'));
  writeFileSync(at('etc/group'), `entryphone-station:x:${gid}:\n`);
  writeFileSync(at('etc/passwd'), `entryphone-station:x:${uid}:${gid}::/:/usr/sbin/nologin\n`);
  const place = (version: string) => join(repository.folder, `releases/${version}/x64`);
  const args = ['--board', 'virtual-board', '--role', 'site-host', '--address', '192.0.2.1', '--root', root];
  const first = install(...args, '--slots', place('1.0.0'), '--apply');
  t.equal(first.status, 0, first.report.failed?.join());

  const { config } = loadConfig(at('etc/entryphone/station.yaml'));
  t.match(config.update, { slots: '/var/lib/entryphone-slots', root: '/etc/entryphone/root.json' });
  t.equal(readFileSync(at('etc/entryphone/root.json'), 'utf8'), trustRoot);
  const slots = at('var/lib/entryphone-slots');
  const { state, current } = await new SlotStore(machineDisk(slots)).read();
  t.match({ state, current }, { current: 'a', state: { floor: '1.0.0', trial: null } });
  t.match(state.slots, { a: { is: 'whole', version: '1.0.0', isConfirmed: true }, b: { is: 'empty' } });
  const launch = () =>
    spawnSync('sh', [at('usr/lib/entryphone/launcher.sh'), slots, 'start', 'station'], { encoding: 'utf8' }).stdout;
  t.equal(launch(), 'release 1.0.0\n');
  for (const unit of ['station', 'media', 'flows', 'inference']) {
    t.ok(existsSync(at(`etc/systemd/system/entryphone-${unit}.service.d/slots.conf`)), unit);
  }

  rmSync(join(slots, 'current'));
  writeFileSync(join(slots, 'a/manifest.json'), 'torn');
  const stepOf = async (version: string): Promise<Step> => {
    const on = { board: 'virtual-board', architecture: 'x64', trust: undefined, mayBeUnsigned: false } as const;
    return { do: 'slots', path: SLOTS, release: await firstRelease(place(version), on), why: 'a release' };
  };
  const [begun, later] = [await stepOf('1.0.0'), await stepOf('1.1.0')];
  t.match(await carryOut([begun], { root, apply: false }), [{ outcome: 'needed' }], 'one that was cut off');
  t.match(await carryOut([begun, begun, later], { root, apply: true }), [
    { outcome: 'done' },
    { outcome: 'already' },
    { outcome: 'kept' },
  ]);
  t.equal(launch(), 'release 1.0.0\n', 'updates alone replace what runs');
});

test('a release that is damaged, of another kind or for another board is not put into the slots', async (t) => {
  const root = tempRoot(t);
  const { repository, old } = await labReleases(join(tempRoot(t), 'repository'));
  const place = join(repository.folder, 'releases/1.0.0/x64');
  const files = [{ path: 'flow.json', mode: 0o644, content: { bytes: Buffer.from('[]') } }] as const;
  const flows = { kind: 'flows', version: '1.0.0', architecture: 'any', requires: { boards: [] } } as const;
  await buildRelease(flows, files, repository, {});
  const other = { kind: 'firmware', version: '1.2.0', architecture: 'x64', requires: { boards: ['other'] } } as const;
  await buildRelease(other, files, repository, {});
  const noRoot = join(repository.folder, 'no-root.json');
  writeFileSync(noRoot, '[]');
  const board = { board: 'virtual-board', architecture: 'x64', trust: undefined, mayBeUnsigned: true } as const;
  for (const [release, on, words] of [
    ['nowhere', board, /is not there/],
    ['flows/1.0.0/any', board, /it has flows alone/],
    ['releases/1.2.0/x64', board, /it is for other/],
    ['releases/1.0.0/x64', { ...board, architecture: 'arm64' }, /it is for x64, this machine is arm64/],
    ['releases/1.0.0/x64', { ...board, trust: noRoot }, /is no root metadata/],
    ['releases/1.0.0/x64', { ...board, trust: join(root, 'none') }, /none is not there/],
  ] as const) {
    await t.rejects(firstRelease(join(repository.folder, release), on), { message: words });
  }

  const release = await firstRelease(place, board);
  t.equal(release.trustRoot, undefined, 'a repository that nobody signs yet');
  const [uid, gid] = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
  mkdirSync(join(root, 'etc'));
  const slots: Step = { do: 'slots', path: SLOTS, release, why: 'a release' };
  const steps: Step[] = [slots, { do: 'line', path: '/etc/never', line: 'x', why: 'comes after it' }];
  for (const [passwd, words] of [
    ['root:x:0:0::/:/bin/sh\n', /has no entryphone-station/],
    [`entryphone-station:x:${uid}:${gid}::/:/bin/false\n`, /damaged/],
  ] as const) {
    writeFileSync(join(root, 'etc/passwd'), passwd);
    writeFileSync(join(repository.folder, chunkFile(old.manifest.chunks[0]?.id ?? '')), 'damaged');
    const results = await carryOut(steps, { root, apply: true });
    t.match(results, [{ outcome: 'failed', error: words }, { outcome: 'skipped' }]);
    t.notOk(existsSync(join(root, 'var/lib/entryphone-slots/current')));
  }
});

test('a release that a station begins with is signed, as any that follows: by the metadata, or for a stick', async (t) => {
  const { repository, old, next } = await labReleases(join(tempRoot(t), 'repository'));
  const built = ({ manifest }: { manifest: Manifest }) => {
    return { manifest, file: join(repository.folder, `releases/${manifest.version}/x64/manifest.json`) };
  };
  const [first, second] = [built(old), built(next)];
  const on = { board: 'virtual-board', architecture: 'x64', trust: undefined, mayBeUnsigned: false } as const;
  const refused = (place: string, trust: string | undefined, message: RegExp, what: string) =>
    t.rejects(firstRelease(place, { ...on, trust }), { code: 'release-unsigned', message }, what);
  await refused(first.file, undefined, /nobody has signed it/, 'a repository that nobody signs');
  const signer = await ReleaseSigner.begin(repository.folder);
  await signer.sign(first);
  const root = join(repository.folder, 'metadata/1.root.json');
  t.match(await firstRelease(first.file, on), { version: '1.0.0' });
  t.match(await firstRelease(first.file, { ...on, trust: root }), { version: '1.0.0' });
  await refused(second.file, root, /signed by nobody/, 'one that the metadata does not have');

  const others = tempRoot(t);
  const other = await ReleaseSigner.begin(others);
  const othersRoot = join(others, 'metadata/1.root.json');
  await refused(first.file, othersRoot, /is not signed by who may/, 'a root of others');
  other.signForRescue(second);
  await refused(second.file, root, /manifest\.json\.minisig: .*does not know/, 'a stick of others');
  writeFileSync(`${second.file}.minisig`, 'x'.repeat(5_000));
  await refused(second.file, root, /no file of at most 4096 bytes/, 'a signature without end');
  signer.signForRescue(second);
  t.match(await firstRelease(second.file, on), { version: '1.1.0' }, 'a stick of our own');

  const manifest = readFileSync(second.file);
  const step: Step = { do: 'slots', path: SLOTS, release: await firstRelease(second.file, on), why: 'a release' };
  writeFileSync(second.file, `${manifest} `);
  await refused(second.file, root, /not the file/, 'a byte more');
  const results = await carryOut([step], { root: tempRoot(t), apply: true });
  t.match(results, [{ outcome: 'failed', error: /not the one that was looked at/ }], 'changed since it was looked at');
  t.match(
    await firstRelease(second.file, { ...on, mayBeUnsigned: true }),
    { version: '1.1.0' },
    'for whom it is all one',
  );
});

test('what can not be done is said, with what to do, and nothing is half done', async (t) => {
  const root = tempRoot(t);
  const common = ['--root', root, '--role', 'station', '--broker', '192.0.2.10', '--address', '192.0.2.1'];
  for (const [args, expected, words] of [
    [['--board', 'raspberry-pi-9', ...common], 2, /no board profile raspberry-pi-9.*virtual-board/],
    [['--board', 'virtual-board', ...common, '--id', '../door'], 2, /station\.id/],
    [['--board', 'virtual-board', '--root', root, '--role', 'station', '--address', '192.0.2.1'], 2, /--broker/],
    [['--board', 'virtual-board', ...common, '--root', join(root, 'none')], 2, /is no folder/],
  ] as const) {
    const { status, stderr } = install(...args, '--apply');
    t.equal(status, expected, words.source);
    t.match(stderr, words);
  }
  t.same(filesOf(root), []);

  const outside = tempRoot(t);
  symlinkSync(outside, join(root, 'etc'));
  const { status, report } = install('--board', 'virtual-board', ...common, '--apply');
  t.equal(status, 1);
  t.match(report.steps[0], { outcome: 'failed', error: /leads out of/ });
  t.ok(report.steps.slice(1).every((step) => step.outcome === 'skipped'));
  t.same(filesOf(outside), []);
});

test('a command that fails stops the rest, unless the step says what its failure means', async (t) => {
  const root = tempRoot(t);
  const says = (code: number) => ['sh', '-c', `echo no card >&2; exit ${code}`];
  const steps: Step[] = [
    { do: 'run', command: says(1), why: 'a level', ifItFails: 'is the card plugged in?' },
    { do: 'run', command: says(0), why: 'goes on' },
    { do: 'run', command: ['no-such-program'], why: 'a step that the rest needs' },
    { do: 'line', path: '/etc/never', line: 'x', why: 'comes after it' },
  ];
  const results = await carryOut(steps, { root, apply: true });
  t.same(
    results.map((result) => result.outcome),
    ['missed', 'done', 'failed', 'skipped'],
  );
  t.match(results[0]?.error, /no card.*is the card plugged in/);
  t.match(results[2]?.error, /no-such-program failed \(.*ENOENT/);
  t.same(filesOf(root), []);
  const looked = await carryOut(steps, { root, apply: false });
  t.ok(
    looked.every((result) => result.outcome === 'needed'),
    'a dry run runs nothing',
  );
});
