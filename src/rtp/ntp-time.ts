/** Seconds since 1900 and their fraction in 1/2^32 s (RFC 3550, 4). */
export interface NtpTime {
  readonly seconds: number;
  readonly fraction: number;
}

const SECONDS_1900_TO_1970 = 2_208_988_800;

/** @param sinceEpochMs milliseconds since 1970 */
export function ntpTime(sinceEpochMs: number): NtpTime {
  const seconds = Math.floor(sinceEpochMs / 1000);
  const fraction = Math.floor(((sinceEpochMs - seconds * 1000) / 1000) * 2 ** 32);
  return { seconds: (seconds + SECONDS_1900_TO_1970) >>> 0, fraction: fraction >>> 0 };
}

/** The low 16 bits of the seconds and the high 16 of the fraction: a time in 1/65,536 s that wraps after 18 hours. */
export function middleOfNtp(ntp: NtpTime): number {
  return (((ntp.seconds & 0xffff) << 16) | (ntp.fraction >>> 16)) >>> 0;
}
