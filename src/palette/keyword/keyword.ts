import { type HeardConfig, tellHeard } from '../heard-part.js';
import type { FlowNode, NodeRed } from '../node-red.js';

/** Tells when the station hears a word that a keyword model of it knows. */
export default function register(RED: NodeRed): void {
  RED.nodes.registerType('entryphone-keyword', function keyword(this: FlowNode, config: HeardConfig) {
    RED.nodes.createNode(this, config);
    tellHeard(RED, this, config, 'keyword');
  });
}
