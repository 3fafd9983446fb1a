import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Clock } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import { type CallMessage, callMessageSchema, parseBody } from '../protocol/call-message.js';
import { presenceSchema } from '../protocol/presence.js';
import { MANAGER_WRITES, parseTopic, topic } from '../protocol/topics.js';

/**
 * Reads what comes down to this station, `down/#`: call messages, the presence of the peer of a call (`down/presence/{station}`), and
 * what a fleet manager says. What is malformed, kept by the broker or meant for another is counted and dropped. A door's message that
 * was kept is passed on, as a manager's are: they are counted among the refusals of whom they are for.
 */
export function readInbox(options: {
  link: MqttLink;
  site: string;
  station: string;
  refused: Counters<string>;
  clock: Clock;
  logger: Logger;
  onCall: (message: CallMessage, retained: boolean) => void;
  onPresence: (station: string, online: boolean) => void;
  /** What the fleet manager orders, unread. */
  onCommand: (verb: string, message: LinkMessage) => void;
  /** What else it says: `job/{id}`, `desired/{kind}`, `chunk/{job}`. @returns whether that is listened to */
  onManaged?: (path: string, message: LinkMessage) => boolean;
}): void {
  const { link, site, station, refused, logger, onCall, onPresence, onCommand, onManaged } = options;
  const warnings = new RateLimit({ most: 5, perMs: 10_000, clock: options.clock });
  const refuse = (fault: string, about: string): void => {
    refused.count(fault);
    if (warnings.admit() !== undefined) logger.warn({ fault, about: about.slice(0, 200) }, 'a message was dropped');
  };

  const takeCall = (callId: string, message: LinkMessage): void => {
    const parsed = parseBody(callMessageSchema, message.body);
    if (!parsed.ok) {
      refuse('malformed', parsed.fault);
      return;
    }
    const { value } = parsed;
    if (value.callId !== callId) {
      refuse('call-id-mismatch', message.topic);
      return;
    }
    if (value.to !== station) {
      refuse('not-for-us', message.topic);
      return;
    }
    if (message.retained && !value.type.startsWith('door-')) {
      refuse('retained', message.topic);
      return;
    }
    onCall(value, message.retained);
  };

  const takePresence = (peer: string, message: LinkMessage): void => {
    const parsed = parseBody(presenceSchema, message.body);
    if (parsed.ok) onPresence(peer, parsed.value.online);
    else refuse('malformed', parsed.fault);
  };

  link.subscribe(topic(site, station, 'down', '#'), (message) => {
    const path = parseTopic(message.topic)?.path ?? '';
    const [kind, name = '', ...rest] = path.split('/');
    if (kind === 'call' && rest.length === 0) takeCall(name, message);
    else if (kind === 'presence' && rest.length === 0) takePresence(name, message);
    else if (kind === 'cmd' && rest.length === 0) onCommand(name, message);
    else if (!isManaged(kind) || onManaged?.(path, message) !== true) refuse('unknown-topic', message.topic);
  });
}

function isManaged(kind: string | undefined): boolean {
  return MANAGER_WRITES.some((one) => one === kind);
}
