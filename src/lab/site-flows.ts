import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AdminApi } from '../adapters/node-red/admin-api.js';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { EDITOR_USER } from '../protocol/flows-api.js';
import type { StationStatus } from '../protocol/station-api.js';
import { sleep, type Watches } from './scenario.js';
import type { Site } from './site.js';
import type { StationId } from './site-config.js';

export type FlowsStatus = NonNullable<StationStatus['flows']>;

const STEP_MS = 50;

/** @throws AppError `flows-off` */
export async function flowsStatus(watches: Watches, id: StationId): Promise<FlowsStatus> {
  const { flows } = await watches[id].client.call('station.status', {});
  if (flows === null) throw new AppError('flows-off', `${id} runs without flows`);
  return flows;
}

/** Waits for a station's flows to be like this. @returns how they are then @throws AppError `too-late` */
export async function flowsAre(
  watches: Watches,
  id: StationId,
  what: { readonly withinMs: number; readonly fits: (status: FlowsStatus) => boolean; readonly text: string },
): Promise<FlowsStatus> {
  const deadlineMs = systemClock.nowMs() + what.withinMs;
  for (;;) {
    const status = await flowsStatus(watches, id);
    if (what.fits(status)) return status;
    if (systemClock.nowMs() > deadlineMs) {
      const { state, fault } = status;
      throw new AppError(
        'too-late',
        `flows of ${id}: ${what.text} not within ${what.withinMs} ms (${state}, ${fault?.text})`,
      );
    }
    await sleep(STEP_MS);
  }
}

/** The editor of a station, signed in as the installer does it. */
export class Editor {
  readonly admin: AdminApi;
  readonly #url: string;
  readonly #token: string;

  /** @throws AppError `flows-off`, `sign-in-failed` */
  static async signIn(site: Site, id: StationId): Promise<Editor> {
    const { plan } = site;
    if (plan.flows === null) throw new AppError('flows-off', 'this site runs without flows');
    const url = `http://127.0.0.1:${plan.flows.ports[id]}`;
    const password = readFileSync(join(plan.dir, id, 'state/flows/editor-password'), 'utf8').trim();
    return new Editor(url, await AdminApi.signIn({ url, user: EDITOR_USER, password }));
  }

  private constructor(url: string, token: string) {
    this.#url = url;
    this.#token = token;
    this.admin = new AdminApi({ url, token });
  }

  /** Presses an inject node's button. Doesn't wait for flows that don't answer any more. */
  async inject(nodeId: string): Promise<void> {
    await fetch(`${this.#url}/inject/${nodeId}`, {
      method: 'POST',
      headers: { authorization: `Bearer ${this.#token}` },
      signal: AbortSignal.timeout(500),
    }).catch(() => undefined);
  }
}
