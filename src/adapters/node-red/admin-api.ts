import * as z from 'zod';
import { AppError, errorText } from '../../core/errors.js';

/** Nodes of a flow as Node-RED keeps them; what is in them is their types' own. */
export type FlowNodes = readonly ({ readonly id: string; readonly type: string } & Readonly<Record<string, unknown>>)[];
export const flowNodes: z.ZodType<FlowNodes> = z.array(z.looseObject({ id: z.string(), type: z.string() })).max(20_000);

/** What nodes keep as secret, all of it, encrypted by Node-RED: nobody but the flows process can read it. */
export const MOST_CREDENTIALS_BYTES = 1_000_000;
export const encryptedCredentials = z.strictObject({ $: z.string().max(MOST_CREDENTIALS_BYTES) });
export type EncryptedCredentials = z.infer<typeof encryptedCredentials>;

/** Beside Node-RED's own paths, for the station: `EncryptedCredentials`, to be deployed with flows that come back, and to be kept then. */
export const CREDENTIALS_PATH = '/entryphone/credentials';

export interface FlowsAtRev {
  readonly flows: FlowNodes;
  /** Which edition of the flows this is; Node-RED's own hash. */
  readonly rev: string;
  /** Deployed with them: all secrets that there are then. Without: nodes that stay keep theirs, those of others are gone. */
  readonly credentials?: EncryptedCredentials | undefined;
}

const TIMEOUT_MS = 3_000;
/** Nodes get 2 s to close before the new ones start. */
const DEPLOY_MS = 10_000;
const MOST_BYTES = 5_242_880;
const revOnly = z.object({ rev: z.string() });
const credentialsOnly = z.object({ credentials: encryptedCredentials.nullable() });
const flowsAtRev = z.object({ rev: z.string(), flows: flowNodes });
const signedIn = z.object({ access_token: z.string().min(1) });
const nodeSets = z.array(
  z.object({ types: z.array(z.string()).default([]), enabled: z.boolean().default(true), err: z.unknown().optional() }),
);

/** What flows may hold though no node of the palette is called so. */
const STRUCTURE = ['tab', 'subflow', 'group', 'junction'];

/** Whether an address that flows say of themselves is on this machine: no other is ever given a token or a password. */
export function isOnLoopback(url: string): boolean {
  return ['127.0.0.1', '[::1]', 'localhost'].includes(new URL(url).hostname);
}

/**
 * Node-RED's Admin API (version 2: with revisions), on this machine's loopback. Every method rejects with AppError
 * `flows-unreachable` when nobody answers in 3 s (10 s while flows are deployed), or `flows-refused`.
 */
export class AdminApi {
  readonly #url: string;
  readonly #token: string;

  /** @param options.url of the editor: `http://127.0.0.1:1880` */
  constructor(options: { url: string; token: string }) {
    this.#url = options.url.replace(/\/$/, '');
    this.#token = options.token;
  }

  /**
   * Signs in as the editor does.
   * @returns a token for the Admin API @throws AppError `sign-in-failed`, `flows-unreachable`
   */
  static async signIn({ url, user, password }: { url: string; user: string; password: string }): Promise<string> {
    const form = { client_id: 'node-red-editor', grant_type: 'password', scope: '*', username: user, password };
    const { status, text } = await ask(`${url.replace(/\/$/, '')}/auth/token`, {
      method: 'POST',
      body: new URLSearchParams(form),
    });
    const answer = signedIn.safeParse(json(text));
    if (status === 200 && answer.success) return answer.data.access_token;
    throw new AppError('sign-in-failed', `${url} answered ${status} to the password of ${user}`, {
      remedy: 'It is in editor-password of the folder of the flows, unless somebody has moved it',
    });
  }

  getFlows(): Promise<FlowsAtRev> {
    return this.#ask('/flows', { method: 'GET' }, flowsAtRev);
  }

  /** The flows with what their nodes keep as secret: with it they come back as they were. */
  async getAll(): Promise<FlowsAtRev> {
    const { credentials } = await this.#ask(CREDENTIALS_PATH, { method: 'GET' }, credentialsOnly);
    return { ...(await this.getFlows()), ...(credentials === null ? {} : { credentials }) };
  }

  /** For the next start: what `deployFlows` was given is in Node-RED's memory alone. */
  async keepCredentials(credentials: EncryptedCredentials): Promise<void> {
    const body = JSON.stringify({ credentials });
    await this.#ask(CREDENTIALS_PATH, { method: 'PUT', body }, z.object({}));
  }

  /** The types that flows here may be made of; those whose program failed to load are not among them. */
  async knownTypes(): Promise<ReadonlySet<string>> {
    const sets = await this.#ask('/nodes', { method: 'GET' }, nodeSets);
    const loaded = sets.filter(({ enabled, err }) => enabled && err === undefined);
    return new Set([...STRUCTURE, ...loaded.flatMap(({ types }) => types)]);
  }

  /**
   * Replaces all flows, if `rev` is still what Node-RED holds, and starts them (out of safe mode too).
   * @returns the new revision
   * @throws AppError `flows-conflict` when somebody else has deployed since `rev`; nothing was changed then
   */
  async deployFlows({ flows, rev, credentials }: FlowsAtRev): Promise<string> {
    const body = JSON.stringify({ flows, rev, credentials });
    return (await this.#ask('/flows', { method: 'POST', body }, revOnly)).rev;
  }

  async #ask<T>(path: string, request: { method: string; body?: string }, schema: z.ZodType<T>): Promise<T> {
    const headers = {
      authorization: `Bearer ${this.#token}`,
      accept: 'application/json',
      'content-type': 'application/json',
      'node-red-api-version': 'v2',
      'node-red-deployment-type': 'full',
    };
    const timeoutMs = request.method === 'POST' ? DEPLOY_MS : TIMEOUT_MS;
    const { status, text } = await ask(`${this.#url}${path}`, { ...request, headers }, timeoutMs);
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

async function ask(
  url: string,
  request: RequestInit,
  timeoutMs = TIMEOUT_MS,
): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(url, { ...request, redirect: 'error', signal: AbortSignal.timeout(timeoutMs) });
    return { status: response.status, text: await response.text() };
  } catch (cause) {
    throw new AppError('flows-unreachable', `the Admin API of the flows does not answer (${errorText(cause)})`, {
      remedy: 'See whether the flows process runs, and its log',
      cause,
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
