import { withoutSecrets } from './logger.js';

const REDACTED = '[redacted]';
/** Names of fields whose value leaves no process, whoever put it there. */
const SECRET_NAME =
  /pass(?:word|phrase)?|secret|token|credential|authori[sz]ation|cookie|nonce|private|(?:^|_)key$|Key$|keyAndSalt|digits?$/i;
/** PEM, whole or cut off; a URL's password; `name=value` in a text. */
const PEM = /-----BEGIN [A-Z ]+-----[\s\S]*?(?:-----END [A-Z ]+-----|$)/g;
const URL_PASSWORD = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s/:@"]{1,256}:)[^\s/@"]{1,256}@/gi;
const NAMED_IN_TEXT = /\b(pass(?:word|phrase)?|secret|token|nonce)(["']?\s*[=:]\s*["']?)[^\s"',;&}]+/gi;
const MOST_DEPTH = 8;

/**
 * A line of a log (JSON, as pino writes it) as it may leave the machine: values of fields with the name of a secret, keys in PEM or SDP,
 * passwords in URLs are left out. What is no JSON is treated as text.
 */
export function redactedLine(line: string): string {
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    return redactedText(line);
  }
  return JSON.stringify(redactedValue(json, 0));
}

function redactedValue(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return redactedText(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= MOST_DEPTH) return REDACTED;
  if (Array.isArray(value)) return value.map((one) => redactedValue(one, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, one]) => [
      name,
      SECRET_NAME.test(name) && one !== null ? REDACTED : redactedValue(one, depth + 1),
    ]),
  );
}

function redactedText(text: string): string {
  return withoutSecrets(text)
    .replace(PEM, REDACTED)
    .replace(URL_PASSWORD, `$1${REDACTED}@`)
    .replace(NAMED_IN_TEXT, `$1$2${REDACTED}`);
}
