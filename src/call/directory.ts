export interface DirectoryEntry {
  readonly name: string;
  readonly numbers: readonly string[];
  /** Station ids; all, where it is left out. */
  readonly mayCall?: readonly string[] | undefined;
  /** No station, but something that the site itself answers for: each of its stations may call it, nobody of another site. */
  readonly isExtension?: boolean;
}

/** The party that stands for everybody who is not of this directory. No station's id: a call with another site has it. */
export const ELSEWHERE = '@';

/** Who is in the site, by station id, number and name, and who may call whom. */
export class Directory {
  readonly #entries: ReadonlyMap<string, DirectoryEntry>;
  readonly #ids = new Map<string, string>();

  readonly #elsewhere: typeof ELSEWHERE | undefined;

  /** @param elsewhere where who is not known here may be looked for */
  constructor(stations: Readonly<Record<string, DirectoryEntry>>, elsewhere?: typeof ELSEWHERE) {
    this.#elsewhere = elsewhere;
    this.#entries = new Map(Object.entries(stations));
    const learn = (text: string, id: string): void => {
      const key = folded(text);
      if (!this.#ids.has(key)) this.#ids.set(key, id);
    };
    for (const id of this.#entries.keys()) learn(id, id);
    for (const [id, entry] of this.#entries) for (const number of entry.numbers) learn(number, id);
    for (const [id, entry] of this.#entries) learn(entry.name, id);
  }

  has(station: string): boolean {
    return this.#entries.has(station) || (this.#elsewhere !== undefined && station === this.#elsewhere);
  }

  /** @param text an id, else a number, else a name; capitals and outer spaces do not matter. @returns the station's id */
  resolve(text: string): string | undefined {
    return this.#ids.get(folded(text)) ?? this.#elsewhere;
  }

  mayCall(from: string, to: string): boolean {
    if (this.#entries.get(to)?.isExtension === true) return from !== to && this.#entries.has(from);
    return from !== to && (this.#entries.get(from)?.mayCall?.includes(to) ?? true);
  }
}

function folded(text: string): string {
  return text.trim().normalize('NFC').toLowerCase();
}
