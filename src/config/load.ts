import { dirname, join, resolve } from 'node:path';
import * as z from 'zod';
import { DEFAULTS_FILE, type DefaultsInUse, findDefaults, mergedOver, readDefaults, says } from './defaults.js';
import { type Board, boardSchema, type Config, configSchema } from './schema.js';
import { ConfigError, type ConfigFault, check, readYaml } from './yaml-file.js';

export interface LoadedConfig {
  readonly config: Readonly<Config>;
  readonly board: Readonly<Board>;
  /** The file of the station's own; absolute. */
  readonly file: string;
  /** Those of a release that stand under it; null: there are none. */
  readonly defaults: DefaultsInUse | null;
}

/** Id of the echo extension in the directory; no station may have it while there is one. */
export const ECHO_ID = 'echo';

/**
 * Reads a station's configuration and the board profile that it names; under it stand the defaults of a release, where one is
 * installed (`update.slots`). Defaults with which there would be a fault are left out: they keep no station from starting. Paths in
 * the result are absolute.
 * @throws ConfigError with every fault of both files
 */
export function loadConfig(file: string): LoadedConfig {
  const faults: ConfigFault[] = [];
  const own: OwnConfig = { file, raw: readYaml(file, faults), faults };
  const slots = slotsOf(own);
  const found = slots === undefined ? null : findDefaults(slots);
  if (found === null) return { ...checkedWhole(own), file: resolve(file), defaults: null };
  const { slot, version } = found;
  let left = found.faults;
  if (found.values !== undefined) {
    try {
      const checked = checkedWhole(own, { file: found.file, values: found.values });
      return { ...checked, file: resolve(file), defaults: { slot, version, isApplied: true, faults: [] } };
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      left = error.faults;
    }
  }
  return { ...checkedWhole(own), file: resolve(file), defaults: { slot, version, isApplied: false, faults: left } };
}

/**
 * Whether the defaults in the folder of a release could stand under a station's configuration.
 * @throws ConfigError with every fault of them, or that they would make
 */
export function checkDefaults(folder: string, file: string): void {
  const faults: ConfigFault[] = [];
  const values = readDefaults(folder, faults);
  if (values === undefined) throw new ConfigError(faults);
  checkedWhole({ file, raw: readYaml(file, faults), faults }, { file: join(folder, DEFAULTS_FILE), values });
}

/**
 * Whether the defaults in the folder of a release could stand under some station's configuration.
 * @throws ConfigError with every fault of them
 */
export function checkDefaultsAlone(folder: string): void {
  const faults: ConfigFault[] = [];
  const values = readDefaults(folder, faults);
  const ofAll: ConfigFault[] = [];
  if (values !== undefined) check(configSchema, values, join(folder, DEFAULTS_FILE), ofAll);
  // What they don't say is no fault of theirs.
  faults.push(...ofAll.filter(({ path }) => says(values, path)));
  if (faults.length > 0) throw new ConfigError(faults);
}

interface OwnConfig {
  readonly file: string;
  readonly raw: unknown;
  /** Of reading it. */
  readonly faults: readonly ConfigFault[];
}

/** @throws ConfigError; what only the defaults say, is a fault of theirs */
function checkedWhole(
  { file, raw, faults: ofReading }: OwnConfig,
  defaults?: { readonly file: string; readonly values: unknown },
): Pick<LoadedConfig, 'config' | 'board'> {
  const faults = [...ofReading];
  const merged = raw === undefined || defaults === undefined ? raw : mergedOver(defaults.values, raw);
  const checked = merged === undefined ? undefined : check(configSchema, merged, file, faults);
  const boardPath = boardPathOf(merged, file);
  const board = boardPath === undefined ? undefined : readBoard(boardPath, faults);
  faults.push(...crossFaults(soundSections(merged), board, file));
  if (faults.length > 0 || checked === undefined || board === undefined) {
    const isTheirs = ({ file: of, path }: ConfigFault) =>
      of === file && defaults !== undefined && says(defaults.values, path) && !says(raw, path);
    throw new ConfigError(faults.map((one) => (isTheirs(one) ? { ...one, file: defaults?.file ?? file } : one)));
  }
  return { config: deepFreeze(withAbsolutePaths(checked, file)), board: deepFreeze(board) };
}

/** Where a station's slots are, by its configuration, which may have any fault; undefined where it names none. Never throws. */
export function slotsNamedIn(file: string): string | undefined {
  return slotsOf({ file, raw: readYaml(file, []), faults: [] });
}

function slotsOf({ raw, file }: OwnConfig): string | undefined {
  const slots = (raw as { update?: { slots?: unknown } | null } | null | undefined)?.update?.slots;
  return typeof slots === 'string' && slots !== '' ? resolve(dirname(file), slots) : undefined;
}

/**
 * Reads a board profile alone.
 * @throws ConfigError with every fault of it
 */
export function loadBoard(file: string): Readonly<Board> {
  const faults: ConfigFault[] = [];
  const board = readBoard(file, faults);
  if (board === undefined || faults.length > 0) throw new ConfigError(faults);
  return deepFreeze(board);
}

/** The JSON Schema of a station's configuration file (draft 2020-12), for editors. */
export function configJsonSchema(): object {
  return z.toJSONSchema(configSchema, { io: 'input' });
}

/** The JSON Schema of a board profile (draft 2020-12). */
export function boardJsonSchema(): object {
  return z.toJSONSchema(boardSchema, { io: 'input' });
}

function readBoard(file: string, faults: ConfigFault[]): Board | undefined {
  const raw = readYaml(file, faults);
  const board = raw === undefined ? undefined : check(boardSchema, raw, file, faults);
  if (board !== undefined) faults.push(...boardFaults(board, file));
  return board;
}

