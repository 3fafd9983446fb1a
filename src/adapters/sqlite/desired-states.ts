import type { DatabaseSync } from 'node:sqlite';
import type { ReleaseKind } from '../../fleet/manifest.js';

/** Statements that make the table, for `openDatabase`. */
export const DESIRED_SCHEMA = [
  `CREATE TABLE IF NOT EXISTS desired (
    site TEXT NOT NULL, station TEXT NOT NULL, kind TEXT NOT NULL, rev INTEGER NOT NULL, job_id TEXT NOT NULL, target TEXT NOT NULL,
    said TEXT NOT NULL, is_withdrawn INTEGER NOT NULL, PRIMARY KEY (site, station, kind, rev)
  ) STRICT`,
  'CREATE INDEX IF NOT EXISTS desired_of ON desired (job_id)',
] as const;

/** Which release of a kind a station is to have. */
export interface DesiredState {
  readonly site: string;
  readonly station: string;
  readonly kind: ReleaseKind;
  readonly rev: number;
  /** Of the job that brings it about. */
  readonly jobId: string;
  readonly target: string;
  /** What the station is told, JSON. */
  readonly said: string;
}

/**
 * What each station of a fleet is to have: the last that was ordered, unless that was withdrawn, which its job is when it does not
 * succeed; then what was desired before. Of a station and kind there are two at most.
 */
export class DesiredStates {
  readonly #db: DatabaseSync;

  /** @param db with the tables of `DESIRED_SCHEMA` */
  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** A `rev` that the station takes. @param knownRev the greatest that it has told of */
  nextRev(site: string, station: string, kind: ReleaseKind, knownRev: number): number {
    const row = this.#db
      .prepare('SELECT max(rev) AS rev FROM desired WHERE site = ? AND station = ? AND kind = ?')
      .get(site, station, kind);
    return 1 + Math.max(knownRev, Number(row?.rev ?? 0));
  }

  /** From now on; to be said within the transaction of its job. */
  add({ site, station, kind, rev, jobId, target, said }: DesiredState): void {
    const before = this.of(site, station).find((one) => one.kind === kind);
    this.#db
      .prepare('DELETE FROM desired WHERE site = ? AND station = ? AND kind = ? AND rev <> ?')
      .run(site, station, kind, before?.rev ?? 0);
    this.#db
      .prepare('INSERT INTO desired VALUES (?, ?, ?, ?, ?, ?, ?, 0)')
      .run(site, station, kind, rev, jobId, target, said);
  }

  /** Its job was called off, or ended without it. @returns whether that is news */
  withdraw(jobId: string): boolean {
    const { changes } = this.#db
      .prepare('UPDATE desired SET is_withdrawn = 1 WHERE job_id = ? AND is_withdrawn = 0')
      .run(jobId);
    return changes > 0;
  }

  /** Its job has succeeded: it stays, also for a board that comes when the job's time is long over. @returns whether that is news */
  achieved(jobId: string): boolean {
    const { changes } = this.#db
      .prepare(
        `UPDATE desired SET is_withdrawn = 0, said = json_remove(said, '$.deadlineAt')
         WHERE job_id = ? AND (is_withdrawn = 1 OR json_extract(said, '$.deadlineAt') IS NOT NULL)`,
      )
      .run(jobId);
    return changes > 0;
  }

  /** What a station is to have, of each kind of which it is to have something. */
  of(site: string, station: string): DesiredState[] {
    const rows = this.#db
      .prepare(
        `SELECT kind, max(rev) AS rev, job_id, target, said FROM desired
         WHERE site = ? AND station = ? AND is_withdrawn = 0 GROUP BY kind ORDER BY kind`,
      )
      .all(site, station);
    return rows.map((row) => ({
      ...{ site, station, kind: String(row.kind) as ReleaseKind, rev: Number(row.rev) },
      ...{ jobId: String(row.job_id), target: String(row.target), said: String(row.said) },
    }));
  }
}
