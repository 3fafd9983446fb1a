/** Hours of the day at which a station may be changed, by the machine's own clock: from 22:00 to 05:00 goes over midnight. */
export interface QuietHours {
  /** HH:MM. */
  readonly from: string;
  /** HH:MM; the same as `from`: the whole day. */
  readonly to: string;
}

const MINUTE_MS = 60_000;
const DAY_MINUTES = 1_440;

/** How long until they begin, ms; 0 within them. @param wallMs since 1970 */
export function untilQuietHoursMs({ from, to }: QuietHours, wallMs: number): number {
  const date = new Date(wallMs);
  const now = date.getHours() * 60 + date.getMinutes();
  const [first, last] = [minutesOf(from), minutesOf(to)];
  const after = (minutes: number): number => (minutes - first + DAY_MINUTES) % DAY_MINUTES;
  if (first === last || after(now) < after(last)) return 0;
  const sinceMinuteMs = date.getSeconds() * 1_000 + date.getMilliseconds();
  return (DAY_MINUTES - after(now)) * MINUTE_MS - sinceMinuteMs;
}

function minutesOf(time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  return hours * 60 + minutes;
}
