declare module 'node-red' {
  import type { EventEmitter } from 'node:events';
  import type { IncomingMessage, Server, ServerResponse } from 'node:http';

  /** The parts of Node-RED that a program which runs it needs. */
  const RED: {
    init(server: Server, settings: object): void;
    start(): Promise<void>;
    stop(): Promise<void>;
    readonly events: EventEmitter;
    readonly httpAdmin: (request: IncomingMessage, response: ServerResponse) => void;
  };
  export default RED;
}
