/** Lets others read along what a process logs. A listener that throws, or logs itself, harms nobody. */
export class LogTap {
  readonly #listeners = new Set<(line: string) => void>();
  #isTelling = false;

  /** @returns what takes it away again */
  listen(listener: (line: string) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** One line, as it was logged. */
  tell(line: string): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    try {
      for (const listener of this.#listeners) listener(line);
    } catch {
      // The log goes on.
    } finally {
      this.#isTelling = false;
    }
  }
}
