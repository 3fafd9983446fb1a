import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { dropDurably, machineDisk, pointDurably, putDurably, type SlotDisk } from '../src/adapters/slots/slot-disk.js';
import { type Loss, PowerCut, PowerCutDisk } from '../src/lab/power-cut-disk.js';

/** Every way in which the power can go during `work`, and what the disk may have made of it. */
async function* cuts(prepare: (disk: SlotDisk) => Promise<void>, work: (disk: SlotDisk) => Promise<void>) {
  const before = new PowerCutDisk();
  await prepare(before);
  const whole = before.after({ changes: before.unsyncedChanges, content: 'kept' });
  for (let cutAt = 1; ; cutAt++) {
    const disk = whole.after({ changes: 0, content: 'kept' });
    disk.cutAt = cutAt;
    const isCut = await work(disk).then(
      () => false,
      (error) => {
        if (!(error instanceof PowerCut)) throw error;
        return true;
      },
    );
    for (let changes = 0; changes <= disk.unsyncedChanges; changes++) {
      for (const content of ['lost', 'torn', 'kept'] as const) {
        const loss: Loss = { changes, content };
        yield { cutAt, loss, isCut, left: disk.after(loss) };
      }
    }
    if (!isCut) return;
  }
}

const textOf = async (disk: SlotDisk, path: string) => {
  const bytes = await disk.read(path);
  return bytes === null ? null : Buffer.from(bytes).toString();
};

test('a file that is put durably is the old one or the new one, however the power goes', async (t) => {
  const seen = new Set<string | null>();
  const old = (disk: SlotDisk) => putDurably(disk, 'state', 'the old text');
  for await (const { left, isCut } of cuts(old, (disk) => putDurably(disk, 'state', 'the new text'))) {
    const text = await textOf(left, 'state');
    seen.add(text);
    if (!isCut) t.equal(text, 'the new text', 'once it has returned, it lasts');
  }
  t.same([...seen].sort(), ['the new text', 'the old text']);
});

test('a link that is pointed durably names the old slot or the new one', async (t) => {
  const seen = new Set<string | null>();
  const old = (disk: SlotDisk) => pointDurably(disk, 'current', 'a');
  for await (const { left, isCut } of cuts(old, (disk) => pointDurably(disk, 'current', 'b'))) {
    const target = await left.readLink('current');
    seen.add(target);
    if (!isCut) t.equal(target, 'b');
  }
  t.same([...seen].sort(), ['a', 'b']);
});

test('a file that is dropped durably does not come back', async (t) => {
  for await (const { left, isCut } of cuts(
    (disk) => putDurably(disk, 'trying', 'slot=b starts=0'),
    (disk) => dropDurably(disk, 'trying'),
  )) {
    if (!isCut) t.equal(await left.read('trying'), null);
  }
});

test('the disk of the lab does lose what was not synced', async (t) => {
  const seen = new Set<string | null>();
  const careless = async (disk: SlotDisk) => {
    const file = await disk.create('state.new', 0o644);
    await file.append(Buffer.from('12345678'));
    await file.close();
    await disk.rename('state.new', 'state');
  };
  for await (const { left, isCut } of cuts(async () => {}, careless)) if (!isCut) seen.add(await textOf(left, 'state'));
  t.same([...seen].map(String).sort(), ['', '1234', '12345678', 'null'], 'empty, torn, whole, not there');

  const disk = new PowerCutDisk();
  await disk.makeFolder('a/device');
  await disk.syncFolder('.');
  t.same(await disk.after({ changes: 0, content: 'kept' }).list('.'), ['a']);
  t.same(await disk.after({ changes: 0, content: 'kept' }).list('a'), [], 'a folder in it was not synced');
  disk.freeBytesLeft = 3;
  await t.rejects((await disk.create('a/full', 0o644)).append(Buffer.from('1234')), { code: 'ENOSPC' });
});

test('both disks do the same', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'entryphone-disk-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const [real, lab] = [machineDisk(root), new PowerCutDisk()];
  for (const disk of [real, lab]) {
    await disk.makeFolder('a/dist/src');
    const file = await disk.create('a/dist/program', 0o755);
    await file.append(Buffer.from('one'));
    await file.append(Buffer.from('two'));
    await file.sync();
    await file.close();
    await disk.link('a', 'current');
    await disk.rename('a/dist/program', 'a/dist/src/program');
    await disk.syncFolder('a/dist/src');
    t.equal(await textOf(disk, 'current/dist/src/program'), 'onetwo');
    t.same(await disk.list('a/dist'), ['src']);
    t.same(await disk.list('nowhere'), []);
    t.equal(await disk.read('nowhere'), null);
    t.equal(await disk.readLink('a'), null);
    t.equal(await disk.readLink('current'), 'a');
    await t.rejects(disk.rename('nowhere', 'b'), { code: 'ENOENT' });
    await t.rejects(disk.create('nowhere/file', 0o644), { code: 'ENOENT' });
    await t.rejects(disk.link('b', 'current'), { code: 'EEXIST' });
    await disk.unlink('nowhere');
    await disk.removeFolder('a/dist');
    t.same(await disk.list('a'), []);
    t.ok((await disk.freeBytes()) > 0);
  }
  // As the station's unit has it; the processes beside it are other users'.
  const mask = process.umask(0o077);
  t.teardown(() => process.umask(mask));
  await real.makeFolder('b/dist/src');
  for (const made of ['b', 'b/dist', 'b/dist/src']) t.equal(statSync(join(root, made)).mode & 0o777, 0o755, made);
  const file = await real.create('rights', 0o755);
  await file.close();
  t.equal(statSync(join(root, 'rights')).mode & 0o777, 0o755);
  t.equal(readFileSync(join(root, 'rights'), 'utf8'), '');
});
