import type { StationHealth } from '../../protocol/flows-api.js';
import type { FlowNode, NodeRed } from '../node-red.js';
import { joinStation } from '../station-part.js';

interface HealthConfig {
  readonly station: string;
  /** Each change of a part's state, or all of it each two seconds. */
  readonly tell: 'changes' | 'figures';
}

const PARTS = ['media', 'capture', 'playback', 'broker', 'siteBroker', 'otherSites', 'inference'] as const;
type Part = (typeof PARTS)[number] | 'station';

/** Sends what of the station has gone down or come up again; it restarts nothing: supervisor and station do that by themselves. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-health', function health(this: FlowNode, config: HealthConfig) {
    RED.nodes.createNode(this, config);
    const known = new Map<Part, string>();
    /** What was up from the start is no news; what was down is. */
    const found = (name: Part, state: string): void => {
      const before = known.get(name) ?? null;
      if (before === state) return;
      known.set(name, state);
      if (config.tell !== 'changes' || (before === null && state !== 'down')) return;
      this.send({ topic: name, payload: state, before });
    };
    const part = joinStation(RED, this, config, {
      wantsHealth: true,
      state: (state) => {
        if (state === 'connected') found('station', 'up');
        else if (known.has('station')) found('station', 'down');
      },
      health: (now) => {
        for (const name of PARTS) {
          const state = now[name];
          // Nothing is known of a card while nobody can ask for it.
          if (state !== null) found(name, state);
        }
        const down = partsDown(now);
        part?.status.set(
          down.length === 0
            ? { fill: 'green', shape: 'dot', text: RED._('health.well') }
            : { fill: 'red', shape: 'dot', text: down.map((name) => RED._(`health.down.${name}`)).join(', ') },
        );
        if (config.tell === 'figures') this.send({ topic: 'health', payload: now });
      },
    });
  });
}

function partsDown(now: StationHealth): Part[] {
  return PARTS.filter((name) => now[name] === 'down');
}
