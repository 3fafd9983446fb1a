/** The part of pino that the rooms use; `bin` hands in the real one, tests a silent one. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  child(fields: object): Logger;
}

export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};

/** Keys of SRTP as SDP has them (`a=crypto`, RFC 4568), and as the engine API has them, within a line of a log. */
const SECRET = /(inline:|keyAndSalt\\*"\s*:\s*\\*")[A-Za-z0-9+/=]+/g;

/** A line of a log without the keys in it: they are never logged on purpose, but may stand in a text that is quoted. */
export function withoutSecrets(line: string): string {
  return line.replace(SECRET, '$1[secret]');
}
