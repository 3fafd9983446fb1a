import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { flowNodes } from '../adapters/node-red/admin-api.js';
import type { Config } from '../config/schema.js';
import { createDurably } from '../core/durable-file.js';
import { packageRoot } from '../core/package-root.js';

export const FLOW_FILE = 'flows.json';
const shipped = join(packageRoot, 'flows');

/**
 * Makes the flow file ready for Node-RED, which would take a damaged one for an empty one and say nothing: at the first start
 * the flows that ship; a damaged file is set aside as `flows.json.damaged`.
 * @returns what is wrong with the file that was there, null if nothing is
 */
export async function readyFlowFile(dir: string, initial: Config['flows']['initial']): Promise<string | null> {
  const file = join(dir, FLOW_FILE);
  await createDurably(file, readFileSync(join(shipped, `${initial}.json`), 'utf8'));
  const fault = faultOf(readFileSync(file, 'utf8'));
  if (fault !== null) renameSync(file, `${file}.damaged`);
  return fault;
}

function faultOf(text: string): string | null {
  try {
    const result = flowNodes.safeParse(JSON.parse(text));
    return result.success ? null : `${FLOW_FILE} is no list of nodes`;
  } catch {
    return `${FLOW_FILE} is damaged: ${text.length} bytes, no JSON`;
  }
}
