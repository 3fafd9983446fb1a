import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { AuditView, JobView, StationView } from '../../protocol/manager-api.js';
import { CLOSE_ROWS, PLAIN } from './output.js';

const COLOURS: Readonly<Record<string, 'green' | 'red' | 'yellow'>> = {
  succeeded: 'green',
  failed: 'red',
  rejected: 'red',
  timed_out: 'red',
  canceled: 'yellow',
};

export function stationsTable(stations: readonly StationView[], nowMs: number): string {
  if (stations.length === 0) return 'no station was heard of yet';
  const table = new Table({
    style: PLAIN,
    chars: CLOSE_ROWS,
    head: ['station', '', 'heard of', 'release', 'machine', 'self-test'],
  });
  for (const { site, station, isOnline, release, architecture, seenAtMs, reports } of stations) {
    const verdict = reports.find(({ kind }) => kind === 'selftest')?.body.verdict;
    table.push([
      `${station}@${site}`,
      isOnline ? coloured('online', 'green') : coloured('away', 'red'),
      `${agoText(nowMs - seenAtMs)} ago`,
      release,
      architecture ?? '',
      typeof verdict === 'string' ? coloured(verdict, verdict === 'pass' ? 'green' : 'red') : '',
    ]);
  }
  return table.toString();
}

export function stationTables(
  found: { readonly station: StationView; readonly jobs: readonly JobView[]; readonly audit: readonly AuditView[] },
  nowMs: number,
): string {
  const { station, jobs, audit } = found;
  const parts = [stationsTable([station], nowMs)];
  for (const { rev, target } of station.desired) parts.push(`is to have ${target} (rev ${rev})`);
  if (station.reports.length > 0) {
    const reports = new Table({
      style: PLAIN,
      chars: CLOSE_ROWS,
      wordWrap: true,
      head: ['says of', 'ago', 'what'],
      colWidths: [null, null, 90],
    });
    for (const { kind, body, atMs } of station.reports) {
      const { v: _v, id: _id, seq: _seq, ...rest } = body;
      reports.push([kind, agoText(nowMs - atMs), JSON.stringify(rest).slice(0, 800)]);
    }
    parts.push(reports.toString());
  }
  if (jobs.length > 0) parts.push(jobsTable(jobs));
  for (const { atMs, by, what, outcome, detail } of audit.slice(0, 20)) {
    parts.push(`${new Date(atMs).toISOString()} ${by} ${what}: ${outcome} ${detail}`);
  }
  return parts.join('\n');
}

export function jobsTable(jobs: readonly JobView[]): string {
  if (jobs.length === 0) return 'no jobs';
  const table = new Table({
    style: PLAIN,
    chars: CLOSE_ROWS,
    wordWrap: true,
    head: ['job', 'station', 'release', 'state', 'step', 'why'],
    colWidths: [null, null, null, null, null, 60],
  });
  for (const { jobId, site, station, kind, version, now, isOver } of jobs) {
    const { state, step, progressPct, reason } = now;
    const at = isOver || step === null ? (step ?? '') : `${step} ${Math.round(progressPct)} %`;
    table.push([jobId, `${station}@${site}`, `${kind} ${version}`, coloured(state, COLOURS[state]), at, reason ?? '']);
  }
  return table.toString();
}

/** One line of how a job goes. */
export function jobText({ site, station, kind, version, now }: JobView): string {
  const { state, step, progressPct, reason } = now;
  const at = step === null ? '' : `, ${step} ${Math.round(progressPct)} %`;
  return `${station}@${site} ${kind} ${version}: ${state}${at}${reason === null ? '' : ` (${reason})`}`;
}

function coloured(text: string, colour: 'green' | 'red' | 'yellow' | undefined): string {
  return colour === undefined ? text : styleText(colour, text, { stream: process.stdout });
}

function agoText(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1_000));
  if (s < 120) return `${s} s`;
  if (s < 7_200) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3_600)} h` : `${Math.round(s / 86_400)} d`;
}
