import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { AppError } from '../../core/errors.js';
import { type FlowNodes, flowNodes } from './admin-api.js';

type FlowNode = FlowNodes[number];

/** A type that flows need and that is not here. */
export interface UnknownType {
  readonly type: string;
  /** Ids of its nodes. */
  readonly nodes: readonly string[];
}

/** What Node-RED takes at once (`apiMaxLength` of its settings). */
export const MOST_FLOW_BYTES = 5_000_000;
/** Heads the description of a placeholder; the node that it stands for follows as JSON. */
const MARK = 'This node is off: its type was not here when the flows were imported. It stood so:';
const placeholder = z.looseObject({
  id: z.string(),
  type: z.literal('function'),
  d: z.literal(true),
  info: z.string().startsWith(MARK),
});
const original = z.looseObject({ id: z.string(), type: z.string() });

/**
 * Flows of a file that the editor has exported, or `entryphone flows export`: an array of nodes.
 * @throws AppError `usage` for what can't be read, `flow-file-invalid` for what is there
 */
export function readFlowFile(file: string): FlowNodes {
  return readFlows(textOf(file), file);
}

/** The same, of the text of a file. @throws AppError `flow-file-invalid` */
export function readFlows(text: string, file: string): FlowNodes {
  let parsed: z.ZodSafeParseResult<FlowNodes>;
  try {
    parsed = flowNodes.safeParse(JSON.parse(text));
  } catch {
    throw invalid(`${file} is no JSON`);
  }
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalid(`${file} is no list of nodes: ${issue?.path.join('.') || 'the whole'}: ${issue?.message}`);
  }
  const ids = new Set<string>();
  for (const { id } of parsed.data) {
    if (ids.has(id)) throw invalid(`${file} has two nodes with the id ${id.slice(0, 64)}`);
    ids.add(id);
  }
  return originals(parsed.data);
}

/** Of a release of flows, in its root. */
export const FLOWS_IN_RELEASE = 'flows.json';
/** Says heartbeats; without one flows can't show that they run. */
const CONFIG_NODE = 'entryphone-station';

/** The flows of a release, but for what only a station can say of them. @throws AppError `flow-file-invalid` */
export function readReleaseFlows(text: string): FlowNodes {
  const flows = readFlows(text, FLOWS_IN_RELEASE);
  if (flows.some(({ type, d }) => type === CONFIG_NODE && d !== true)) return withoutSecrets(flows);
  throw new AppError('flow-file-invalid', `no flow has an ${CONFIG_NODE} node: they could not show that they run`, {
    remedy: 'Add one: any node of the palette brings it',
  });
}

/** The same, of the folder that a release is made of. @throws AppError `usage`, `flow-file-invalid` */
export function readFlowsFolder(folder: string): FlowNodes {
  const remedy = `The folder needs ${FLOWS_IN_RELEASE}: what entryphone flows export writes`;
  return readReleaseFlows(textOf(join(folder, FLOWS_IN_RELEASE), remedy));
}

/** @param known what the Admin API names; subflows are known by the flows themselves */
export function unknownTypes(flows: FlowNodes, known: ReadonlySet<string>): UnknownType[] {
  const own = new Set(flows.filter(({ type }) => type === 'subflow').map(({ id }) => `subflow:${id}`));
  const unknown = new Map<string, string[]>();
  for (const { id, type } of flows) {
    if (known.has(type) || own.has(type)) continue;
    unknown.set(type, [...(unknown.get(type) ?? []), id]);
  }
  return [...unknown].map(([type, nodes]) => ({ type, nodes }));
}

/**
 * The same flows with a placeholder for each node of an unknown type: Node-RED starts no node of flows that have one, not even
 * where it is disabled. A placeholder is a function node that is off, in the same place with the same wires, and keeps what it
 * stands for in its description, without credentials.
 */
export function withPlaceholders(flows: FlowNodes, unknown: readonly UnknownType[]): FlowNodes {
  const missing = new Set(unknown.flatMap(({ nodes }) => nodes));
  const firstTab = flows.find(({ type }) => type === 'tab')?.id;
  let below = 0;
  return flows.map((node) => {
    if (!missing.has(node.id)) return node;
    const { credentials: _, ...kept } = node;
    const wires = Array.isArray(node.wires) ? node.wires : [];
    // A config node stands nowhere.
    const place =
      typeof node.x === 'number' && typeof node.y === 'number' ? { x: node.x, y: node.y } : { x: 160, y: 40 * ++below };
    return {
      id: node.id,
      type: 'function',
      z: typeof node.z === 'string' && node.z !== '' ? node.z : firstTab,
      ...(typeof node.g === 'string' ? { g: node.g } : {}),
      d: true,
      name: `not here: ${node.type}`.slice(0, 80),
      info: `${MARK}\n\n${JSON.stringify(kept)}`,
      func: 'return null;',
      outputs: wires.length,
      libs: [],
      ...place,
      wires,
    };
  });
}

/** The same flows with what placeholders stand for in their place, where those are now and wired as they are now. */
export function originals(flows: FlowNodes): FlowNodes {
  return flows.map((node) => {
    const found = placeholder.safeParse(node);
    if (!found.success) return node;
    const kept = keptBy(found.data.info);
    if (kept === undefined || kept.id !== node.id) return node;
    if (kept.x === undefined) return kept;
    const { x, y, z, wires } = node;
    return { ...kept, x, y, z, wires };
  });
}

/** Nothing that Node-RED keeps apart as secret, wherever it may have come from. */
export function withoutSecrets(flows: FlowNodes): FlowNodes {
  return flows.map(({ credentials: _, ...node }) => node as FlowNode);
}

function keptBy(info: string): FlowNode | undefined {
  try {
    return original.safeParse(JSON.parse(info.slice(MARK.length))).data;
  } catch {
    return undefined;
  }
}

function textOf(file: string, remedy?: string): string {
  let handle: number;
  try {
    handle = openSync(file, 'r');
  } catch (error) {
    throw new AppError('usage', `${file} can't be read (${(error as NodeJS.ErrnoException).code})`, {
      ...(remedy === undefined ? {} : { remedy }),
    });
  }
  try {
    const { size } = fstatSync(handle);
    if (!fstatSync(handle).isFile()) throw new AppError('usage', `${file} is no file`);
    if (size > MOST_FLOW_BYTES) throw invalid(`${file} has ${size} bytes, more than ${MOST_FLOW_BYTES}`);
    return readFileSync(handle, 'utf8');
  } finally {
    closeSync(handle);
  }
}

function invalid(text: string): AppError {
  return new AppError('flow-file-invalid', text, {
    remedy: 'It takes what the editor exports as JSON: its menu, Export, all flows',
  });
}
