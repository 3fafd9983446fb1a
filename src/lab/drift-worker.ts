/** The thread of one simulated day: it gets `DriftOptions`, and posts `DriftFigures`. */
import { parentPort, workerData } from 'node:worker_threads';
import { type DriftOptions, simulateDrift } from './drift-day.js';

parentPort?.postMessage(simulateDrift(workerData as DriftOptions));
