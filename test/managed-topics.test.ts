/** Who may say what a fleet manager says, at a real broker and over the bridge to the cloud's. */
import { test } from 'tap';
import { AppError } from '../src/core/errors.js';
import { MANAGER_ID, topic } from '../src/protocol/topics.js';
import { Cloud } from './support/cloud.js';
import { Site, until } from './support/site.js';

const up = (station: string, path: string): string => topic('home', station, 'up', path);
const down = (station: string, path: string): string => topic('home', station, 'down', path);

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

test('only the fleet manager says what a fleet manager may', async (t) => {
  const site = await Site.start();
  t.teardown(() => site.stop());
  const every = [down('door', '#')];
  const door = await site.connected('door', every);
  const manager = await site.connected(MANAGER_ID, [
    up('+', 'call/+'),
    up('+', 'job/+'),
    up('+', 'chunk-req/+'),
    up('+', 'presence'),
  ]);
  const say = (made: Awaited<ReturnType<Site['connected']>>, to: string, retained = false): Promise<string> =>
    codeOf(made.link.publish({ topic: to, body: to, qos: 1, priority: 'state', retained }));
  for (const forger of ['switchboard', 'attic', 'door', 'door--media']) {
    const made = await site.connected(forger, [down('door', '#'), '#'], { clientId: `forger-${forger}` });
    for (const path of ['desired/firmware', 'job/job-1', 'chunk/job-1', 'cmd/restart']) {
      t.equal(await say(made, down('door', path)), 'not-authorised', `${forger} ${path}`);
      t.equal(await say(made, down('door', path), true), 'not-authorised', `${forger} ${path} retained`);
    }
    await made.link.close();
  }
  for (const path of ['call/aaaaaaaa', 'presence/attic', 'media/aaaaaaaa'])
    t.equal(await say(manager, down('door', path)), 'not-authorised', `the manager ${path}`);
  for (const path of ['desired/firmware', 'job/job-1', 'chunk/job-1', 'cmd/restart'])
    t.equal(await say(manager, down('door', path)), 'done', path);
  await until(() => door.heard.length >= 4);
  t.same(
    door.heard.map(({ text }) => text),
    ['desired/firmware', 'job/job-1', 'chunk/job-1', 'cmd/restart'].map((path) => down('door', path)),
  );
  // A subscription that is forbidden is acknowledged all the same: what counts is what is delivered.
  await say(door, up('door', 'call/aaaaaaaa'));
  await say(door, up('door', 'job/job-1'));
  await until(() => manager.heard.length > 0);
  t.same(
    manager.heard.map(({ text }) => text),
    [up('door', 'job/job-1')],
    'a manager hears no call',
  );
  for (const { link } of [door, manager]) await link.close();
});

test('the bridge carries what a manager and the stations of its sites say to each other, and no more', async (t) => {
  const cloud = await Cloud.start(['home', 'gate']);
  t.teardown(() => cloud.stop());
  const manager = await cloud.connected(MANAGER_ID, [
    ...['presence', 'job/+', 'chunk-req/+', 'reported/+', 'call/+'].map((path) => topic('+', '+', 'up', path)),
  ]);
  const say = (to: string, retained = false) => ({ topic: to, body: to, qos: 1, priority: 'state', retained }) as const;
  // Told while no site is there: the broker keeps it.
  await manager.link.publish(say(down('door', 'job/job-1'), true));
  await manager.link.publish(say(topic('gate', 'door', 'down', 'job/job-2'), true));
  const home = await Site.start({ cloud: cloud.of('home') });
  t.teardown(() => home.stop());
  const door = await home.connected('door', [down('door', '#')]);
  await door.link.publish(say(up('door', 'presence'), true));
  await door.link.publish(say(up('door', 'call/aaaaaaaa')));
  await until(() => door.heard.some(({ text }) => text === down('door', 'job/job-1')));
  await until(() => manager.heard.some(({ text }) => text === up('door', 'presence')));
  await manager.link.publish(say(down('door', 'chunk/job-1')));
  await door.link.publish(say(up('door', 'chunk-req/job-1')));
  await until(() => manager.heard.some(({ text }) => text === up('door', 'chunk-req/job-1')));
  await until(() => door.heard.some(({ text }) => text === down('door', 'chunk/job-1')));
  t.same(
    [...door.heard, ...manager.heard].map(({ text }) => text),
    [down('door', 'job/job-1'), down('door', 'chunk/job-1'), up('door', 'presence'), up('door', 'chunk-req/job-1')],
    'nothing of another site, no calls, and nothing twice',
  );
  t.equal(await codeOf(manager.link.publish(say(down('door', 'call/aaaaaaaa')))), 'not-authorised');
});
