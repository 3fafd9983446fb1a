import * as z from 'zod';
import { AppError, errorText } from '../../core/errors.js';

/** Nodes of a flow as Node-RED keeps them; what is in them is their types' own. */
export type FlowNodes = readonly ({ readonly id: string; readonly type: string } & Readonly<Record<string, unknown>>)[];
export const flowNodes: z.ZodType<FlowNodes> = z.array(z.looseObject({ id: z.string(), type: z.string() })).max(20_000);

export interface FlowsAtRev {
  readonly flows: FlowNodes;
  /** Which edition of the flows this is; Node-RED's own hash. */
  readonly rev: string;
}

const TIMEOUT_MS = 3_000;
const MOST_BYTES = 5_242_880;
const revOnly = z.object({ rev: z.string() });
const flowsAtRev = z.object({ rev: z.string(), flows: flowNodes });

/**
 * Node-RED's Admin API (version 2: with revisions), on this machine's loopback. Every method rejects with AppError
 * `flows-unreachable` when nobody answers in 3 s, or `flows-refused`.
 */
export class AdminApi {
  readonly #url: string;
  readonly #token: string;

  /** @param options.url of the editor: `http://127.0.0.1:1880` */
  constructor(options: { url: string; token: string }) {
    this.#url = options.url.replace(/\/$/, '');
    this.#token = options.token;
  }

  getFlows(): Promise<FlowsAtRev> {
    return this.#ask({ method: 'GET' }, flowsAtRev);
  }

  /**
   * Replaces all flows, if `rev` is still what Node-RED holds, and starts them (out of safe mode too).
   * @returns the new revision
   * @throws AppError `flows-conflict` when somebody else has deployed since `rev`; nothing was changed then
   */
  async deployFlows({ flows, rev }: FlowsAtRev): Promise<string> {
    const body = JSON.stringify({ flows, rev });
    return (await this.#ask({ method: 'POST', body }, revOnly)).rev;
  }

  async #ask<T>(request: { method: string; body?: string }, schema: z.ZodType<T>): Promise<T> {
    let status: number;
    let text: string;
    try {
      const response = await fetch(`${this.#url}/flows`, {
        ...request,
        redirect: 'error',
        headers: {
          authorization: `Bearer ${this.#token}`,
          'content-type': 'application/json',
          'node-red-api-version': 'v2',
          'node-red-deployment-type': 'full',
        },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      status = response.status;
      text = await response.text();
    } catch (cause) {
      throw new AppError('flows-unreachable', `the Admin API of the flows does not answer (${errorText(cause)})`, {
        remedy: 'See whether the flows process runs, and its log',
        cause,
      });
    }
    if (status === 409) {
      throw new AppError('flows-conflict', 'somebody else has deployed flows since', {
        remedy: 'Get the flows as they are now, look at the difference, and deploy with their rev',
      });
    }
    const parsed = status === 200 && text.length <= MOST_BYTES ? schema.safeParse(json(text)) : undefined;
    if (parsed?.success === true) return parsed.data;
    throw new AppError('flows-refused', `the Admin API of the flows answered ${status}, ${text.length} bytes`, {
      remedy: 'Its log says more',
    });
  }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
