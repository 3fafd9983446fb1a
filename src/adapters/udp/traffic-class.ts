import { createRequire } from 'node:module';
import { join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { errorText } from '../../core/errors.js';
import { packageRoot } from '../../core/package-root.js';
import type { UdpAddress } from './symmetric-remote.js';

/** native/traffic-class.cc: 0, or the errno. */
interface TrafficClass {
  mark(address: string, port: number, dscp: number): number;
}

/** Telephony, Expedited Forwarding (RFC 3246, RFC 4594, 4.1). */
const EXPEDITED_FORWARDING = 46;

const file = join(packageRoot, 'native/build/traffic-class.node');
let module: TrafficClass | string | undefined;

/**
 * What leaves the socket of this process that is bound there is to go before other traffic, where the network heeds that.
 * @returns null, or why it can't be
 */
export function markAsVoice({ address, port }: UdpAddress): string | null {
  module ??= load();
  if (typeof module === 'string') return module;
  const errno = module.mark(address, port, EXPEDITED_FORWARDING);
  return errno === 0 ? null : getSystemErrorName(-errno);
}

function load(): TrafficClass | string {
  try {
    return createRequire(import.meta.url)(file) as TrafficClass;
  } catch (error) {
    return errorText(error);
  }
}
