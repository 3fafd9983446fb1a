import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Attack, type AttackOutcome, attackOutcome } from './attack.js';
import { RESCUE_ATTACKS } from './rescue-attacks.js';
import type { ScenarioContext } from './scenario.js';
import { SIGNATURE_ATTACKS } from './signature-attacks.js';
import { TRUST_ATTACKS } from './trust-attacks.js';
import { WIRE_ATTACKS } from './wire-attacks.js';

export interface AttacksOutcome {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** By name. */
  readonly attacks: Readonly<Record<string, AttackOutcome>>;
}

/** All there are: each has a test of its own as well. */
export const ATTACKS: readonly Attack[] = [...TRUST_ATTACKS, ...SIGNATURE_ATTACKS, ...RESCUE_ATTACKS, ...WIRE_ATTACKS];

/** Attacks on updates, one after another, each on a repository and a station of its own. */
export async function runAttacksScenario({ dir, log }: ScenarioContext): Promise<AttacksOutcome> {
  const attacks: Record<string, AttackOutcome> = {};
  const failed: string[] = [];
  for (const attack of ATTACKS) {
    const own = join(dir, attack.name);
    await mkdir(own);
    const outcome = await attackOutcome(attack, own);
    attacks[attack.name] = outcome;
    log(`${attack.name}: ${attack.does}: ${outcome.refused ? 'refused' : 'NOT REFUSED'}, ${outcome.reason}`);
    if (!outcome.refused) failed.push(`${attack.name}: ${outcome.reason}`);
  }
  return { ok: failed.length === 0, failed, attacks };
}
