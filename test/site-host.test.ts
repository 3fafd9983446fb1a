import { spawn } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { type Test, test } from 'tap';
import { mosquittoAcl } from '../src/adapters/broker/mosquitto-config.js';
import { SiteBroker } from '../src/adapters/broker/site-broker.js';
import { ensureSitePki, SWITCHBOARD_ID } from '../src/adapters/pki/site-pki.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { type CallMessage, callMessageSchema } from '../src/protocol/call-message.js';
import { topic } from '../src/protocol/topics.js';
import { RoutingJournal } from '../src/station/routing-journal.js';
import { SiteHost } from '../src/station/site-host.js';
import { DIRECTORY, freePort, type Heard, Site, until } from './support/site.js';

const YEAR_MS = 365 * 86_400_000;
const up = (station: string, path: string): string => topic('home', station, 'up', path);

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-host-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

class LaterClock extends ManualClock {
  readonly #aheadMs: number;
  constructor(aheadMs: number) {
    super();
    this.#aheadMs = aheadMs;
  }
  override wallMs(): number {
    return Date.now() + this.#aheadMs;
  }
}

test('a site makes its certificates once, renews them in time, and names a damaged one', async (t) => {
  const dir = folder(t);
  const of = (stations: string[], aheadMs = 0): ReturnType<typeof ensureSitePki> =>
    ensureSitePki({
      dir,
      site: 'home',
      stations,
      addresses: ['192.0.2.7', 'host.lan'],
      clock: new LaterClock(aheadMs),
    });
  const texts = (): Record<string, string> =>
    Object.fromEntries(
      [
        'authority.pem',
        'ca.pem',
        'server.pem',
        ...readdirSync(join(dir, 'clients')).map((name) => `clients/${name}`),
      ].map((name) => [name, readFileSync(join(dir, name), 'utf8')]),
    );

  const [one, other] = await Promise.all([of(['door']), of(['door'])]);
  t.equal(readFileSync(one.caPath, 'utf8'), readFileSync(other.caPath, 'utf8'), 'two that start at once agree');
  const authority = new X509Certificate(readFileSync(one.caPath));
  const server = new X509Certificate(readFileSync(one.server.cert));
  const door = new X509Certificate(readFileSync(one.credentialsOf('door').cert));
  t.ok(door.verify(authority.publicKey) && server.verify(authority.publicKey));
  t.equal(door.subject, 'CN=door');
  t.ok(server.checkIP('192.0.2.7') && server.checkHost('host.lan') && server.checkIP('127.0.0.1'));
  for (const name of Object.keys(texts())) t.equal(statSync(join(dir, name)).mode & 0o777, 0o600, name);
  t.throws(() => one.credentialsOf('panel'), { code: 'unknown-station' });

  const first = texts();
  await of(['door', 'panel']);
  const { 'clients/panel.pem': added, 'clients/panel--media.pem': ofItsMedia, ...same } = texts();
  t.same(same, first, 'what is there is kept');
  t.ok(added && ofItsMedia, 'a new station gets its own');

  await of(['door', 'panel'], 2.5 * YEAR_MS);
  const renewed = texts();
  t.equal(renewed['ca.pem'], first['ca.pem']);
  for (const name of ['server.pem', 'clients/door.pem']) t.not(renewed[name], first[name], `${name} is renewed`);
  await of(['door'], 29.5 * YEAR_MS);
  const late = new X509Certificate(readFileSync(one.caPath));
  t.ok(late.validToDate > authority.validToDate && door.verify(late.publicKey), 'the authority keeps its key');

  truncateSync(join(dir, 'clients/door.pem'), 600);
  await t.rejects(of(['door']), { code: 'pki-damaged', message: /clients\/door\.pem/, remedy: /Remove it/ });
  writeFileSync(join(dir, 'authority.pem'), 'rubbish');
  await t.rejects(of(['door']), { code: 'pki-damaged', message: /authority\.pem/, remedy: /backup/ });
  for (const id of ['switchboard', 'door--media']) await t.rejects(of([id]), { code: 'config-invalid' });
});

