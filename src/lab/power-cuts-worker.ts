/** The thread in which the power goes everywhere: it gets `CutsOrder`, and posts `CutsAnswer`. */
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '../core/clock.js';
import { cutParts, type PartCuts } from './part-cuts.js';
import { type AllCuts, type CutsOrder, cutAll } from './power-cuts.js';

export interface CutsAnswer extends AllCuts {
  /** Of flows, configuration and models. */
  readonly parts: PartCuts;
}

const order = workerData as CutsOrder;
const untilMs = systemClock.nowMs() + order.withinMs;
const cuts = await cutAll(order);
parentPort?.postMessage({ ...cuts, parts: await cutParts(order.dir, untilMs) } satisfies CutsAnswer);
