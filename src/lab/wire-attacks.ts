import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { mosquittoAcl } from '../adapters/broker/mosquitto-config.js';
import { SiteBroker } from '../adapters/broker/site-broker.js';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { ensureSitePki, SWITCHBOARD_ID } from '../adapters/pki/site-pki.js';
import { systemClock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import { silentLogger } from '../core/logger.js';
import { chunkFile } from '../fleet/manifest.js';
import { PieceServer } from '../manager/piece-server.js';
import { writePiece } from '../protocol/artefact-piece.js';
import { mediaIdentity, topic } from '../protocol/topics.js';
import { JobIntake } from '../update/job-intake.js';
import { MqttPieces } from '../update/mqtt-pieces.js';
import type { Attack } from './attack.js';
import { freePort } from './scenario.js';
import { FIRMWARE, trusting } from './trust-bench.js';

const SITE = 'home';
const STATION = 'door';
const common = { clock: systemClock, logger: silentLogger };

const JOB = {
  ...{ v: 1, id: 'job-1', seq: 1, do: 'update', site: SITE, station: STATION, target: FIRMWARE },
  issuedAt: 1_000,
};
const DESIRED = { ...JOB, do: undefined, rev: 5 };

/** By whoever can write to a broker, or has a place on it: what a station is told to do, and the pieces of files. */
export const WIRE_ATTACKS: readonly Attack[] = [
  ordering('job-of-another-station', 'hands a station the job of another', 'not-for-us', { station: 'attic' }),
  ordering('job-under-another-id', 'says a job at the topic of another', 'id-mismatch', { id: 'job-2' }),
  ordering('job-that-leads-out', 'names a target outside the repository', 'malformed', {
    target: '../../etc/passwd/manifest.json',
  }),
  ordering('job-without-tls', 'names a web server without TLS', 'malformed', { baseUrl: 'http://releases.test/' }),
  ordering('job-without-end', 'says a job that is longer than any', 'oversized', { padding: 'x'.repeat(60_000) }),
  ordering('job-whose-time-is-over', 'holds a job back until it is good for nothing', 'too-late', { deadlineAt: 1 }),
  {
    name: 'job-replayed',
    does: 'says a job again that is done',
    code: 'already-done',
    prepare: async (dir) => {
      const station = await ordered(dir);
      await station.take('job/job-1', JOB);
      return () => station.strike('job/job-1', { ...JOB, seq: 9 });
    },
  },
  {
    name: 'job-replayed-after-years',
    does: 'says a job again that is done, and forgotten for all that came after it',
    code: 'old',
    prepare: async (dir) => {
      const station = await ordered(dir);
      await station.take('job/job-1', JOB);
      for (let n = 0; n < 40; n++)
        await station.take(`job/later-${n}`, { ...JOB, id: `later-${n}`, issuedAt: 2_000 + n });
      return () => station.strike('job/job-1', JOB);
    },
  },
  {
    name: 'desired-state-of-old',
    does: 'has the broker keep what was desired before',
    code: 'stale',
    prepare: async (dir) => {
      const station = await ordered(dir);
      await station.take('desired/firmware', DESIRED);
      return () => station.strike('desired/firmware', { ...DESIRED, id: 'job-0', rev: 4 });
    },
  },
  {
    name: 'desired-state-of-nobody',
    does: 'desires a release that nobody has signed',
    code: 'trust-target-unknown',
    prepare: async (dir) => {
      const { trust } = await trusting(dir);
      const target = 'releases/6.6.6/arm64/manifest.json';
      const station = await ordered(dir, (wanted) => trust.manifest(wanted));
      return () => station.strike('desired/firmware', { ...DESIRED, target });
    },
  },
  {
    name: 'jobs-without-number',
    does: 'orders more than a station can do',
    code: 'too-many',
    prepare: async (dir) => {
      const station = await ordered(dir, () => new Promise(() => {}));
      for (let n = 0; n < 5; n++) await station.take(`job/many-${n}`, { ...JOB, id: `many-${n}` });
      return () => station.strike('job/job-1', JOB);
    },
  },
  serving('piece-outside-the-repository', 'asks the manager for its keys', 'malformed', () => '../keys/root.pem'),
  serving('piece-by-a-link', 'asks for a file of the repository that leads out of it', 'unreadable', (dir) => {
    const path = chunkFile('0'.repeat(64));
    mkdirSync(dirname(join(dir, path)), { recursive: true });
    writeFileSync(join(dir, 'secret'), 'secret');
    symlinkSync('../../secret', join(dir, path));
    return path;
  }),
  {
    name: 'piece-that-nobody-asked-for',
    does: 'sends a station pieces of its own',
    code: 'piece-unasked',
    prepare: async () => {
      const refused = new Counters<string>();
      const link = {
        state: { connected: true, protocol: null, fault: null },
        onState: () => {},
        publish: async () => {},
      };
      const pieces = new MqttPieces({ link, site: SITE, station: STATION, clock: systemClock, refused });
      const asked = { job: 'job-1', path: FIRMWARE, offset: 0, lengthBytes: 4 };
      const stop = new AbortController();
      const data = Buffer.from('evil');
      const forged = { status: 'data', seq: 0, offset: 0, fileBytes: 4, tag: '0'.repeat(16), data } as const;
      return async () => {
        const came = pieces.piece(asked, stop.signal);
        pieces.take('chunk/job-1', writePiece({ ...forged, id: '0'.repeat(16) }));
        stop.abort(refusalOf(refused));
        await came;
      };
    },
  },
  writing('job-by-a-station', 'orders an update of its neighbour', 'attic', 'down', 'job/job-1'),
  writing(
    'job-by-the-switchboard',
    'has taken the site host over, and orders updates',
    SWITCHBOARD_ID,
    'down',
    'job/job-1',
  ),
  writing('desired-state-by-a-media-process', 'desires a release', mediaIdentity('attic'), 'down', 'desired/firmware'),
  writing('piece-by-a-station', 'sends its neighbour pieces of files', 'attic', 'down', 'chunk/job-1'),
  writing('report-by-a-neighbour', 'tells the end of a job of its neighbour', 'attic', 'up', 'job/job-1'),
];

function refusalOf(refused: Counters<string>): AppError | undefined {
  const [fault] = Object.keys(refused.all());
  return fault === undefined ? undefined : new AppError(fault, `the station has refused it: ${fault}`);
}

/** A station that takes jobs, each of which is over as soon as `run` is. */
async function ordered(dir: string, run?: (target: string) => Promise<unknown>) {
  const faults: unknown[] = [];
  const over: string[] = [];
  const intake = await JobIntake.open({
    ...{ ...common, path: join(dir, 'jobs.json'), site: SITE, station: STATION, quietHours: null },
    tell: ({ id, state }) => state !== 'queued' && over.push(id),
    ended: () => {},
    run: async ({ target }) => {
      await run?.(target).catch((error: unknown) => {
        faults.push(error);
        throw error;
      });
      return { seq: 2, state: 'succeeded', step: 'confirm', progress: 100, reason: null };
    },
  });
  const take = async (path: string, body: object): Promise<void> => {
    await intake.take(path, Buffer.from(JSON.stringify(body)));
    while (intake.current !== null && run === undefined) await new Promise((resolve) => setImmediate(resolve));
  };
  const strike = async (path: string, body: object): Promise<void> => {
    try {
      await take(path, body);
      const refusal = refusalOf(intake.refused);
      if (refusal !== undefined) throw refusal;
      while (intake.current !== null) await new Promise((resolve) => setImmediate(resolve));
      if (faults.length > 0) throw faults[0];
    } finally {
      intake.close();
    }
  };
  return { take, strike };
}

function ordering(name: string, does: string, code: string, forged: object): Attack {
  return {
    ...{ name, does, code },
    prepare: async (dir) => {
      const station = await ordered(dir);
      return () => station.strike('job/job-1', { ...JOB, ...forged });
    },
  };
}

function serving(name: string, does: string, code: string, pathIn: (dir: string) => string): Attack {
  return {
    ...{ name, does, code },
    prepare: async (dir) => {
      const request = { v: 1, id: '0'.repeat(16), seq: 0, path: pathIn(dir), offset: 0, lengthBytes: 100 };
      const said = Promise.withResolvers<void>();
      let hear: Parameters<MqttLink['subscribe']>[1] = () => {};
      const link: Pick<MqttLink, 'publish' | 'subscribe'> = {
        subscribe: (_, listener) => {
          hear = listener;
        },
        publish: async () => said.resolve(),
      };
      const server = new PieceServer({ ...common, link, site: SITE, dir });
      return async () => {
        const body = Buffer.from(JSON.stringify(request));
        const message = { topic: topic(SITE, STATION, 'up', 'chunk-req/job-1'), body, retained: false };
        hear({ ...message, duplicate: false, receivedAtMs: 0 });
        if (server.figures().waiting + Object.keys(server.refused.all()).length === 0) await said.promise;
        const refusal = refusalOf(server.refused);
        if (refusal !== undefined) throw refusal;
      };
    },
  };
}

/** At a site's real broker, as somebody who has a place there. */
function writing(name: string, does: string, as: string, direction: 'up' | 'down', path: string): Attack {
  return {
    ...{ name, does, code: 'not-authorised' },
    prepare: async (dir) => {
      const stations = [STATION, 'attic'];
      const pki = await ensureSitePki({ dir: join(dir, 'pki'), site: SITE, stations, addresses: [] });
      const listen = { address: '127.0.0.1', port: await freePort() };
      const probe = pki.credentialsOf(SWITCHBOARD_ID);
      const acl = mosquittoAcl(SITE, stations, SWITCHBOARD_ID);
      const broker = await SiteBroker.start({
        ...common,
        dir: join(dir, 'broker'),
        listen,
        acl,
        server: pki.server,
        probe,
      });
      const { ca, cert, key } = pki.credentialsOf(as);
      const pem = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) };
      const link = new MqttLink({ ...common, ...pem, url: `mqtts://127.0.0.1:${listen.port}`, clientId: as });
      link.start();
      return async () => {
        try {
          const to = topic(SITE, STATION, direction, path);
          await link.publish({ topic: to, body: '{}', qos: 1, priority: 'state', retained: true, expiryS: 30 });
        } finally {
          await link.close();
          await broker.stop();
        }
      };
    },
  };
}
