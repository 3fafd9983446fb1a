/** The parts of Node-RED that a node sees. */
export type Message = Record<string, unknown>;
export type Send = (message: Message | (Message | null)[]) => void;
export type Done = (error?: Error) => void;

export interface NodeStatus {
  readonly fill?: 'red' | 'green' | 'yellow' | 'blue' | 'grey';
  readonly shape?: 'ring' | 'dot';
  readonly text: string;
}

export interface FlowNode {
  readonly id: string;
  send: Send;
  status(status: NodeStatus): void;
  error(text: string | Error, message?: Message): void;
  warn(text: string): void;
  on(event: 'input', listener: (message: Message, send: Send, done: Done) => void): void;
  on(event: 'close', listener: (removed: boolean, done: () => void) => void): void;
}

export interface NodeRed {
  /** `userDir`: the flows' own folder. */
  readonly settings: { readonly userDir?: string };
  readonly nodes: {
    createNode(node: FlowNode, config: object): void;
    /** Called with `new`; what it is called with is the node as the editor keeps it. */
    registerType(type: string, node: (this: FlowNode, config: never) => void): void;
    getNode(id: string): unknown;
  };
  readonly util: {
    evaluateNodeProperty(
      value: unknown,
      type: string,
      node: FlowNode,
      message: Message,
      callback: (error: Error | null, value: unknown) => void,
    ): void;
  };
  _(key: string, values?: Record<string, unknown>): string;
}

/** A typed input of the editor: `value` and how to read it (`str`, `msg`, `env`, …). */
export function typedValue(
  RED: NodeRed,
  node: FlowNode,
  input: { readonly value: unknown; readonly type: string },
  message: Message,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    RED.util.evaluateNodeProperty(input.value, input.type, node, message, (error, value) =>
      error === null || error === undefined ? resolve(value) : reject(error),
    );
  });
}

export function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
