import type { MqttClient } from 'mqtt';
import type { Clock } from '../../core/clock.js';

/** Media is sent ahead of its acknowledgement for so long. What is in the sockets when the way stalls is no older. */
const WINDOW_MS = 300;
const MEASURE_EVERY_MS = 100;

/**
 * How long the way to the broker and back is, by PINGREQ and PINGRESP: the broker takes a connection's packets in their
 * order, so that an answer says that all before it has arrived. It is the only acknowledgement that QoS 0 has: the sockets
 * of a stalled TCP connection would swallow minutes of speech without a word.
 */
export class RoundTrip {
  readonly #clock: Clock;
  /** Of the pings that are not answered, oldest first. */
  #sentAtMs: number[] = [];
  #measuredAtMs = -Infinity;
  #lastMs: number | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get lastMs(): number | null {
    return this.#lastMs;
  }

  /** What was sent in the last 300 ms and more is not known to have arrived. */
  get isStalled(): boolean {
    const oldestMs = this.#sentAtMs[0];
    return oldestMs !== undefined && this.#clock.nowMs() - oldestMs > WINDOW_MS;
  }

  /** From now on this is the connection, its own keep-alive pings included. */
  watch(client: MqttClient): void {
    const sentAtMs: number[] = [];
    this.#sentAtMs = sentAtMs;
    client.on('packetsend', ({ cmd }) => {
      if (cmd === 'pingreq') sentAtMs.push(this.#clock.nowMs());
    });
    client.on('packetreceive', ({ cmd }) => {
      const sentMs = cmd === 'pingresp' ? sentAtMs.shift() : undefined;
      if (sentMs !== undefined) this.#lastMs = this.#clock.nowMs() - sentMs;
    });
  }

  /** Asks again, unless an answer is awaited or came within the last 100 ms. */
  measure(client: MqttClient): void {
    const nowMs = this.#clock.nowMs();
    if (this.#sentAtMs.length > 0 || nowMs - this.#measuredAtMs < MEASURE_EVERY_MS) return;
    this.#measuredAtMs = nowMs;
    client.sendPing();
  }
}
