/** The thread in which the power goes everywhere: it gets `CutsOrder`, and posts `AllCuts`. */
import { parentPort, workerData } from 'node:worker_threads';
import { type CutsOrder, cutAll } from './power-cuts.js';

parentPort?.postMessage(await cutAll(workerData as CutsOrder));
