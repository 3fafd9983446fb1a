import type { QualityReport } from '../../protocol/flows-api.js';
import type { FlowNode, NodeRed, NodeStatus } from '../node-red.js';
import { joinStation } from '../station-part.js';

interface QualityConfig {
  readonly station: string;
  /** `all`, or the one figure that is the payload. */
  readonly figure: 'all' | keyof Figures;
}

/** What a flow gets of a report; scores are MOS (ITU-T P.800.1, by the E-model), null before anything was heard. */
interface Figures {
  readonly listening: number | null;
  readonly conversational: number | null;
  readonly remoteListening: number | null;
  readonly remoteConversational: number | null;
  readonly concealedPct: number;
  readonly sentLossPct: number | null;
}

/** ITU-T G.107 Annex B: R of 80 and of 70, above which users are satisfied, and above which only some are not. */
const [SATISFIED_MOS, SOME_DISSATISFIED_MOS] = [4.03, 3.6];

/** Sends how the call is heard, once a second of it: all figures, or one of them as a number. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-quality', function quality(this: FlowNode, config: QualityConfig) {
    RED.nodes.createNode(this, config);
    const part = joinStation(RED, this, config, {
      quality: (report) => {
        const { callId, path } = report;
        const figures = figuresOf(report);
        const mos = figures.listening;
        part?.status.set({
          ...lightOf(mos),
          text: RED._('quality.now', { mos: mos?.toFixed(1) ?? '–', concealed: figures.concealedPct.toFixed(1), path }),
        });
        if (config.figure === 'all') {
          const sent = report.quality.ladder.at(-1);
          const wantsOtherPath = sent?.wantsOtherPath ?? false;
          this.send({ topic: 'quality', callId, path, payload: { callId, path, ...figures, wantsOtherPath } });
          return;
        }
        const payload = figures[config.figure];
        if (payload !== null && payload !== undefined) this.send({ topic: config.figure, callId, path, payload });
      },
      call: ({ state }) => {
        if (state === 'ended') part?.status.set({ fill: 'grey', shape: 'ring', text: RED._('quality.over') });
      },
    });
  });
}

function figuresOf({ quality }: QualityReport): Figures {
  return { ...quality.mos, concealedPct: quality.concealedPct, sentLossPct: quality.ladder.at(-1)?.lossPct ?? null };
}

function lightOf(mos: number | null): Pick<NodeStatus, 'fill' | 'shape'> {
  if (mos === null) return { fill: 'grey', shape: 'dot' };
  return { fill: mos >= SATISFIED_MOS ? 'green' : mos >= SOME_DISSATISFIED_MOS ? 'yellow' : 'red', shape: 'dot' };
}
