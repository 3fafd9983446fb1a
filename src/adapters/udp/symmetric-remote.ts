import { isIPv6, SocketAddress } from 'node:net';

/** So long after the remote was named a packet from elsewhere may still move it. */
const LATCH_MS = 5_000;

export interface UdpAddress {
  readonly address: string;
  readonly port: number;
}

/**
 * Where the far end is (symmetric RTP, RFC 4961): first where its SDP says. If the first packet that the session expects
 * (RTP of its payload type) comes from elsewhere, as through a NAT or from a second interface, that is where it is from
 * then on: once, within 5 s of the address being named, and only before anything expected came from the named address.
 * After that everything from elsewhere is foreign. Naming another address begins anew.
 */
export class SymmetricRemote {
  #current: UdpAddress | null = null;
  #named: UdpAddress | null = null;
  #mayLatchUntilMs = Number.NEGATIVE_INFINITY;

  /** Where to send; null until an address was named. */
  get current(): UdpAddress | null {
    return this.#current;
  }

  name(remote: UdpAddress, nowMs: number): void {
    const canonical = { address: canonicalAddress(remote.address), port: remote.port };
    if (this.#named !== null && isSame(this.#named, canonical.address, canonical.port)) return;
    this.#named = canonical;
    this.#current = canonical;
    this.#mayLatchUntilMs = nowMs + LATCH_MS;
  }

  /** @param isExpected whether the datagram is what the session waits for; asked only where it matters */
  admits(address: string, port: number, nowMs: number, isExpected: () => boolean): boolean {
    const { current } = this;
    if (current === null) return false;
    const isCurrent = isSame(current, address, port);
    if (nowMs > this.#mayLatchUntilMs) return isCurrent;
    if (!isExpected()) return isCurrent;
    this.#mayLatchUntilMs = Number.NEGATIVE_INFINITY;
    if (!isCurrent) this.#current = { address, port };
    return true;
  }
}

function isSame(one: UdpAddress, address: string, port: number): boolean {
  return one.port === port && one.address === address;
}

/** The text that the socket gives for the same address: an IPv6 address can be written in several ways. */
function canonicalAddress(address: string): string {
  return isIPv6(address) ? new SocketAddress({ address, family: 'ipv6' }).address : address;
}
