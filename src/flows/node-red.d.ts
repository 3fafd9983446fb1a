declare module 'node-red' {
  import type { EventEmitter } from 'node:events';
  import type { IncomingMessage, Server, ServerResponse } from 'node:http';

  interface Sent {
    readonly source: { readonly id: string; readonly port: number };
    readonly msg: Record<string, unknown>;
  }
  interface Completed {
    readonly node: { readonly id: string };
    readonly error?: Error | string;
  }

  /** The parts of Node-RED that a program which runs it needs; nodes, hooks and runtime are for tests. */
  const RED: {
    init(server: Server, settings: object): void;
    start(): Promise<void>;
    stop(): Promise<void>;
    readonly events: EventEmitter;
    readonly nodes: { getNode(id: string): { receive(message: object): void } | null };
    readonly hooks: {
      add(hook: `onSend.${string}`, listener: (sent: readonly Sent[]) => void): void;
      add(hook: `onComplete.${string}`, listener: (completed: Completed) => void): void;
      remove(hook: string): void;
    };
    readonly runtime: {
      readonly nodes: { getNodeConfigs(options: { lang: string }): Promise<string> };
      readonly flows: {
        setFlows(options: { flows: object; deploymentType: 'full' | 'nodes' }): Promise<{ rev: string }>;
      };
    };
    readonly httpAdmin: (request: IncomingMessage, response: ServerResponse) => void;
  };
  export default RED;
}
