/** The part of sdp-transform 3 that is used here; the package carries no types. */
declare module 'sdp-transform' {
  export function parse(text: string): Record<string, unknown>;
  export function write(session: object): string;
  export function parseParams(text: string): Record<string, unknown>;
}
