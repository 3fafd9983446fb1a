import type { HeardDecision, HearingView } from '../protocol/hearing.js';
import type { FlowNode, Message, NodeRed, NodeStatus } from './node-red.js';
import { joinStation, type StationPart } from './station-part.js';

export type HeardKind = HeardDecision['kind'];

/** Words that all nodes share which are told what the station hears; the config node's. */
const WORDS = '@entryphone/node-red/entryphone-station:hearing';

export interface HeardConfig {
  readonly station: string;
  /** With commas between; empty: all. */
  readonly labels?: string;
  /** 0 … 1; for what starts. */
  readonly minScore?: number | string;
}

/**
 * Which decisions a node passes on: of its labels, sure enough where something starts; an end where it has told of the start.
 * Pure.
 */
export class HeardFilter {
  readonly #kind: HeardKind;
  readonly #labels: ReadonlySet<string>;
  readonly #minScore: number;
  readonly #begun = new Set<string>();

  constructor(kind: HeardKind, { labels = '', minScore = 0 }: Pick<HeardConfig, 'labels' | 'minScore'>) {
    this.#kind = kind;
    this.#labels = new Set(
      labels
        .split(/[,，]/)
        .map((label) => label.trim())
        .filter((label) => label !== ''),
    );
    this.#minScore = Number(minScore);
  }

  /** Those that it waits for and no model decides on; none where it waits for all. */
  unknown(known: readonly string[]): string[] {
    return [...this.#labels].filter((label) => !known.includes(label));
  }

  passes({ kind, label, edge, score }: HeardDecision): boolean {
    if (kind !== this.#kind || (this.#labels.size > 0 && !this.#labels.has(label))) return false;
    if (edge === 'end') return this.#begun.delete(label);
    if (!(score >= this.#minScore)) return false;
    this.#begun.add(label);
    return true;
  }
}

/** A message of what was heard; `detection` stays when another node puts something else into the payload. */
export function heardMessage(decision: HeardDecision): Message {
  const payload = { ...decision, at: new Date(decision.atMs).toISOString() };
  return { topic: decision.label, payload, detection: payload };
}

/** Sends what the station hears of a kind: where it starts by the first output, where it ends by the second. */
export function tellHeard(RED: NodeRed, node: FlowNode, config: HeardConfig, kind: HeardKind): void {
  const filter = new HeardFilter(kind, config);
  // It is told how the hearing is before it is told that the station is there.
  let idle: NodeStatus = { fill: 'grey', shape: 'ring', text: RED._(`${WORDS}.starting`) };
  const part = joinStation(RED, node, config, {
    wantsHearing: true,
    get idle() {
      return idle;
    },
    hearing: (view) => {
      idle = statusOf(RED, view, kind, filter);
      part?.status.set(idle);
    },
    heard: (decision) => {
      if (filter.passes(decision)) sendHeard(part, node, decision);
    },
  });
}

export function sendHeard(part: StationPart | undefined, node: FlowNode, decision: HeardDecision): void {
  const { edge, label, score } = decision;
  if (edge === 'start') part?.status.set({ fill: 'green', shape: 'dot', text: `${label} ${score.toFixed(2)}` });
  else part?.status.set({ fill: 'green', shape: 'ring', text: label });
  const message = heardMessage(decision);
  node.send(edge === 'start' ? [message, null] : [null, message]);
}

function statusOf(RED: NodeRed, view: HearingView, kind: HeardKind, filter: HeardFilter): NodeStatus {
  const words = (key: string, values?: Record<string, unknown>) => RED._(`${WORDS}.${key}`, values);
  if (!view.isEnabled) return { fill: 'red', shape: 'ring', text: words('off') };
  if (view.state === 'absent') return { fill: 'red', shape: 'ring', text: words('absent') };
  if (view.state === 'starting') return { fill: 'grey', shape: 'ring', text: words('starting') };
  if (kind !== 'voice') {
    const [refused] = view.refused;
    const models = view.models.filter((model) => model.kind === kind);
    const unknown = filter.unknown(models.flatMap(({ labels }) => labels));
    if (models.length > 0 && unknown.length > 0) {
      return { fill: 'yellow', shape: 'ring', text: words('unknown', { labels: unknown.join(', ') }) };
    }
    if (refused !== undefined) return { fill: 'yellow', shape: 'ring', text: words('refused', refused) };
    if (models.length === 0) return { fill: 'red', shape: 'ring', text: words('no-model') };
  }
  return { fill: 'green', shape: 'ring', text: words(view.isHearing ? 'hears' : 'ready') };
}
