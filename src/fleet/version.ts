/** Versions of releases (Semantic Versioning 2.0.0), without build metadata: two releases never differ by that alone. */

/** At most this many characters, so that a version fits in a path, a topic and a line of a log. */
const MOST_VERSION_CHARS = 64;

const NUMBER = '(0|[1-9]\\d{0,8})';
const LABEL = '(?:0|[1-9]\\d{0,8}|\\d*[a-z-][0-9a-z-]*)';
const VERSION = new RegExp(`^${NUMBER}\\.${NUMBER}\\.${NUMBER}(?:-(${LABEL}(?:\\.${LABEL})*))?$`);

/** Whether `text` is a version as releases have them: lower case, `1.2.3` or `1.2.3-rc.1`. */
export function isVersion(text: string): boolean {
  return text.length <= MOST_VERSION_CHARS && VERSION.test(text);
}

/**
 * Precedence (clause 11).
 * @returns negative where `a` is the older one, 0 for the same, positive where it is the newer one
 * @throws RangeError for what `isVersion` does not take
 */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [partsOf(a), partsOf(b)];
  for (const [index, number] of left.numbers.entries()) {
    const difference = number - (right.numbers[index] ?? 0);
    if (difference !== 0) return difference;
  }
  // 1.0.0-rc is older than 1.0.0.
  if (left.labels.length === 0 || right.labels.length === 0) {
    return Math.sign(right.labels.length) - Math.sign(left.labels.length);
  }
  for (const [index, label] of left.labels.entries()) {
    const other = right.labels[index];
    if (other === undefined) return 1;
    const difference = compareLabels(label, other);
    if (difference !== 0) return difference;
  }
  return left.labels.length - right.labels.length;
}

/** The newer one of two. @throws RangeError as `compareVersions` */
export function newerVersion(a: string, b: string): string {
  return compareVersions(a, b) >= 0 ? a : b;
}

function partsOf(text: string): { numbers: readonly number[]; labels: readonly string[] } {
  const match = text.length <= MOST_VERSION_CHARS ? VERSION.exec(text) : null;
  if (match === null) throw new RangeError(`${text.slice(0, MOST_VERSION_CHARS)} is no version`);
  const [, major, minor, patch, labels] = match;
  return { numbers: [major, minor, patch].map(Number), labels: labels === undefined ? [] : labels.split('.') };
}

/** Numbers by value and before words, words by their characters (clause 11.4). */
function compareLabels(a: string, b: string): number {
  const [aIsNumber, bIsNumber] = [/^\d+$/.test(a), /^\d+$/.test(b)];
  if (aIsNumber && bIsNumber) return Number(a) - Number(b);
  if (aIsNumber !== bIsNumber) return aIsNumber ? -1 : 1;
  return a === b ? 0 : a < b ? -1 : 1;
}
