import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Config } from '../config/schema.js';

/** The two stations of the lab's site: a door station, and an indoor station that hosts the site. */
export const STATIONS = ['door', 'indoor'] as const;
export type StationId = (typeof STATIONS)[number];

export const STATION_NAMES: Readonly<Record<StationId, string>> = { door: 'Front door', indoor: 'Kitchen' };
/** Where a gateway joins two sites, each of them hosts its own. */
export const SITE_OF: Readonly<Record<StationId, string>> = { door: 'gate', indoor: 'home' };

export interface SitePlan {
  /** Folder for configurations, keys, journals and logs. */
  readonly dir: string;
  /** Folder for Unix sockets; their paths must stay under 108 bytes. */
  readonly runDir: string;
  readonly boardProfile: string;
  readonly brokerPort: number;
  /** Each station takes `rtpPortsEach` ports from here on. */
  readonly firstRtpPort: number;
  /** ALSA devices of each station. */
  readonly devices: Readonly<Record<StationId, { readonly microphone: string; readonly speaker: string }>>;
  /** How speech travels between the stations. */
  readonly mediaPath: 'auto' | 'mqtt';
  readonly ringTimeoutMs: number;
  readonly pulseMs: number;
  /** A self-test may pulse the relay. */
  readonly testsRelay: boolean;
  /** Null: without flows, each press does what `buttons` says. */
  readonly flows: FlowsPlan | null;
  /** The door station hears by itself, and its flows may have its sound. */
  readonly hearing: boolean;
  /** Null: one site, which the indoor station hosts. */
  readonly cloud: CloudPlan | null;
  /** The site's broker is mosquitto, or another that listens at its port. */
  readonly broker: 'own' | 'foreign';
  /** Stations that run from slots, and take updates of a fleet manager. */
  readonly slots: Readonly<Partial<Record<StationId, SlotsPlan>>>;
}

export interface SlotsPlan {
  /** The folder of the slots, with a release in it that runs. */
  readonly dir: string;
  /** File: the first root of who signs releases. */
  readonly root: string;
  readonly maxRateBps: number;
}

/** What joins two sites. */
export interface CloudPlan {
  /** Of the cloud's broker. */
  readonly url: string;
  readonly doorBrokerPort: number;
  /** Files: each site's certificate of the cloud's authority. */
  readonly pems: Readonly<Record<StationId, { readonly ca: string; readonly cert: string; readonly key: string }>>;
}

export interface FlowsPlan {
  /** Of each station's editor. */
  readonly ports: Readonly<Record<StationId, number>>;
  readonly goodAfterMs?: number;
  /** What the door station's first start begins with. */
  readonly doorFlows?: Config['flows']['initial'];
}

export const RTP_PORTS_EACH = 20;

/** @returns the YAML text of one station's configuration */
export function stationConfig(plan: SitePlan, id: StationId): string {
  const { cloud } = plan;
  const isDoor = id === 'door';
  const host: StationId = cloud === null ? 'indoor' : id;
  const brokerPort = cloud !== null && isDoor ? cloud.doorBrokerPort : plan.brokerPort;
  const pki = join(plan.dir, host, 'state', 'pki');
  const firstPort = plan.firstRtpPort + STATIONS.indexOf(id) * RTP_PORTS_EACH;
  return stringify({
    station: {
      id,
      name: STATION_NAMES[id],
      site: SITE_OF[host],
      role: host === id ? 'site-host' : 'station',
    },
    board: plan.boardProfile,
    audio: { capture: plan.devices[id].microphone, playback: plan.devices[id].speaker },
    rtp: { address: '127.0.0.1', ports: { from: firstPort, to: firstPort + RTP_PORTS_EACH - 1 } },
    buttons: isDoor
      ? { bell: { do: 'call', target: STATION_NAMES.indoor }, open: { do: 'hang-up' } }
      : { bell: { do: 'answer-or-hang-up' }, open: { do: 'open-door' } },
    media: {
      path: plan.mediaPath,
      identity: { cert: join(pki, 'clients', `${id}--media.pem`), key: join(pki, 'clients', `${id}--media.pem`) },
    },
    call: { ringTimeoutMs: plan.ringTimeoutMs },
    door: { pulseMs: plan.pulseMs },
    selftest: { relay: plan.testsRelay },
    flows: flowsOf(plan, id),
    ...(plan.hearing && isDoor ? { taps: { flows: true }, inference: { enabled: true } } : {}),
    mqtt: {
      url: `mqtts://127.0.0.1:${brokerPort}`,
      ca: join(pki, 'ca.pem'),
      cert: join(pki, 'clients', `${id}.pem`),
      key: join(pki, 'clients', `${id}.pem`),
    },
    ...(host === id
      ? {
          siteHost: {
            listen: { address: '127.0.0.1', port: brokerPort },
            broker: plan.broker,
            stations: directoryOf(cloud === null ? STATIONS : [id]),
            ...(cloud === null ? {} : { cloud: { url: cloud.url, ...cloud.pems[id] } }),
          },
        }
      : {}),
    ...updateOf(plan.slots[id]),
    state: join(plan.dir, id, 'state'),
    run: join(plan.runDir, id),
  });
}

function updateOf(slots: SlotsPlan | undefined): object {
  return slots === undefined
    ? {}
    : { update: { slots: slots.dir, root: slots.root, maxRateBps: slots.maxRateBps, needsSelfTest: true } };
}

export function directoryOf(ids: readonly StationId[]): Record<string, { name: string; numbers: string[] }> {
  return Object.fromEntries(
    ids.map((id) => [id, { name: STATION_NAMES[id], numbers: [String(STATIONS.indexOf(id) + 1)] }]),
  );
}

function flowsOf({ flows }: SitePlan, id: StationId): object {
  if (flows === null) return { enabled: false };
  const { ports, doorFlows = 'door-station', ...settings } = flows;
  return { ...settings, port: ports[id], initial: id === 'door' ? doorFlows : 'indoor-station' };
}
