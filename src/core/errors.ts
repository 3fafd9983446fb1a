/** What every error of Entryphone's own derives from. The message says what is wrong, `remedy` what to do next. */
export class AppError extends Error {
  /** Stable, for programs: `card-absent`, `port-taken`, … */
  readonly code: string;
  readonly remedy: string | undefined;

  constructor(code: string, message: string, options: { remedy?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.remedy = options.remedy;
  }
}

/** The text of anything that was thrown. */
export function errorText(error: unknown): string {
  if (error instanceof AppError && error.remedy !== undefined) {
    return `${error.message}${/[.?!]$/.test(error.message) ? '' : '.'} ${error.remedy}`;
  }
  return error instanceof Error ? error.message : String(error);
}
