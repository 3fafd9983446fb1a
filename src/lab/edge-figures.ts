import type { EventLabel } from '../sounds/made-sound.js';
import { quantile } from './alignment.js';

/** An event as it was played, and an alert as it came to the broker's subscriber; both on one clock, ms. */
export interface PlayedEvent {
  readonly label: EventLabel;
  readonly atMs: number;
}
export interface HeardAlert {
  /** What the alert says that it is about; null where it does not say. */
  readonly label: string | null;
  readonly atMs: number;
  /** Of the message's payload. */
  readonly bytes: number;
}

/** After an event began it may be told of for so long: what comes later is about nothing. */
const TOLD_WITHIN_MS = 5_000;

export interface AlertFigures {
  readonly alerts: Readonly<Record<string, { readonly played: number; readonly heard: number }>>;
  /** Alerts about nothing that was played, or about something else. */
  readonly falseAlerts: number;
  readonly missed: number;
  /** Of events that were told of: from the sound's start until its first alert was there. */
  readonly latencyMs: { readonly p50: number | null; readonly p95: number | null; readonly worst: number | null };
  readonly alertBytes: number;
}

/** Which alert is about which event: the first of its label within the time. Further ones about the same are no false ones. */
export function alertFigures(played: readonly PlayedEvent[], heard: readonly HeardAlert[]): AlertFigures {
  const isAbout = (alert: HeardAlert, event: PlayedEvent) =>
    alert.label === event.label && alert.atMs >= event.atMs && alert.atMs < event.atMs + TOLD_WITHIN_MS;
  const told = played.map((event) => heard.find((alert) => isAbout(alert, event)));
  const delays = played.flatMap((event, i) => {
    const alert = told[i];
    return alert === undefined ? [] : [alert.atMs - event.atMs];
  });
  const labels = [...new Set(played.map(({ label }) => label))];
  const countOf = (label: string) => ({
    played: played.filter((event) => event.label === label).length,
    heard: played.filter((event, i) => event.label === label && told[i] !== undefined).length,
  });
  const at = (share: number) => (delays.length === 0 ? null : Math.round(quantile(delays, share)));
  return {
    alerts: Object.fromEntries(labels.map((label) => [label, countOf(label)])),
    falseAlerts: heard.filter((alert) => !played.some((event) => isAbout(alert, event))).length,
    missed: told.filter((alert) => alert === undefined).length,
    latencyMs: { p50: at(0.5), p95: at(0.95), worst: at(1) },
    alertBytes: heard.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** How much less `sent` is than `streamed`, in percent. */
export function savedPct(sent: number, streamed: number): number {
  return streamed === 0 ? 0 : Math.round((1_000 * (streamed - sent)) / streamed) / 10;
}
