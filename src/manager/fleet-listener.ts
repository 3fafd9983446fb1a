import * as z from 'zod';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { FleetStore } from '../adapters/sqlite/fleet-store.js';
import type { Counters } from '../core/counters.js';
import { type Parsed, parseBody } from '../protocol/call-message.js';
import { PRESENCE_PATH, presenceSchema } from '../protocol/presence.js';
import { stationEventSchema } from '../protocol/station-event.js';
import { MANAGER_ID, parseTopic, topic } from '../protocol/topics.js';

/** Events that tell how a station is, and are kept as a report: the last of each. */
const KEPT_EVENTS = new Set(['selftest', 'alert', 'command']);
/** A report is kept as it is, whatever a newer release may add to it. */
const reportSchema = z.looseObject({ v: z.literal(1) });
const KIND = /^[a-z0-9-]{1,64}$/;

/**
 * Hears what the stations of a fleet say of themselves, and keeps it: presence, reports, jobs, answers. What is malformed or of nobody is
 * counted and dropped.
 */
export function hearFleet(options: {
  link: Pick<MqttLink, 'subscribe'>;
  /** `+` for every site of the broker. */
  site: string;
  store: FleetStore;
  refused: Counters<string>;
  onOnline: (site: string, station: string) => void;
  onJob: (site: string, station: string, jobId: string, body: Uint8Array) => void;
  onAnswer: (site: string, station: string, body: Uint8Array) => void;
}): void {
  const { link, site: heard, store, refused, onOnline, onJob, onAnswer } = options;

  const hear = (
    path: string,
    take: (site: string, station: string, name: string, message: LinkMessage) => void,
  ): void => {
    link.subscribe(topic(heard, '+', 'up', path), (message) => {
      const address = parseTopic(message.topic);
      const name = address?.path.split('/')[1] ?? '';
      if (address === undefined || (path.endsWith('/+') && !KIND.test(name))) return refused.count('malformed-topic');
      take(address.site, address.station, name, message);
    });
  };
  const parsed = <T>(what: string, read: Parsed<T>): T | undefined => {
    if (!read.ok) refused.count(`malformed-${what}`);
    return read.ok ? read.value : undefined;
  };

  hear(PRESENCE_PATH, (site, station, _name, { body }) => {
    const said = parsed('presence', parseBody(presenceSchema, body));
    if (said === undefined) return;
    const { online: isOnline, release, architecture = null } = said;
    if (!store.presence({ site, station, isOnline, release, architecture })) refused.count('too-many-stations');
    else if (isOnline) onOnline(site, station);
  });
  hear('reported/+', (site, station, kind, { body }) => {
    const said = parsed('report', parseBody(reportSchema, body));
    if (said !== undefined && !store.report(site, station, kind, said)) refused.count('report-not-kept');
  });
  hear('evt/+', (site, station, kind, { body }) => {
    store.seen(site, station);
    if (!KEPT_EVENTS.has(kind)) return;
    const said = parsed('event', parseBody(stationEventSchema, body));
    if (said === undefined) return;
    const { clip, ...data } = said.data;
    if (!store.report(site, station, kind, { at: said.at, ...data })) refused.count('report-not-kept');
  });
  hear('telemetry/+', (site, station) => store.seen(site, station));
  hear('job/+', (site, station, jobId, { body, retained }) => {
    if (retained) refused.count('retained');
    else onJob(site, station, jobId, body);
  });
  link.subscribe(topic(heard, '+', 'up', `res/${MANAGER_ID}`), ({ topic: name, body, retained }) => {
    const address = parseTopic(name);
    if (address === undefined || retained) return refused.count(retained ? 'retained' : 'malformed-topic');
    onAnswer(address.site, address.station, body);
  });
}
