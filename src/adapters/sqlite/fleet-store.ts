import type { DatabaseSync, SQLOutputValue } from 'node:sqlite';
import type { Clock } from '../../core/clock.js';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { ReleaseKind } from '../../fleet/manifest.js';
import { isOver, type JobState } from '../../fleet/update-journal.js';
import type { JobStep } from '../../fleet/update-plan.js';
import type { AuditView, JobChange, JobView, StationView } from '../../protocol/manager-api.js';
import { DESIRED_SCHEMA, DesiredStates } from './desired-states.js';
import { openDatabase } from './open-database.js';

const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS station (
    site TEXT NOT NULL, station TEXT NOT NULL, is_online INTEGER NOT NULL, release TEXT NOT NULL, architecture TEXT,
    seen_at_ms INTEGER NOT NULL, PRIMARY KEY (site, station)
  ) STRICT`,
  `CREATE TABLE IF NOT EXISTS report (
    site TEXT NOT NULL, station TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (site, station, kind)
  ) STRICT`,
  `CREATE TABLE IF NOT EXISTS job (
    n INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL UNIQUE, site TEXT NOT NULL, station TEXT NOT NULL,
    kind TEXT NOT NULL, version TEXT NOT NULL, target TEXT NOT NULL, is_urgent INTEGER NOT NULL, deadline_at_ms INTEGER,
    by_whom TEXT NOT NULL, created_at_ms INTEGER NOT NULL, seq INTEGER NOT NULL, state TEXT NOT NULL, step TEXT,
    progress_pct REAL NOT NULL, reason TEXT, at_ms INTEGER NOT NULL, said TEXT NOT NULL
  ) STRICT`,
  `CREATE TABLE IF NOT EXISTS job_change (
    n INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, seq INTEGER NOT NULL, state TEXT NOT NULL, step TEXT,
    progress_pct REAL NOT NULL, reason TEXT, at_ms INTEGER NOT NULL
  ) STRICT`,
  'CREATE INDEX IF NOT EXISTS job_change_of ON job_change (job_id)',
  `CREATE TABLE IF NOT EXISTS audit (
    n INTEGER PRIMARY KEY AUTOINCREMENT, at_ms INTEGER NOT NULL, by_whom TEXT NOT NULL, what TEXT NOT NULL,
    target TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL
  ) STRICT`,
  ...DESIRED_SCHEMA,
  // Fails where a table is of another making.
  'SELECT is_online, architecture FROM station LIMIT 1',
  'SELECT target, by_whom, said FROM job LIMIT 1',
  'SELECT outcome, detail FROM audit LIMIT 1',
];

/** A fleet of hundreds; thousands come next. What is beyond is refused or goes, the oldest first. */
const MOST_STATIONS = 5_000;
/** A site whose broker makes stations up takes no other's place. */
const MOST_STATIONS_EACH_SITE = 500;
/** That a station was heard of is known to the second, and written so often: telemetry comes from each of them each second. */
const SEEN_EVERY_MS = 60_000;
const MOST_REPORTS_EACH = 16;
const MOST_REPORT_CHARS = 8_192;
const MOST_JOBS = 20_000;
const MOST_CHANGES_EACH = 200;
const MOST_AUDIT = 200_000;

export type NewJob = Omit<JobView, 'now' | 'isOver' | 'history'>;

type Row = Record<string, SQLOutputValue>;

/** What a fleet manager remembers, on disk when a call returns: stations, jobs and each step that they took, and who ordered what. */
export class FleetStore {
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  /** Of stations that are known: when they were heard of, and when that was written last. */
  readonly #seen = new Map<string, { atMs: number; writtenMs: number }>();
  #isClosed = false;
  readonly desired: DesiredStates;
  /** Where a damaged file went to; null where there was none. */
  readonly setAside: string | null;

  /** @throws AppError `store-unusable` where the folder can't be written */
  constructor(options: { path: string; clock: Clock; logger: Logger }) {
    this.#clock = options.clock;
    try {
      const { db, setAside } = openDatabase({ ...options, schema: SCHEMA });
      this.#db = db;
      this.desired = new DesiredStates(db);
      this.setAside = setAside;
    } catch (error) {
      throw new AppError('store-unusable', `${options.path} can't be used: ${errorText(error)}`, {
        remedy: 'Check that its folder can be written and that the disk is not full.',
        cause: error,
      });
    }
  }

  /** @returns false where there are too many stations, of all or of that site, to take another */
  presence(of: {
    site: string;
    station: string;
    isOnline: boolean;
    release: string;
    architecture: string | null;
  }): boolean {
    const { site, station, isOnline, release, architecture } = of;
    const before = this.#one('SELECT * FROM station WHERE site = ? AND station = ?', site, station);
    if (before === undefined && !this.#mayHaveMore(site)) return false;
    const isSame = before?.is_online === (isOnline ? 1 : 0) && before.release === release;
    if (isSame && (architecture === null || architecture === before.architecture)) {
      this.seen(site, station);
      return true;
    }
    this.#noteSeen(site, station, this.#nowMs());
    this.#db
      .prepare(
        `INSERT INTO station (site, station, is_online, release, architecture, seen_at_ms) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (site, station) DO UPDATE SET is_online = excluded.is_online, release = excluded.release,
           architecture = coalesce(excluded.architecture, architecture), seen_at_ms = excluded.seen_at_ms`,
      )
      .run(site, station, isOnline ? 1 : 0, release, architecture, this.#nowMs());
    return true;
  }

  /** It was heard of, whatever it said. */
  seen(site: string, station: string): void {
    const nowMs = this.#nowMs();
    const known = this.#seen.get(keyOf(site, station));
    if (known === undefined || nowMs < known.writtenMs || nowMs - known.writtenMs >= SEEN_EVERY_MS) {
      if (this.#writeSeen(site, station, nowMs)) this.#noteSeen(site, station, nowMs);
    } else known.atMs = nowMs;
  }

  /** What a station says of itself; the last of each kind stays. @returns false for a station that is unknown, or too much */
  report(site: string, station: string, kind: string, body: object): boolean {
    const text = JSON.stringify(body);
    if (text.length > MOST_REPORT_CHARS || this.station(site, station) === undefined) return false;
    const has = this.#one('SELECT 1 FROM report WHERE site = ? AND station = ? AND kind = ?', site, station, kind);
    const count = Number(
      this.#one('SELECT count(*) AS n FROM report WHERE site = ? AND station = ?', site, station)?.n,
    );
    if (has === undefined && count >= MOST_REPORTS_EACH) return false;
    this.#db
      .prepare(
        `INSERT INTO report (site, station, kind, body, at_ms) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (site, station, kind) DO UPDATE SET body = excluded.body, at_ms = excluded.at_ms`,
      )
      .run(site, station, kind, text, this.#nowMs());
    return true;
  }

  stations(): StationView[] {
    return this.#all('SELECT * FROM station ORDER BY site, station').map((row) => this.#stationOf(row));
  }

  station(site: string, station: string): StationView | undefined {
    const row = this.#one('SELECT * FROM station WHERE site = ? AND station = ?', site, station);
    return row === undefined ? undefined : this.#stationOf(row);
  }

  /**
   * A new job, `queued`, and the desired state that it is to bring about. The oldest that are over go where there are too many.
   * @param said what the station is told, JSON
   */
  addJob(job: NewJob, rev: number, said: string): void {
    const nowMs = this.#nowMs();
    this.#inOne(() => {
      this.#db
        .prepare(
          `INSERT INTO job (job_id, site, station, kind, version, target, is_urgent, deadline_at_ms, by_whom, created_at_ms,
             seq, state, step, progress_pct, reason, at_ms, said)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, -1, 'queued', NULL, 0, NULL, ?, ?)`,
        )
        .run(
          ...[job.jobId, job.site, job.station, job.kind, job.version, job.target, job.isUrgent ? 1 : 0],
          ...[job.deadlineAtMs, job.by, job.createdAtMs, nowMs, said],
        );
      this.desired.add({ ...job, rev, said });
      const tooMany = Number(this.#one('SELECT count(*) AS n FROM job')?.n) - MOST_JOBS;
      if (tooMany <= 0) return;
      const over = this.#all(
        `SELECT job_id FROM job WHERE state NOT IN ('queued', 'in_progress') ORDER BY n LIMIT ?`,
        tooMany,
      );
      for (const { job_id: old } of over) {
        this.#db.prepare('DELETE FROM job_change WHERE job_id = ?').run(old ?? null);
        this.#db.prepare('DELETE FROM job WHERE job_id = ?').run(old ?? null);
      }
    });
  }

  /**
   * What a station said of a job. Progress within a step is remembered, but makes no history.
   * @returns the job as it is now; undefined for a job of nobody, of another station, or an old report
   */
  jobTold(site: string, station: string, jobId: string, told: JobChange): JobView | undefined {
    const before = this.job(jobId);
    if (before === undefined || before.site !== site || before.station !== station) return undefined;
    if (told.seq <= before.now.seq) return undefined;
    this.#change(before, told);
    return this.job(jobId);
  }

  /** A job that its station says nothing of any more: over for us, until it does. */
  jobSilent(jobId: string, reason: string): JobView | undefined {
    const before = this.job(jobId);
    if (before === undefined || before.isOver) return undefined;
    this.#change(before, { ...before.now, state: 'timed_out', reason, atMs: this.#nowMs() });
    return this.job(jobId);
  }

  /** What a station is told of a job from now on, JSON. */
  sayOfJob(jobId: string, said: string): void {
    this.#db.prepare('UPDATE job SET said = ? WHERE job_id = ?').run(said, jobId);
  }

  saidOfJob(jobId: string): string | undefined {
    const row = this.#one('SELECT said FROM job WHERE job_id = ?', jobId);
    return row === undefined ? undefined : String(row.said);
  }

  job(jobId: string): JobView | undefined {
    const row = this.#one('SELECT * FROM job WHERE job_id = ?', jobId);
    return row === undefined ? undefined : this.#jobOf(row);
  }

  /** The newest first. */
  jobs(most: number): JobView[] {
    return this.#all('SELECT * FROM job ORDER BY n DESC LIMIT ?', most).map((row) => this.#jobOf(row));
  }

  jobsOf(site: string, station: string, most: number): JobView[] {
    return this.#all(
      'SELECT * FROM job WHERE site = ? AND station = ? ORDER BY n DESC LIMIT ?',
      site,
      station,
      most,
    ).map((row) => this.#jobOf(row));
  }

  /** Jobs that are not over, the oldest first. */
  openJobs(): JobView[] {
    return this.#all(`SELECT * FROM job WHERE state IN ('queued', 'in_progress') ORDER BY n`).map((row) =>
      this.#jobOf(row),
    );
  }

  /** Notes who ordered what, and what came of it. Nothing is ever changed; the oldest go where there are too many. */
  audit(entry: Pick<AuditView, 'by' | 'what' | 'target' | 'outcome' | 'detail'>): void {
    const { by, what, target, outcome, detail } = entry;
    const added = this.#db
      .prepare('INSERT INTO audit (at_ms, by_whom, what, target, outcome, detail) VALUES (?, ?, ?, ?, ?, ?)')
      .run(this.#nowMs(), by, what, target, outcome, detail.slice(0, 500));
    this.#db.prepare('DELETE FROM audit WHERE n <= ?').run(Number(added.lastInsertRowid) - MOST_AUDIT);
  }

  /** The newest first; of one station, or all. */
  audits(most: number, target?: string): AuditView[] {
    const rows =
      target === undefined
        ? this.#all('SELECT * FROM audit ORDER BY n DESC LIMIT ?', most)
        : this.#all('SELECT * FROM audit WHERE target = ? ORDER BY n DESC LIMIT ?', target, most);
    return rows.map((row) => ({
      n: Number(row.n),
      atMs: Number(row.at_ms),
      by: String(row.by_whom),
      what: String(row.what),
      target: String(row.target),
      outcome: String(row.outcome),
      detail: String(row.detail),
    }));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#inOne(() => {
      for (const [key, { atMs, writtenMs }] of this.#seen) {
        const [site = '', station = ''] = key.split('/');
        if (atMs !== writtenMs) this.#writeSeen(site, station, atMs);
      }
    });
    this.#db.close();
  }

  #change({ jobId, now, history }: JobView, { seq, state, step, progressPct, reason, atMs }: JobChange): void {
    this.#inOne(() => {
      this.#db
        .prepare(
          'UPDATE job SET seq = ?, state = ?, step = ?, progress_pct = ?, reason = ?, at_ms = ? WHERE job_id = ?',
        )
        .run(seq, state, step, progressPct, reason, atMs, jobId);
      const isNew = now.seq < 0 || now.state !== state || now.step !== step || now.reason !== reason;
      if (!isNew || history.length >= MOST_CHANGES_EACH) return;
      this.#db
        .prepare(
          'INSERT INTO job_change (job_id, seq, state, step, progress_pct, reason, at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)',
        )
        .run(jobId, seq, state, step, progressPct, reason, atMs);
    });
  }

  #mayHaveMore(site: string): boolean {
    const own = Number(this.#one('SELECT count(*) AS n FROM station WHERE site = ?', site)?.n);
    return own < MOST_STATIONS_EACH_SITE && Number(this.#one('SELECT count(*) AS n FROM station')?.n) < MOST_STATIONS;
  }

  #noteSeen(site: string, station: string, nowMs: number): void {
    this.#seen.set(keyOf(site, station), { atMs: nowMs, writtenMs: nowMs });
  }

  /** @returns whether there is such a station */
  #writeSeen(site: string, station: string, atMs: number): boolean {
    const { changes } = this.#db
      .prepare('UPDATE station SET seen_at_ms = ? WHERE site = ? AND station = ?')
      .run(atMs, site, station);
    return changes > 0;
  }

  #stationOf(row: Row): StationView {
    const [site, station] = [String(row.site), String(row.station)];
    const reports = this.#all('SELECT * FROM report WHERE site = ? AND station = ? ORDER BY kind', site, station);
    return {
      site,
      station,
      isOnline: row.is_online === 1,
      release: String(row.release),
      architecture: row.architecture === null ? null : String(row.architecture),
      seenAtMs: this.#seen.get(keyOf(site, station))?.atMs ?? Number(row.seen_at_ms),
      reports: reports.map((one) => ({
        kind: String(one.kind),
        body: JSON.parse(String(one.body)),
        atMs: Number(one.at_ms),
      })),
      desired: this.desired.of(site, station).map(({ kind, rev, target }) => ({ kind, rev, target })),
    };
  }

  #jobOf(row: Row): JobView {
    const jobId = String(row.job_id);
    const now = changeOf(row);
    return {
      jobId,
      site: String(row.site),
      station: String(row.station),
      kind: String(row.kind) as ReleaseKind,
      version: String(row.version),
      target: String(row.target),
      isUrgent: row.is_urgent === 1,
      deadlineAtMs: row.deadline_at_ms === null ? null : Number(row.deadline_at_ms),
      by: String(row.by_whom),
      createdAtMs: Number(row.created_at_ms),
      now,
      isOver: isOver(now.state),
      history: this.#all('SELECT * FROM job_change WHERE job_id = ? ORDER BY n', jobId).map(changeOf),
    };
  }

  #inOne(work: () => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      work();
      this.#db.exec('COMMIT');
    } catch (error) {
      this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #one(sql: string, ...params: (string | number)[]): Row | undefined {
    return this.#db.prepare(sql).get(...params);
  }

  #all(sql: string, ...params: (string | number)[]): Row[] {
    return this.#db.prepare(sql).all(...params);
  }

  #nowMs(): number {
    return Math.round(this.#clock.wallMs());
  }
}

/** Neither has a slash (`ID_PATTERN`). */
const keyOf = (site: string, station: string): string => `${site}/${station}`;

function changeOf(row: Row): JobChange {
  return {
    seq: Number(row.seq),
    state: String(row.state) as JobState,
    step: row.step === null ? null : (String(row.step) as JobStep),
    progressPct: Number(row.progress_pct),
    reason: row.reason === null ? null : String(row.reason),
    atMs: Number(row.at_ms),
  };
}
