import { stringify } from 'yaml';
import { type Board, configSchema } from '../config/schema.js';
import { AppError } from '../core/errors.js';

export type Role = 'station' | 'site-host';

/** Who a new station is; what its configuration can't take from its board. */
export interface Identity {
  readonly id: string;
  readonly name: string;
  readonly site: string;
  /** The station's own address towards its site. */
  readonly address: string;
  /** Name or address of the site host; a site host is its own. */
  readonly broker: string;
}

const BROKER_PORT = 8883;

/**
 * @param more keys beside those of every station
 * @returns the YAML text of a new station's configuration, with `board` beside it as board.yaml
 * @throws AppError `usage` for an identity that no configuration may have
 */
export function newStationConfig(role: Role, identity: Identity, board: Board, more: object = {}): string {
  const { id, name, site, address, broker } = identity;
  const keys = role === 'site-host' ? '/var/lib/entryphone/pki' : '/etc/entryphone/keys';
  const pem = (name: string) => (role === 'site-host' ? `${keys}/clients/${name}.pem` : `${keys}/${name}.pem`);
  const [own, ofMedia] = [pem(id), pem(`${id}--media`)];
  const actions: Record<string, object> =
    role === 'site-host'
      ? { bell: { do: 'answer-or-hang-up' }, open: { do: 'open-door' } }
      : { bell: { do: 'call', target: '1' }, open: { do: 'hang-up' } };
  const isFitted = ([button]: [string, object]) => board.gpio.buttons[button] !== undefined;
  const config = {
    station: { id, name, site, role },
    board: 'board.yaml',
    audio: { capture: board.sound?.capture ?? 'default', playback: board.sound?.playback ?? 'default' },
    rtp: { address },
    media: { identity: { cert: ofMedia, key: ofMedia } },
    buttons: Object.fromEntries(Object.entries(actions).filter(isFitted)),
    flows: { initial: role === 'site-host' ? 'indoor-station' : 'door-station' },
    mqtt: { url: `mqtts://${broker}:${BROKER_PORT}`, ca: `${keys}/ca.pem`, cert: own, key: own },
    ...(role === 'site-host'
      ? {
          siteHost: {
            listen: { address, port: BROKER_PORT },
            stations: { [id]: { name, numbers: ['1'] }, door: { name: 'Front door', numbers: ['2'] } },
          },
        }
      : {}),
    state: '/var/lib/entryphone',
    run: '/run/entryphone',
    ...more,
  };
  const fault = configSchema.safeParse(config).error?.issues[0];
  if (fault !== undefined) throw new AppError('usage', `${fault.path.join('.')}: ${fault.message}`);
  return `# This station, yours to edit; board.yaml beside it says how it is wired. Every key: entryphone config schema
${stringify(config)}`;
}
