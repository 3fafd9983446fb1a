import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { WorkerPool } from '../src/gateway/worker-pool.js';
import { writeRtp } from '../src/rtp/rtp-packet.js';
import { cpuMsOf, sleep } from './children.js';
import { Rtpengine } from './rtpengine.js';

/** What forwarding costs: datagrams per second of CPU of the whole process, and those of them that arrived, in %. */
export interface ForwardingFigures {
  readonly packetsPerCpuS: number;
  readonly arrivedPct: number;
}

export interface Forwarding {
  readonly calls: number;
  readonly worker: ForwardingFigures;
  /** Null where it can't be had on this machine; `rtpengineFault` says why. */
  readonly rtpengine: ForwardingFigures | null;
  readonly rtpengineFault: string | null;
  /** The worker's packets per second of CPU by rtpengine's: above 1 ours forwards more. */
  readonly ratio: number | null;
}

const LOOPBACK = '127.0.0.1';
const CALLS = 40;
const PACKET_EVERY_MS = 20;
/** 24 kbit/s of Opus. */
const PAYLOAD_BYTES = 60;
const WARM_UP_S = 3;
const FIRST_PORT = 34_000;
const CONTROL_PORT = 33_990;
const workerProgram = resolve(import.meta.dirname, '../src/bin/gateway-worker.js');

/** A room worker and rtpengine in user space forward the same 40 calls, both ways, one after the other. */
export async function measureForwarding(options: { dir: string; seconds: number }): Promise<Forwarding> {
  const parties = await Parties.open(CALLS);
  try {
    const worker = await ofWorker(parties, options.seconds);
    const other = await Rtpengine.start({ dir: options.dir, controlPort: CONTROL_PORT, firstPort: FIRST_PORT + 1_000 });
    if (typeof other === 'string') return { calls: CALLS, worker, rtpengine: null, rtpengineFault: other, ratio: null };
    try {
      for (const [index, call] of parties.calls.entries()) {
        parties.send(index, await other.call(`call-${index}`, call.ports));
      }
      const rtpengine = await parties.talk(options.seconds, () => other.measured.cpuMs());
      const ratio = worker.packetsPerCpuS / rtpengine.packetsPerCpuS;
      return { calls: CALLS, worker, rtpengine, rtpengineFault: null, ratio };
    } finally {
      await other.stop();
    }
  } finally {
    parties.close();
  }
}

async function ofWorker(parties: Parties, seconds: number): Promise<ForwardingFigures> {
  const pool = new WorkerPool({
    count: 1,
    program: workerProgram,
    rtp: { address: LOOPBACK, ports: { from: FIRST_PORT, to: FIRST_PORT + 999 } },
    limits: { initMs: 5_000, pingEveryMs: 250, pongWithinMs: 2_000, memoryBytes: 2 ** 30 },
    clock: systemClock,
    logger: silentLogger,
  });
  try {
    while (!pool.isReady) await sleep(20);
    for (const [index, { ports }] of parties.calls.entries()) {
      const remotes = ports.map((port, leg) => ({ legId: `leg-${leg}`, remote: { address: LOOPBACK, port } }));
      const legs = await pool.open(`bench-call-${index}`, remotes);
      parties.send(index, [legs[0]?.port ?? 0, legs[1]?.port ?? 0]);
    }
    const pid = pool.workers()[0]?.pid ?? 0;
    return await parties.talk(seconds, () => cpuMsOf(pid));
  } finally {
    pool.stop();
  }
}

interface BenchCall {
  readonly sockets: readonly [Socket, Socket];
  readonly ports: readonly [number, number];
  towards: readonly [number, number];
}

/** Both ends of every call, in this process, whose own CPU counts for nothing. */
class Parties {
  readonly calls: readonly BenchCall[];
  #arrived = 0;
  #sequence = 0;

  private constructor(calls: readonly BenchCall[]) {
    this.calls = calls;
    for (const socket of calls.flatMap(({ sockets }) => sockets)) {
      socket.on('message', () => {
        this.#arrived += 1;
      });
    }
  }

  static async open(count: number): Promise<Parties> {
    const open = async (): Promise<Socket> => {
      const socket = createSocket({ type: 'udp4', recvBufferSize: 262_144 }).bind(0, LOOPBACK);
      await once(socket, 'listening');
      return socket;
    };
    const calls: BenchCall[] = [];
    for (let index = 0; index < count; index++) {
      const sockets: [Socket, Socket] = [await open(), await open()];
      calls.push({ sockets, ports: [sockets[0].address().port, sockets[1].address().port], towards: [0, 0] });
    }
    return new Parties(calls);
  }

  /** Where the parties of a call send to from now on. */
  send(index: number, towards: readonly [number, number]): void {
    const call = this.calls[index];
    if (call !== undefined) call.towards = towards;
  }

  /** Each party sends a packet every 20 ms. */
  async talk(seconds: number, cpuMs: () => number): Promise<ForwardingFigures> {
    await this.#talkFor(WARM_UP_S);
    this.#arrived = 0;
    const beforeMs = cpuMs();
    const sent = await this.#talkFor(seconds);
    await sleep(200);
    const arrived = this.#arrived;
    return { packetsPerCpuS: (arrived * 1_000) / (cpuMs() - beforeMs), arrivedPct: (100 * arrived) / sent };
  }

  async #talkFor(seconds: number): Promise<number> {
    const startMs = systemClock.nowMs();
    const turns = (seconds * 1_000) / PACKET_EVERY_MS;
    for (let turn = 0; turn < turns; turn++) {
      this.#sequence = (this.#sequence + 1) & 0xffff;
      for (const [index, { sockets, towards }] of this.calls.entries()) {
        const packet = packetOf(this.#sequence, index);
        sockets[0].send(packet, towards[0], LOOPBACK);
        sockets[1].send(packet, towards[1], LOOPBACK);
      }
      await sleep(Math.max(0, startMs + (turn + 1) * PACKET_EVERY_MS - systemClock.nowMs()));
    }
    return turns * this.calls.length * 2;
  }

  close(): void {
    for (const socket of this.calls.flatMap(({ sockets }) => sockets)) socket.close();
  }
}

function packetOf(sequence: number, ssrc: number): Buffer {
  const timestamp = (sequence * 960) >>> 0;
  const payload = Buffer.alloc(PAYLOAD_BYTES, sequence);
  return writeRtp({ payloadType: 96, marker: false, sequence, timestamp, ssrc, csrcs: [], extension: null, payload });
}
