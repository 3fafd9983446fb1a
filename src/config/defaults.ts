import { join } from 'node:path';
import { currentRelease, readWithin, sha256Of } from './release-slot.js';
import { type ConfigFault, parseYaml } from './yaml-file.js';

/** In the root of a release of configuration defaults: part of a station's configuration, which stands under its own file. */
export const DEFAULTS_FILE = 'defaults.yaml';

/**
 * What a release may set: dotted; a section stands for all that is in it. Who signs such releases has less power than who signs
 * programs, so nothing is here that opens a door, a microphone or a port, names a file, a device (ALSA runs programs that its device
 * names say), a broker or somebody to call, lets go of encryption, or makes it easier for a release to stay.
 */
export const MAY_STAND: readonly string[] = [
  ...['audio.driver', 'audio.profile', 'opus', 'playout', 'media.codecs', 'media.path', 'call', 'door'],
  ...['flows.goodAfterMs', 'update.maxRateBps', 'update.quietHours'],
  ...['selftest.signalDbfs', 'selftest.dailyAt', 'selftest.everyHours'],
];

const MOST_BYTES = 65_536;

type Values = Readonly<Record<string, unknown>>;

/** Defaults that were found where the station's slots are, and whether they are used. */
export interface DefaultsInUse {
  /** The slot that was current when the configuration was loaded. */
  readonly slot: 'a' | 'b';
  /** Null where the slot is not whole. */
  readonly version: string | null;
  readonly isApplied: boolean;
  /** Why they are left out: none, where they are applied. */
  readonly faults: readonly ConfigFault[];
}

export interface FoundDefaults extends DefaultsInUse {
  readonly file: string;
  /** Undefined where there are faults. */
  readonly values: Values | undefined;
}

/** The defaults of the release that is current, if there is one. Never throws: they keep no station from starting. */
export function findDefaults(slots: string): FoundDefaults | null {
  const found = currentRelease(slots, 'config');
  if (found === null) return null;
  const { slot, folder, release } = found;
  const file = join(folder, DEFAULTS_FILE);
  const faults: ConfigFault[] = [];
  if (release === null) faults.push({ file: folder, path: '', text: 'is no whole release of configuration defaults' });
  const values = release === null ? undefined : readDefaults(folder, faults, release.files.get(DEFAULTS_FILE) ?? '');
  return { slot, version: release?.version ?? null, isApplied: faults.length === 0, faults, file, values };
}

/**
 * Reads the defaults of a release. Faults are added to `faults`.
 * @param sha256 what its manifest says of the file; undefined: not known
 */
export function readDefaults(folder: string, faults: ConfigFault[], sha256?: string): Values | undefined {
  const file = join(folder, DEFAULTS_FILE);
  try {
    const text = readWithin(file, MOST_BYTES);
    if (sha256 === undefined || sha256Of(text) === sha256) return parseDefaults(text, file, faults);
    faults.push({ file, path: '', text: 'is damaged: it is not what the manifest of its release says' });
  } catch (error) {
    faults.push({ file, path: '', text: (error as Error).message });
  }
  return undefined;
}

/** What a text says, whoever wrote it, as far as it may stand in a release. Faults are added to `faults`. Never throws. */
export function parseDefaults(text: string, file: string, faults: ConfigFault[]): Values | undefined {
  const own: ConfigFault[] = [];
  let values: unknown;
  try {
    values = parseYaml(text, file, own, 0);
  } catch (error) {
    // Nested without end, the parser has no more stack.
    own.push({ file, path: '', text: `is no YAML that can be read (${(error as Error).message})` });
  }
  if (own.length === 0) own.push(...forbidden(values, file));
  faults.push(...own);
  return own.length === 0 ? (values as Values) : undefined;
}

/** What is said over what is meant where nothing is said: maps are joined, all else is replaced, lists too. */
export function mergedOver(defaults: unknown, own: unknown): unknown {
  if (!isMap(defaults) || !isMap(own)) return own;
  const keys = new Set([...Object.keys(defaults), ...Object.keys(own)]);
  return Object.fromEntries(
    [...keys].map((key) => {
      if (!Object.hasOwn(own, key)) return [key, defaults[key]];
      return [key, Object.hasOwn(defaults, key) ? mergedOver(defaults[key], own[key]) : own[key]];
    }),
  );
}

/** Whether something at a dotted path is said by these values. */
export function says(values: unknown, path: string): boolean {
  let at = values;
  for (const key of path.split('.')) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return false;
    at = (at as Values)[key];
  }
  return true;
}

function forbidden(values: unknown, file: string): ConfigFault[] {
  if (!isMap(values)) return [{ file, path: '', text: 'must be a map of sections' }];
  const faults: ConfigFault[] = [];
  const walk = (map: Values, above: string): void => {
    for (const [key, value] of Object.entries(map)) {
      const path = `${above}${key}`;
      if (MAY_STAND.includes(path)) continue;
      const isOnTheWay = MAY_STAND.some((allowed) => allowed.startsWith(`${path}.`));
      if (isOnTheWay && isMap(value)) walk(value, `${path}.`);
      else
        faults.push({
          file,
          path,
          text: isOnTheWay ? 'must be a map' : 'may not stand in a release (docs/updates.md has what may)',
        });
    }
  };
  walk(values, '');
  return faults;
}

/** Not what YAML has beside: lists, bytes, times, sets. */
function isMap(value: unknown): value is Values {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}