test('a taken port is named, and had as soon as it is free', async (t) => {
  const dir = folder(t);
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  const { port } = other.address() as { port: number };
  const listen = { address: '127.0.0.1', port };
  const common = { clock: systemClock, logger: silentLogger };
  const host = await SiteHost.start({ dir, site: 'home', listen, stations: DIRECTORY, ...common });
  t.match(host.broker.state, { running: false, fault: { code: 'port-taken', message: new RegExp(String(port)) } });
  other.close();
  await until(() => host.broker.state.running);
  await host.close();

  writeFileSync(join(dir, 'broker/store/mosquitto.db'), 'this is not a database of mosquitto');
  const again = await SiteHost.start({ dir, site: 'home', listen, stations: DIRECTORY, ...common });
  t.equal(again.broker.state.fault?.code, 'broker-store-damaged');
  await until(() => again.broker.state.running);
  t.ok(
    readdirSync(join(dir, 'broker')).some((name) => name.startsWith('store.damaged-')),
    'set aside',
  );
  await again.close();
});

test('a site host leaves the broker to another that listens there', async (t) => {
  const dir = folder(t);
  const listen = { address: '127.0.0.1', port: await freePort() };
  const common = { clock: systemClock, logger: silentLogger };
  const host = await SiteHost.start({ dir, site: 'home', listen, stations: DIRECTORY, broker: 'foreign', ...common });
  t.teardown(() => host.close());
  await until(() => host.status().broker.fault !== null);
  t.equal(host.broker.pid, undefined, 'none is started');
  t.match(host.status().broker, { running: false, fault: /127\.0\.0\.1/ });
  const pki = await ensureSitePki({
    dir: join(dir, 'pki'),
    site: 'home',
    stations: Object.keys(DIRECTORY),
    addresses: [],
  });
  const other = await SiteBroker.start({
    ...{ dir: join(dir, 'other'), listen, acl: mosquittoAcl('home', Object.keys(DIRECTORY), SWITCHBOARD_ID) },
    ...{ server: pki.server, probe: pki.credentialsOf('door'), ...common },
  });
  t.teardown(() => other.stop());
  await until(() => host.status().broker.running);
  t.equal(host.status().broker.fault, null);
});

test('the broker does not outlive a site host that is killed', async (t) => {
  const dir = folder(t);
  const at = (path: string): string => JSON.stringify(resolve(import.meta.dirname, '../src', path));
  const script = `import { SiteHost } from ${at('station/site-host.js')};
    import { systemClock } from ${at('core/clock.js')};
    import { silentLogger } from ${at('core/logger.js')};
    const host = await SiteHost.start({ dir: ${JSON.stringify(dir)}, site: 'home', stations: {}, clock: systemClock,
      logger: silentLogger, listen: { address: '127.0.0.1', port: ${await freePort()} } });
    console.log(host.broker.pid);`;
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: parent.stdout }), 'line')) as [string];
  const pid = Number(line);
  t.doesNotThrow(() => process.kill(pid, 0), 'it runs');
  parent.kill('SIGKILL');
  await until(() => !isRunning(pid));
  t.pass('and ends');
});

