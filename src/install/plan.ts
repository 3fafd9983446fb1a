import type { Board } from '../config/schema.js';
import { type Identity, newStationConfig, type Role } from './station-config.js';

/** One thing that an installation does, and why; paths are those of the running board, `/etc/…`. */
export type Step =
  | {
      readonly do: 'file';
      readonly path: string;
      readonly content: string;
      /** `ours` is replaced when it differs; `yours` is made once and then left alone. */
      readonly owner: 'ours' | 'yours';
      readonly why: string;
    }
  /** A line that a file must have: put before all others, where no section of the file has begun yet. */
  | { readonly do: 'line'; readonly path: string; readonly line: string; readonly why: string }
  /** A first release, unpacked into the slots that the launcher starts from; what runs from there already stays. */
  | { readonly do: 'slots'; readonly path: string; readonly release: FirstRelease; readonly why: string }
  /** Carried out each time, since it is quick and changes nothing the second time. */
  | {
      readonly do: 'run';
      readonly command: readonly string[];
      readonly why: string;
      /** What its failure means, where the rest goes on all the same. */
      readonly ifItFails?: string;
    };

/** A release that a station begins with, and who may sign those that follow. */
export interface FirstRelease {
  /** The folder of its manifest in a repository: `…/releases/1.2.3/arm64`. */
  readonly place: string;
  readonly version: string;
  /** Of the manifest that was looked at. */
  readonly manifestSha256: string;
  /** The text of the first root metadata; undefined where the repository has none: the station takes no updates then. */
  readonly trustRoot: string | undefined;
}

/** Where the station's user may write, and nothing of root's is started from. */
export const SLOTS = '/var/lib/entryphone-slots';
const LAUNCHER = '/usr/lib/entryphone/launcher.sh';
const TRUST_ROOT = '/etc/entryphone/root.json';

/** A file of the release's folders `systemd` and `device`, by its path in there: `systemd/entryphone.target`. */
export type Sources = ReadonlyMap<string, string>;

export interface InstallOptions {
  readonly boardName: string;
  readonly board: Board;
  readonly role: Role;
  /** Undefined where the board has its configuration already. */
  readonly identity: Identity | undefined;
  /** `/`, or the folder of an image. */
  readonly root: string;
  /** Where the board's firmware reads config.txt: /boot/firmware; undefined where it has none. */
  readonly firmware: string | undefined;
  readonly sources: Sources;
  /** Undefined where the units start what stands in /opt/entryphone. */
  readonly release: FirstRelease | undefined;
}

/** What starts with the board. */
const ENABLED = [
  'entryphone.target',
  'entryphone-media.service',
  'entryphone-station.service',
  'entryphone-flows.service',
  'entryphone-inference.service',
  'entryphone-flows-restart.path',
  'entryphone-update-restart.path',
];

/** Every step of an installation, in its order. Pure: nothing is read and nothing is changed. */
export function planInstall(options: InstallOptions): Step[] {
  const { board, boardName, role, identity, sources, firmware, release } = options;
  const source = (name: string) => sources.get(name) ?? '';
  const ours = (path: string, name: string, why: string): Step => ({
    do: 'file',
    path,
    content: source(name),
    owner: 'ours',
    why,
  });
  const yours = (path: string, content: string, why: string): Step => ({
    do: 'file',
    path,
    content,
    owner: 'yours',
    why,
  });
  return [
    ours('/etc/sysusers.d/entryphone.conf', 'systemd/entryphone.sysusers.conf', 'a user for each process'),
    ours('/etc/tmpfiles.d/entryphone.conf', 'systemd/entryphone.tmpfiles.conf', 'the folders of sockets and keys'),
    ...[...sources.keys()].flatMap((name) => {
      const unit = /^systemd\/(.*\.(?:target|service|path))$/.exec(name)?.[1];
      return unit === undefined ? [] : [ours(`/etc/systemd/system/${unit}`, name, 'what systemd keeps running')];
    }),
    ...(release === undefined ? [] : launchedSteps(sources)),
    ours('/etc/udev/rules.d/60-entryphone.rules', 'device/udev/60-entryphone.rules', 'GPIO rights; names the card'),
    ours('/etc/alsa/conf.d/60-entryphone.conf', 'device/alsa/entryphone.conf', 'the ALSA device entryphone'),
    yours('/etc/entryphone/board.yaml', source(`device/${boardName}.yaml`), 'how the board is wired; edit it to match'),
    ...(identity === undefined
      ? []
      : [yours('/etc/entryphone/station.yaml', configOf(role, identity, board, release), 'who this station is')]),
    ...(release?.trustRoot === undefined
      ? []
      : [yours(TRUST_ROOT, release.trustRoot, 'who may sign its releases; trust begins with it')]),
    ...(firmware === undefined ? [] : firmwareSteps(board, firmware)),
    ...commands(options),
  ];
}

