import { AppError } from '../../core/errors.js';

/** CONNACK codes that refuse MQTT 5 itself: 3.1.1's 0x01 and 5's 0x84. */
const WRONG_PROTOCOL = new Set([1, 132]);
/** Bad credentials and not authorised, of 3.1.1 (4, 5) and of 5. */
const NOT_AUTHORISED = new Set([4, 5, 134, 135, 138, 140]);

/** Session taken over: somebody else connected as we. */
const TAKEN_OVER = 142;
/** Server unavailable, busy, shutting down: it will be back. */
const GONE_FOR_NOW = new Set([3, 136, 137, 139]);

export function isProtocolRefusal(error: unknown): boolean {
  return WRONG_PROTOCOL.has(codeOf(error) as number);
}

/**
 * Names what stands between us and the broker: `broker-unreachable`, `certificate-refused`, `not-authorised`,
 * `identity-in-use`, `broker-refused`.
 */
export function linkFault(error: unknown, broker: string): AppError {
  const code = codeOf(error);
  const text = error instanceof Error ? error.message : String(error);
  if (typeof code === 'number' && !GONE_FOR_NOW.has(code)) {
    if (code === TAKEN_OVER) {
      return new AppError('identity-in-use', `Another station connected to ${broker} with our id and certificate`, {
        remedy: 'Give every station its own id and its own certificate.',
        cause: error,
      });
    }
    if (NOT_AUTHORISED.has(code)) {
      return new AppError('not-authorised', `The broker at ${broker} does not authorise this station (code ${code})`, {
        remedy: "List the station in the site host's directory, and use the certificate made for it.",
        cause: error,
      });
    }
    return new AppError('broker-refused', `The broker at ${broker} refused the connection: ${text}`, {
      remedy: 'See the log of the broker; trying again meanwhile.',
      cause: error,
    });
  }
  if (/SSL|TLS|CERT|SIGNATURE|SIGNED|ISSUER/.test(typeof code === 'string' ? code : '')) {
    return new AppError('certificate-refused', `No trust between this station and the broker at ${broker}: ${text}`, {
      remedy: "Check mqtt.ca, mqtt.cert and mqtt.key: all three must come from this site's own authority.",
      cause: error,
    });
  }
  return new AppError(
    'broker-unreachable',
    `The broker at ${broker} can't be reached: ${typeof code === 'string' ? code : text}`,
    {
      remedy: 'Check that the site host is on and that mqtt.url is right; trying again meanwhile.',
      cause: error,
    },
  );
}

/** Node's and OpenSSL's codes are strings, the broker's reason codes numbers. */
function codeOf(error: unknown): string | number | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' || typeof code === 'number' ? code : undefined;
}