test('the switchboard routes a call, and nothing else', async (t) => {
  const site = await Site.start();
  t.teardown(() => site.stop());
  const start = async (
    id: string,
  ): Promise<{ heard: Heard[]; say(body: object | string, more?: object): Promise<void> }> => {
    const { link, heard } = await site.connected(id, [topic('home', id, 'down', 'call/+')]);
    const presence = { v: 1, id: 'boot-0001', online: true, release: 'test', at: 0 };
    await link.publish({
      topic: up(id, 'presence'),
      body: JSON.stringify(presence),
      retained: true,
      qos: 1,
      priority: 'state',
    });
    return {
      heard,
      say: (body, more = {}) =>
        link.publish({
          topic: up(id, `call/${typeof body === 'string' ? 'call-0001' : (body as CallMessage).callId}`),
          body: typeof body === 'string' ? body : JSON.stringify(body),
          qos: 1,
          priority: 'call',
          ...more,
        }),
    };
  };
  const [door, panel, attic] = [await start('door'), await start('panel'), await start('attic')];
  const header = { v: 1, id: 'message-1', seq: 0, callId: 'call-0001', from: 'attic', to: 'x' };
  const invite = { ...header, type: 'invite', fromName: 'Door', sdp: 'v=0', ringMs: 30_000 };
  const next = async (of: { heard: Heard[] }): Promise<CallMessage> => {
    await until(() => of.heard.length > 0);
    return callMessageSchema.parse(JSON.parse(of.heard.shift()?.text ?? ''));
  };

  await door.say({ ...invite, to: 'WOHNUNG SÜD' });
  t.match(
    await next(panel),
    { type: 'invite', from: 'door', to: 'panel', sdp: 'v=0' },
    'from is the topic, not the body',
  );
  await panel.say({ ...header, type: 'answer', sdp: 'v=0' });
  t.match(await next(door), { type: 'answer', from: 'panel', to: 'door' });

  const journal = (): string => readFileSync(join(site.dir, 'switchboard.json'), 'utf8');
  await until(() => journal().includes('"answered":true'));
  t.match(JSON.parse(journal()), { calls: [{ callId: 'call-0001', caller: 'door', callee: 'panel' }] });
  writeFileSync(join(site.dir, 'damaged.json'), '{"v":1,"calls":[{');
  for (const [name, kept] of [
    ['switchboard', 1],
    ['damaged', 0],
    ['none', 0],
  ] as const) {
    const path = join(site.dir, `${name}.json`);
    t.equal(new RoutingJournal({ path, logger: silentLogger }).read().length, kept, `journal: ${name}`);
  }

  const refusals: [to: string, reason: string, from: string][] = [
    ['panel', 'not-allowed', 'panel'],
    ['nobody', 'unknown', 'switchboard'],
  ];
  for (const [to, reason, from] of refusals) {
    await attic.say({ ...invite, callId: 'call-0002', to });
    t.match(await next(attic), { type: 'reject', callId: 'call-0002', reason, from, to: 'attic' });
  }
  await door.say({ ...invite, callId: 'call-0003', to: 'away' });
  t.match(await next(door), { type: 'reject', reason: 'unreachable', from: 'away' });

  await attic.say({ ...header, type: 'bye', reason: 'forged' });
  await door.say('this is not JSON');
  await door.say({ ...invite, callId: 'call-0004', ringMs: 'soon' });
  await door.say({ ...header, type: 'open-sesame' });
  await door.say('x'.repeat(40_960));
  await door.say({ ...header, type: 'bye', reason: 'kept' }, { retained: true });
  await door.say({ ...invite, callId: 'call-0005' }, { topic: up('door', 'call/call-0006') });
  await door.say({ ...header, type: 'bye', reason: 'done' });
  t.match(await next(panel), { type: 'bye', reason: 'done', from: 'door' }, 'the first that came after the answer');
  t.same(site.host.switchboard.figures(), {
    calls: 0,
    routed: 6,
    refused: { 'not-a-party': 1, malformed: 3, oversized: 1, retained: 1, 'call-id-mismatch': 1 },
  });

  await Promise.all(
    Array.from({ length: 100 }, (_, n) => door.say({ ...header, callId: `call-9${n}00`, type: 'bye', reason: '' })),
  );
  await until(() => {
    const { refused } = site.host.switchboard.figures();
    return (refused['no-such-call'] ?? 0) + (refused.flood ?? 0) >= 100;
  });
  t.ok((site.host.switchboard.refused.get('flood') ?? 0) > 0, 'a flood is cut short');
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.[0] !== 'Z';
  } catch {
    return false;
  }
}
