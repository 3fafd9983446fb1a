import { existsSync, readdirSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { AppError, errorText } from '../../core/errors.js';

/** sysexits(3): the service is not there. */
const EX_UNAVAILABLE = 69;

/** A table without colours of its own: those that a cell has say something. */
export const PLAIN = { head: [], border: [] };

/** Rows close together: a status fits on a screen. */
export const CLOSE_ROWS = { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' };

/** Writes the one JSON object of a `--json` command. */
export function printJson(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Progress and other words for people; never on stdout, where machines read. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Whether this command was called with `--json`, also where its arguments are wrong. */
function isJsonAsked(): boolean {
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  return args.slice(0, end < 0 ? args.length : end).includes('--json');
}

/** For what commander has told on stderr already. */
export function failedUsage(text: string): void {
  if (isJsonAsked()) printJson({ ok: false, failed: [text] });
}

/** Says what went wrong and sets the exit code: 2 for a wrong configuration or usage, 69 for what isn't running, else 1. */
export function fail(error: unknown): void {
  if (isJsonAsked()) printJson({ ok: false, failed: [errorText(error)] });
  note(styleText('red', errorText(error), { stream: process.stderr }));
  const code = error instanceof AppError ? error.code : '';
  process.exitCode = ['config-invalid', 'usage', 'folder-unusable'].includes(code)
    ? 2
    : code === 'not-running'
      ? EX_UNAVAILABLE
      : 1;
}

/** The one that is named, the only one, or the indoor one. @throws AppError `not-running`, `usage` */
export function runningStation(id: string | undefined): { readonly id: string; readonly runDir: string } {
  const stations = runningStations(id);
  const found = stations.length === 1 ? stations[0] : stations.find((one) => one.id === 'indoor');
  if (found !== undefined) return found;
  throw new AppError('usage', 'several stations are running here', {
    remedy: `Say which: --station ${stations.map((one) => one.id).join(' or ')}`,
  });
}

/** Where `entryphone run` puts its sockets: short, since a Unix socket's path is at most 107 bytes. */
export function siteRunDir(): string {
  return join(process.env.XDG_RUNTIME_DIR ?? tmpdir(), `entryphone-${userInfo().uid}`);
}

/**
 * The `run` folders of the stations that answer here: those of `entryphone run`, and a board's own.
 * @throws AppError `not-running`
 */
export function runningStations(only?: string): { readonly id: string; readonly runDir: string }[] {
  const site = siteRunDir();
  const found = existsSync(site)
    ? readdirSync(site)
        .filter((id) => existsSync(join(site, id, 'station.sock')))
        .map((id) => ({ id, runDir: join(site, id) }))
    : [];
  if (existsSync('/run/entryphone/station.sock')) found.push({ id: 'board', runDir: '/run/entryphone' });
  const chosen = only === undefined ? found : found.filter((one) => one.id === only);
  if (chosen.length === 0) {
    throw new AppError(
      'not-running',
      only === undefined ? 'no station is running here' : `no station ${only} is running here`,
      {
        remedy:
          found.length > 0
            ? `There is: ${found.map((one) => one.id).join(', ')}`
            : 'Start two with: make run; a board: systemctl start entryphone.target',
      },
    );
  }
  return chosen;
}