/** What is left for a person to do, in words. */
export function whatIsLeft(options: InstallOptions): string[] {
  const { role, root, identity, release } = options;
  return [
    ...(root === '/' || release !== undefined
      ? []
      : [`put Entryphone, set up, at ${root.replace(/\/$/, '')}/opt/entryphone`]),
    'check /etc/entryphone/board.yaml against the wiring, and /etc/entryphone/station.yaml',
    ...(release === undefined || identity !== undefined
      ? []
      : [`see that /etc/entryphone/station.yaml has ${JSON.stringify({ update: updateKeys(release) })}`]),
    ...(release !== undefined && release.trustRoot === undefined
      ? [`put the first root of who signs its releases at ${TRUST_ROOT}, and name it: update.root`]
      : []),
    role === 'site-host'
      ? 'give each station of siteHost.stations its keys, from /var/lib/entryphone/pki once it runs'
      : `copy ca.pem, ${identity?.id ?? 'ID'}.pem and ${identity?.id ?? 'ID'}--media.pem from the site host to /etc/entryphone/keys`,
    root === '/' ? 'start it: systemctl restart entryphone.target' : 'boot the image',
  ];
}

/** In place of the units' own commands, beside them: systemd reads both. */
function launchedSteps(sources: Sources): Step[] {
  const ours = (path: string, name: string, why: string): Step => {
    return { do: 'file', path, content: sources.get(name) ?? '', owner: 'ours', why };
  };
  return [
    ours(LAUNCHER, 'device/launcher.sh', 'starts the release that is to run; no release replaces it'),
    ...[...sources.keys()].flatMap((name) => {
      const unit = /^systemd\/slots\/(.*)\.conf$/.exec(name)?.[1];
      const path = `/etc/systemd/system/${unit}.service.d/slots.conf`;
      return unit === undefined ? [] : [ours(path, name, 'has the unit started from the slots')];
    }),
  ];
}

function updateKeys({ trustRoot }: FirstRelease): object {
  return { slots: SLOTS, ...(trustRoot === undefined ? {} : { root: TRUST_ROOT }) };
}

function configOf(role: Role, identity: Identity, board: Board, release: FirstRelease | undefined): string {
  return newStationConfig(role, identity, board, release === undefined ? {} : { update: updateKeys(release) });
}

function commands({ root, board, release }: InstallOptions): Step[] {
  const image = root === '/' ? [] : [`--root=${root}`];
  const users: Step = { do: 'run', command: ['systemd-sysusers', ...image, 'entryphone.conf'], why: 'makes the users' };
  const enable: Step = {
    do: 'run',
    command: ['systemctl', ...image, 'enable', ...ENABLED],
    why: 'from the next start on',
  };
  const slots: Step[] =
    release === undefined
      ? []
      : [{ do: 'slots', path: SLOTS, release, why: `the release ${release.version}, which the station may replace` }];
  if (root !== '/') return [users, ...slots, enable];
  const trigger = ['udevadm', 'trigger', '--action=add', '--subsystem-match=gpio', '--subsystem-match=sound'];
  return [
    users,
    ...slots,
    { do: 'run', command: ['systemd-tmpfiles', '--create', 'entryphone.conf'], why: 'makes the folders' },
    { do: 'run', command: ['udevadm', 'control', '--reload'], why: 'takes the rules' },
    { do: 'run', command: trigger, why: 'applies them to what is plugged in' },
    { do: 'run', command: ['udevadm', 'settle', '--timeout=10'], why: 'waits for that' },
    ...mixerSteps(board),
    { do: 'run', command: ['systemctl', 'daemon-reload'], why: 'takes the units' },
    enable,
  ];
}

/** alsa-utils brings back at each start, and whenever the card is plugged in, what is stored here. */
function mixerSteps(board: Board): Step[] {
  const { card, mixer } = board.sound ?? { card: '', mixer: {} };
  const controls = Object.entries(mixer);
  if (controls.length === 0) return [];
  const ifItFails = `is the sound card plugged in? "amixer -c ${card} scontrols" names its controls, for board.yaml`;
  return [
    ...controls.map(
      ([control, setting]): Step => ({
        do: 'run',
        command: ['amixer', '-q', '-c', card, 'sset', control, ...setting.split(' ')],
        why: 'a level of the sound card',
        ifItFails,
      }),
    ),
    { do: 'run', command: ['alsactl', 'store', card], why: 'keeps the levels', ifItFails },
  ];
}

/** From a few seconds after power-on, long before Linux runs, each line of the board is what it will be. */
function firmwareSteps(board: Board, firmware: string): Step[] {
  const { buttons, relay, contact, leds } = board.gpio;
  const lines = [
    ...Object.values(buttons).map(({ line, pressed }) => `gpio=${line}=ip,${pressed === 'low' ? 'pu' : 'pd'}`),
    ...(relay === undefined ? [] : [`gpio=${relay.line}=op,${relay.safe === 'low' ? 'dl' : 'dh'}`]),
    ...(contact === undefined ? [] : [`gpio=${contact.line}=ip,${contact.closed === 'low' ? 'pu' : 'pd'}`]),
    ...Object.values(leds).map(({ line, lit }) => `gpio=${line}=op,${lit === 'low' ? 'dh' : 'dl'}`),
  ];
  const why = 'buttons pulled, door shut and lights out before Linux runs';
  return [
    {
      do: 'file',
      path: `${firmware}/entryphone.txt`,
      content: `# From /etc/entryphone/board.yaml, by entryphone install\n${lines.join('\n')}\n`,
      owner: 'ours',
      why,
    },
    { do: 'line', path: `${firmware}/config.txt`, line: 'include entryphone.txt', why },
  ];
}
