import { join } from 'node:path';
import { type Figures, METRICS_CONTENT_TYPE, METRICS_URL, Metrics } from '../adapters/metrics/metrics.js';
import { PROCESS_FIGURES, type ProcessStatus, ProcessWatch } from '../adapters/metrics/process-figures.js';
import { serveText } from '../adapters/sockets/text-page.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { FLOWS_METRICS_SOCKET, type FlowsReport } from '../protocol/flows-api.js';

/** What Node-RED has started. */
export interface DeployedFlows {
  /** Times that it did, deployments included. */
  starts: number;
  tabs: number;
  /** Config nodes and subflows included. */
  nodes: number;
}

interface Status {
  readonly process: ProcessStatus;
  readonly report: FlowsReport;
  readonly deployed: DeployedFlows;
}

const FIGURES: Figures<Status> = {
  ...PROCESS_FIGURES,
  state: {
    kind: 'gauge',
    help: '1 for the state that the flows are in',
    labels: ['state', 'safe_mode'],
    of: ({ report: { state, isSafeMode } }) => [[1, { state, safe_mode: String(isSafeMode) }]],
  },
  tabs: { kind: 'gauge', help: 'Flows (tabs of the editor) deployed', of: ({ deployed }) => [[deployed.tabs]] },
  nodes: { kind: 'gauge', help: 'Nodes deployed', of: ({ deployed }) => [[deployed.nodes]] },
  starts_total: {
    kind: 'counter',
    help: 'Times that flows were started, deployments included',
    of: ({ deployed }) => [[deployed.starts]],
  },
};

/**
 * `GET /metrics` of the process that runs the flows, whatever flows run in it: their event loop's lag is what tells of a flow that
 * takes too long. Where that can't be served, flows run without.
 */
export async function serveFlowsMetrics(options: {
  run: string;
  report: () => FlowsReport;
  deployed: DeployedFlows;
  logger: Logger;
}): Promise<{ close(): Promise<void> }> {
  const { run, report, deployed, logger } = options;
  const metrics = new Metrics('entryphone_flows_', FIGURES);
  const watch = new ProcessWatch();
  const page = await serveText({
    path: join(run, FLOWS_METRICS_SOCKET),
    url: METRICS_URL,
    contentType: METRICS_CONTENT_TYPE,
    text: () => metrics.text({ process: watch.read(), report: report(), deployed }),
    logger,
  }).catch((error: unknown) => {
    logger.warn({ error: errorText(error) }, 'no metrics are served');
  });
  return {
    close: async () => {
      watch.close();
      await page?.close();
    },
  };
}
