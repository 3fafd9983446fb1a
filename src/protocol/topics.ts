/**
 * MQTT topics: `entryphone/v1/{site}/d/{station}/` and then `up/…` (the station writes) or `down/…` (it reads). A few lines
 * of the broker's ACL hold the whole of it.
 */
export const ID_PATTERN = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;

/** Ends the identity of a media process, `{station}--media`, which reads `down/media/+` and writes `up/media/+`, nothing else. */
export const MEDIA_SUFFIX = '--media';

export function mediaIdentity(station: string): string {
  return `${station}${MEDIA_SUFFIX}`;
}

/** Identity of the fleet manager, which alone writes `down/{desired,job,chunk,cmd}/…`. */
export const MANAGER_ID = 'fleet-manager';

/** Kinds of what a manager says to a station, each with more behind it: `job/{id}`. */
export const MANAGER_WRITES = ['desired', 'job', 'chunk', 'cmd'] as const;

/** What a manager hears of a station, as filters: no calls, which have keys in them, and no media. */
export const MANAGER_READS = [
  ...['presence', 'reported/+', 'job/+', 'chunk-req/+', 'res/#', 'evt/+', 'telemetry/+'],
] as const;

export type Direction = 'up' | 'down';

export interface TopicAddress {
  readonly site: string;
  readonly station: string;
  readonly direction: Direction;
  /** What follows the direction: `call/{callId}`, `presence`, `evt/{kind}`, … */
  readonly path: string;
}

export function topic(site: string, station: string, direction: Direction, path: string): string {
  return `entryphone/v1/${site}/d/${station}/${direction}/${path}`;
}

/**
 * The trunk between a site's broker and the cloud's, which are bridged there and nowhere else: `entryphone/v1/{site}/trunk/`,
 * then `up/…` (the site writes) or `down/…` (the gateway does); `call/{callId}`, `media/{callId}`, and up alone
 * `presence/{station}` and `link` (1 while the bridge stands, else 0; retained).
 */
export function trunkTopic(site: string, direction: Direction, path: string): string {
  return `entryphone/v1/${site}/trunk/${direction}/${path}`;
}

/** The gateway's presence, retained; bridged to every site. */
export const GATEWAY_PRESENCE = 'entryphone/v1/gateway/presence';

/** @returns undefined for a topic that is not of a trunk */
export function parseTrunkTopic(text: string): Omit<TopicAddress, 'station'> | undefined {
  const match = /^entryphone\/v1\/([^/+#]+)\/trunk\/(up|down)\/([^+#]+)$/.exec(text);
  const [, site = '', direction = '', path = ''] = match ?? [];
  return match === null || !ID_PATTERN.test(site) ? undefined : { site, direction: direction as Direction, path };
}

/** @returns undefined for a topic that is not of ours, or has an id that does not fit `ID_PATTERN` */
export function parseTopic(text: string): TopicAddress | undefined {
  const match = /^entryphone\/v1\/([^/+#]+)\/d\/([^/+#]+)\/(up|down)\/([^+#]+)$/.exec(text);
  if (match === null) return undefined;
  const [, site = '', station = '', direction = '', path = ''] = match;
  if (!ID_PATTERN.test(site) || !ID_PATTERN.test(station)) return undefined;
  return { site, station, direction: direction as Direction, path };
}
