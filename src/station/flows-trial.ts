import { readFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { type AdminApi, encryptedCredentials, type FlowsAtRev, flowNodes } from '../adapters/node-red/admin-api.js';
import { writeDurably } from '../core/durable-file.js';
import type { Logger } from '../core/logger.js';

const replacedSchema = z.object({
  v: z.literal(1),
  /** Whose release replaced them. */
  slot: z.enum(['a', 'b']),
  /** They were not those of the release before: somebody has edited them since. */
  isEdited: z.boolean(),
  /** Which edition the release became; null until that is known. */
  deployedRev: z.string().nullable(),
  before: z.object({ rev: z.string(), flows: flowNodes, credentials: encryptedCredentials.optional() }),
});
/** What a release of flows that is on trial has replaced. */
export type ReplacedFlows = z.infer<typeof replacedSchema>;

/**
 * What flows a release on trial has replaced, for the way back, whatever becomes of this process meanwhile. Files:
 *
 *   state/flows-before.json   a release is on trial: what runs is not kept as good, and what comes back is this
 *   state/flows-owed.json     the release was left, but the flows process could not be reached: they are put back when it is
 */
export class FlowsTrial {
  readonly #file: string;
  readonly #owed: string;
  readonly #logger: Logger;
  /** Undefined until it is read. */
  #replaced: ReplacedFlows | null | undefined;

  constructor(state: string, logger: Logger) {
    this.#file = join(state, 'flows-before.json');
    this.#owed = join(state, 'flows-owed.json');
    this.#logger = logger;
  }

  /** Null where no release is on trial. */
  get replaced(): ReplacedFlows | null {
    this.#replaced ??= this.#read(this.#file);
    return this.#replaced;
  }

  /** What is still to be put back since the last trial. */
  get owed(): ReplacedFlows | null {
    return this.#read(this.#owed);
  }

  async begin(replaced: Omit<ReplacedFlows, 'v'>): Promise<void> {
    await this.#keep({ v: 1, ...replaced });
    await rm(this.#owed, { force: true });
  }

  async deployed(rev: string): Promise<void> {
    if (this.replaced !== null) await this.#keep({ ...this.replaced, deployedRev: rev });
  }

  async end(): Promise<void> {
    await rm(this.#file, { force: true });
    this.#replaced = null;
  }

  /** The release is left; what it replaced is put back when the flows process is there. */
  async owe(): Promise<void> {
    await rename(this.#file, this.#owed);
    this.#replaced = null;
  }

  /**
   * Deploys what the release has replaced, if the release is still what is there. Whoever has deployed since, it is theirs now.
   * @returns whether it was
   * @throws AppError `flows-conflict`, `flows-unreachable`, `flows-refused`
   */
  async putBack(api: AdminApi): Promise<boolean> {
    const [replaced, owed] = [this.replaced, this.owed];
    const back = replaced ?? owed;
    if (back === null) return false;
    const now = await api.getFlows();
    const isThere = isOfRelease(back, now);
    const { before } = back;
    if (isThere) await api.deployFlows({ ...before, rev: now.rev });
    if (before.credentials !== undefined && (isThere || now.rev === before.rev)) {
      await api.keepCredentials(before.credentials);
    }
    if (isThere) this.#logger.warn({ slot: back.slot }, 'the flows that a release had replaced are back');
    if (replaced !== null) await this.end();
    else await rm(this.#owed, { force: true });
    return isThere;
  }

  async #keep(replaced: ReplacedFlows): Promise<void> {
    await writeDurably(this.#file, JSON.stringify(replaced));
    this.#replaced = replaced;
  }

  #read(file: string): ReplacedFlows | null {
    try {
      return replacedSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') this.#logger.error({ file }, 'it is damaged, and left');
      return null;
    }
  }
}

/** Whether what is there is the release that is on trial. Where the power went in the middle: whether it is not what was before. */
export function isOfRelease({ deployedRev, before }: ReplacedFlows, { rev }: Pick<FlowsAtRev, 'rev'>): boolean {
  return deployedRev === null ? rev !== before.rev : rev === deployedRev;
}