function boardPathOf(raw: unknown, file: string): string | undefined {
  const board = (raw as { board?: unknown } | null | undefined)?.board;
  return typeof board === 'string' && board !== '' ? resolve(dirname(file), board) : undefined;
}

function boardFaults(board: Board, file: string): ConfigFault[] {
  const { buttons, relay, contact, leds } = board.gpio;
  const users: [path: string, line: number][] = [
    ...Object.entries(buttons).map(([name, button]): [string, number] => [`gpio.buttons.${name}`, button.line]),
    ...(relay === undefined ? [] : [['gpio.relay', relay.line] as [string, number]]),
    ...(contact === undefined ? [] : [['gpio.contact', contact.line] as [string, number]]),
    ...Object.entries(leds).map(([name, led]): [string, number] => [`gpio.leds.${name}`, led.line]),
  ];
  const faults: ConfigFault[] = [];
  if (contact !== undefined && relay === undefined) {
    faults.push({ file, path: 'gpio.contact', text: 'is there, but no gpio.relay that would move it' });
  }
  const takenBy = new Map<number, string>();
  for (const [path, line] of users) {
    const other = takenBy.get(line);
    if (other !== undefined) faults.push({ file, path: `${path}.line`, text: `line ${line} is taken by ${other}` });
    else takenBy.set(line, path);
  }
  return faults;
}

/** The sections of a configuration that are right by themselves, so that what lies between them is named in the same run. */
function soundSections(raw: unknown): Partial<Config> {
  const given = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
  const sections = Object.entries(configSchema.shape).flatMap(([key, schema]) => {
    const section = schema.safeParse(given[key]);
    return section.success ? [[key, section.data]] : [];
  });
  return Object.fromEntries(sections) as Partial<Config>;
}

function crossFaults(config: Partial<Config>, board: Board | undefined, file: string): ConfigFault[] {
  const faults: ConfigFault[] = [];
  for (const name of board === undefined ? [] : Object.keys(config.buttons ?? {})) {
    const known = Object.keys(board?.gpio.buttons ?? {});
    if (!known.includes(name)) {
      faults.push({
        file,
        path: `buttons.${name}`,
        text: `the board has no such button; it has: ${known.join(', ') || 'none'}`,
      });
    }
  }
  const { station, media } = config;
  if (media?.path === 'mqtt' && media.identity === undefined) {
    faults.push({ file, path: 'media.identity', text: 'is needed, since media.path is mqtt' });
  }
  const stations = config.siteHost?.stations;
  if (station !== undefined && 'siteHost' in config) {
    const isHost = station.role === 'site-host';
    if (isHost && stations === undefined) {
      faults.push({ file, path: 'siteHost', text: 'is needed, since station.role is site-host' });
    }
    if (!isHost && stations !== undefined) {
      faults.push({ file, path: 'siteHost', text: 'is only for station.role site-host' });
    }
    if (stations !== undefined && stations[station.id] === undefined) {
      faults.push({ file, path: 'siteHost.stations', text: `lacks the site host's own id, ${station.id}` });
    }
  }
  const echo = config.siteHost?.echo;
  for (const [name, entry] of Object.entries(stations ?? {})) {
    const taken = echo?.enabled === true ? echoNameOf(name, entry, echo.number) : undefined;
    if (taken !== undefined) {
      faults.push({
        file,
        path: `siteHost.stations.${name}`,
        text: `"${taken}" is the echo extension; give it another number (siteHost.echo), or the station another name`,
      });
    }
    for (const [index, callee] of (entry.mayCall ?? []).entries()) {
      if (stations?.[callee] === undefined) {
        faults.push({
          file,
          path: `siteHost.stations.${name}.mayCall.${index}`,
          text: `${callee} is no station of the directory`,
        });
      }
    }
  }
  return faults;
}

/** What of a station would be called in the place of the echo extension, or the other way round. */
function echoNameOf(
  id: string,
  { name, numbers }: { readonly name: string; readonly numbers: readonly string[] },
  number: string,
): string | undefined {
  const taken = new Set([ECHO_ID, folded(number)]);
  return [id, name, ...numbers].find((one) => taken.has(folded(one)));
}

/** As the directory compares names and numbers. */
function folded(text: string): string {
  return text.trim().normalize('NFC').toLowerCase();
}

function withAbsolutePaths(config: Config, file: string): Config {
  const absolute = (path: string) => resolve(dirname(file), path);
  const { identity } = config.media;
  return {
    ...config,
    board: absolute(config.board),
    ...(identity === undefined
      ? {}
      : {
          media: { ...config.media, identity: { cert: absolute(identity.cert), key: absolute(identity.key) } },
        }),
    mqtt: pemPaths(config.mqtt, absolute),
    ...(config.siteHost?.cloud === undefined
      ? {}
      : { siteHost: { ...config.siteHost, cloud: pemPaths(config.siteHost.cloud, absolute) } }),
    inference: { ...config.inference, models: absolute(config.inference.models) },
    update: {
      ...config.update,
      ...(config.update.slots === undefined ? {} : { slots: absolute(config.update.slots) }),
      ...(config.update.root === undefined ? {} : { root: absolute(config.update.root) }),
      ...(config.update.ca === undefined ? {} : { ca: absolute(config.update.ca) }),
    },
    state: absolute(config.state),
    run: absolute(config.run),
  };
}

function pemPaths<T extends { ca: string; cert: string; key: string }>(of: T, absolute: (path: string) => string): T {
  return { ...of, ca: absolute(of.ca), cert: absolute(of.cert), key: absolute(of.key) };
}

export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
