import { isIPv6, SocketAddress } from 'node:net';

/** A Binding request or its success response (RFC 8489, 5 and 6); other STUN is of no use here. */
export interface StunBinding {
  readonly kind: 'request' | 'response';
  /** 96 bits; a response bears its request's. */
  readonly transaction: Uint8Array;
}

const HEADER_BYTES = 20;
const BINDING_REQUEST = 0x0001;
const BINDING_RESPONSE = 0x0101;
const MAGIC_COOKIE = 0x2112_a442;
const XOR_MAPPED_ADDRESS = 0x0020;
export const STUN_TRANSACTION_BYTES = 12;

/** Whether a datagram at a port that also takes RTP is STUN: its first byte is 0 … 3, and the cookie is there (RFC 7983, 7). */
export function isStun(datagram: Uint8Array): boolean {
  return datagram.length >= HEADER_BYTES && (datagram[0] ?? 0xff) < 4 && viewOf(datagram).getUint32(4) === MAGIC_COOKIE;
}

/** @returns null for what is no whole Binding request or response. Attributes are not read. */
export function parseStunBinding(datagram: Uint8Array): StunBinding | null {
  if (!isStun(datagram)) return null;
  const view = viewOf(datagram);
  const type = view.getUint16(0);
  if (view.getUint16(2) !== datagram.length - HEADER_BYTES || datagram.length % 4 !== 0) return null;
  if (type !== BINDING_REQUEST && type !== BINDING_RESPONSE) return null;
  return { kind: type === BINDING_REQUEST ? 'request' : 'response', transaction: datagram.subarray(8, HEADER_BYTES) };
}

export function writeStunRequest(transaction: Uint8Array): Buffer {
  return header(BINDING_REQUEST, 0, transaction);
}

/** @param from where the request came from: XOR-MAPPED-ADDRESS (RFC 8489, 14.2) */
export function writeStunResponse(transaction: Uint8Array, from: { address: string; port: number }): Buffer {
  const address = addressBytes(from.address);
  const attribute = Buffer.alloc(8 + address.length);
  attribute.writeUInt16BE(XOR_MAPPED_ADDRESS, 0);
  attribute.writeUInt16BE(4 + address.length, 2);
  attribute.writeUInt8(address.length === 4 ? 1 : 2, 5);
  attribute.writeUInt16BE(from.port ^ (MAGIC_COOKIE >>> 16), 6);
  const response = Buffer.concat([header(BINDING_RESPONSE, attribute.length, transaction), attribute]);
  for (const [index, byte] of address.entries()) response[HEADER_BYTES + 8 + index] = byte ^ (response[4 + index] ?? 0);
  return response;
}

function header(type: number, bodyBytes: number, transaction: Uint8Array): Buffer {
  const message = Buffer.alloc(HEADER_BYTES);
  message.writeUInt16BE(type, 0);
  message.writeUInt16BE(bodyBytes, 2);
  message.writeUInt32BE(MAGIC_COOKIE, 4);
  message.set(transaction.subarray(0, STUN_TRANSACTION_BYTES), 8);
  return message;
}

/** 4 or 16 bytes, in the network's order. */
function addressBytes(address: string): number[] {
  if (!isIPv6(address)) return address.split('.').map(Number);
  const [head = '', tail] = new SocketAddress({ address, family: 'ipv6' }).address.split('::');
  const words = (text: string): number[] => (text === '' ? [] : text.split(':').flatMap(wordBytes));
  const [before, after] = [words(head), words(tail ?? '')];
  return [...before, ...new Array<number>(Math.max(0, 16 - before.length - after.length)).fill(0), ...after];
}

/** A group of an IPv6 address; its last may be written as an IPv4 address. */
function wordBytes(group: string): number[] {
  if (group.includes('.')) return group.split('.').map(Number);
  const value = Number.parseInt(group, 16);
  return [value >> 8, value & 0xff];
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
