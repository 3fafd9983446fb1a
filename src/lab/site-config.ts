import { join } from 'node:path';
import { stringify } from 'yaml';

/** The two stations of the lab's site: a door station, and an indoor station that hosts the site. */
export const STATIONS = ['door', 'indoor'] as const;
export type StationId = (typeof STATIONS)[number];

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
  /** Null: without flows, each press does what `buttons` says. */
  readonly flows: FlowsPlan | null;
}

export interface FlowsPlan {
  /** Of each station's editor. */
  readonly ports: Readonly<Record<StationId, number>>;
  readonly goodAfterMs?: number;
}

export const RTP_PORTS_EACH = 20;

/** @returns the YAML text of one station's configuration */
export function stationConfig(plan: SitePlan, id: StationId): string {
  const isHost = id === 'indoor';
  const pki = join(plan.dir, 'indoor', 'state', 'pki');
  const firstPort = plan.firstRtpPort + STATIONS.indexOf(id) * RTP_PORTS_EACH;
  return stringify({
    station: { id, name: isHost ? 'Kitchen' : 'Front door', site: 'home', role: isHost ? 'site-host' : 'station' },
    board: plan.boardProfile,
    audio: { capture: plan.devices[id].microphone, playback: plan.devices[id].speaker },
    rtp: { address: '127.0.0.1', ports: { from: firstPort, to: firstPort + RTP_PORTS_EACH - 1 } },
    buttons: isHost
      ? { bell: { do: 'answer-or-hang-up' }, open: { do: 'open-door' } }
      : { bell: { do: 'call', target: 'Kitchen' }, open: { do: 'hang-up' } },
    media: {
      path: plan.mediaPath,
      identity: { cert: join(pki, 'clients', `${id}--media.pem`), key: join(pki, 'clients', `${id}--media.pem`) },
    },
    call: { ringTimeoutMs: plan.ringTimeoutMs },
    door: { pulseMs: plan.pulseMs },
    flows: flowsOf(plan, id),
    mqtt: {
      url: `mqtts://127.0.0.1:${plan.brokerPort}`,
      ca: join(pki, 'ca.pem'),
      cert: join(pki, 'clients', `${id}.pem`),
      key: join(pki, 'clients', `${id}.pem`),
    },
    ...(isHost
      ? {
          siteHost: {
            listen: { address: '127.0.0.1', port: plan.brokerPort },
            stations: { door: { name: 'Front door', numbers: ['1'] }, indoor: { name: 'Kitchen', numbers: ['2'] } },
          },
        }
      : {}),
    state: join(plan.dir, id, 'state'),
    run: join(plan.runDir, id),
  });
}

function flowsOf({ flows }: SitePlan, id: StationId): object {
  if (flows === null) return { enabled: false };
  const { ports, ...settings } = flows;
  return { ...settings, port: ports[id], initial: id === 'door' ? 'door-station' : 'indoor-station' };
}
