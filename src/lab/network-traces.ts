import { seededRandom } from '../core/seeded-random.js';

/** One 20 ms packet of a trace. Both times are on one clock that begins with the trace; no clock drifts. */
export interface TracePacket {
  /** 0, 1, 2, … */
  readonly number: number;
  readonly sentMs: number;
  /** null: lost */
  readonly arrivedMs: number | null;
}

export interface NetworkTrace {
  readonly name: string;
  /** What happens in it. */
  readonly about: string;
  /** In the order in which they were sent. */
  readonly packets: readonly TracePacket[];
}

/** A packet that arrives, in the order of arrival. */
export interface Arrival {
  readonly number: number;
  readonly sentMs: number;
  readonly arrivedMs: number;
}

export const TRACE_PACKET_MS = 20;
const TRACE_S = 90;

/**
 * What one part of the way does to a packet: the ms that it adds, or that it loses it. Parts are passed one after the
 * other; each keeps a state of its own, and draws from a generator of its own.
 */
type Part = (atMs: number, random: () => number) => number | 'lost';

interface Way {
  readonly name: string;
  readonly about: string;
  readonly parts: readonly (() => Part)[];
}

/**
 * Ten ways through networks as a door station meets them, 90 s of 20 ms packets each. Every part of a way is a model from
 * the literature with parameters in its range, not a recording: what they are good for is to compare playouts on equal
 * arrivals, not to say how often a real link does what.
 *
 * @param seed the same traces for the same seed, on every machine
 */
export function networkTraces(seed: number): NetworkTrace[] {
  return WAYS.map(({ name, about, parts }, i) => {
    const passes = parts.map((part, k) => ({ part: part(), random: seededRandom(seed + 1_000 * i + k) }));
    const packets = Array.from({ length: (TRACE_S * 1000) / TRACE_PACKET_MS }, (_, number): TracePacket => {
      const sentMs = number * TRACE_PACKET_MS;
      let atMs: number | null = sentMs;
      for (const { part, random } of passes) {
        // A packet that is lost takes no part in what follows, and draws nothing there.
        const added: number | 'lost' = part(atMs, random);
        if (added === 'lost') return { number, sentMs, arrivedMs: null };
        atMs += added;
      }
      return { number, sentMs, arrivedMs: atMs };
    });
    return { name, about, packets };
  });
}

/** What arrives, in its order; of two at one instant the one that was sent first. */
export function arrivalsOf(trace: NetworkTrace): Arrival[] {
  return trace.packets
    .filter((packet): packet is Arrival => packet.arrivedMs !== null)
    .sort((a, b) => a.arrivedMs - b.arrivedMs || a.number - b.number);
}

/** A way of no change: propagation and the wired part. */
const constant =
  (delayMs: number): (() => Part) =>
  () =>
  () =>
    delayMs;

/** Delays that know nothing of each other, with an exponential tail; packets may overtake. Bolot, "End-to-end packet delay and loss behavior in the Internet" (1993). */
const scattered =
  (meanMs: number): (() => Part) =>
  () =>
  (_, random) =>
    exponential(meanMs, random);

/** A link that keeps the order: nothing leaves it before what entered it earlier, and each packet takes `serviceMs`. */
function inOrder(part: Part, serviceMs: number): Part {
  let freeMs = Number.NEGATIVE_INFINITY;
  return (atMs, random) => {
    const added = part(atMs, random);
    if (added === 'lost') return added;
    freeMs = Math.max(atMs + added, freeMs) + serviceMs;
    return freeMs - atMs;
  };
}

/**
 * IEEE 802.11: contention for the channel (a mean of 1.5 ms, exponential: Bianchi 2000 gives it for a handful of stations),
 * and stalls in which the radio serves nobody (scanning other channels, a power-save peer, a microwave oven's half-wave),
 * after which what has waited comes within some ms, for frames are aggregated (802.11n A-MPDU).
 */
const wifi =
  (stall: {
    everyMs: readonly [number, number];
    lastsMs: readonly [number, number];
    contentionMs?: number;
  }): (() => Part) =>
  () => {
    const { everyMs, lastsMs, contentionMs = 1.5 } = stall;
    let fromMs = 0;
    let toMs = 0;
    return inOrder((atMs, random) => {
      while (atMs >= toMs) {
        fromMs = toMs + between(everyMs, random);
        toMs = fromMs + between(lastsMs, random);
        if (atMs < fromMs) break;
      }
      const stalledMs = atMs >= fromMs && atMs < toMs ? toMs - atMs : 0;
      return stalledMs + exponential(contentionMs, random);
    }, 0.4);
  };

/**
 * LTE's way up (3GPP TS 36.321, 36.322): a scheduling request waits for its turn every 10 ms, a block that fails (10 % at
 * the scheduler's usual aim) comes again 8 ms later, up to 4 times, and then by RLC after 45 ms more; PDCP gives on in order.
 */
const harq =
  (failing: number): (() => Part) =>
  () =>
    inOrder((atMs, random) => {
      const turnMs = 10 - (atMs % 10);
      let retriesMs = 0;
      for (let tries = 0; random() < failing && tries < 5; tries++) retriesMs += tries < 4 ? 8 : 45;
      return 4 + turnMs + retriesMs;
    }, 0.5);

/**
 * A mobile cell under load: a delay that wanders (Ornstein-Uhlenbeck, as Winstein et al., "Stochastic forecasts achieve
 * high throughput and low delay over cellular networks", 2013, model the link's rate), and spikes, in which the delay jumps
 * and then falls as the queue drains (Ramjee et al., "Adaptive playout mechanisms for packetized audio", 1994).
 */
const cell =
  (load: {
    meanMs: number;
    deviationMs: number;
    memoryMs: number;
    spikeEveryMs: number;
    spikeMs: readonly [number, number];
  }): (() => Part) =>
  () => {
    const { meanMs, deviationMs, memoryMs, spikeEveryMs, spikeMs } = load;
    let wander = 0;
    let spike = 0;
    let lastMs = 0;
    return inOrder((atMs, random) => {
      const stepMs = Math.max(0, atMs - lastMs);
      lastMs = Math.max(lastMs, atMs);
      const keeps = Math.exp(-stepMs / memoryMs);
      wander = wander * keeps + deviationMs * Math.sqrt(1 - keeps * keeps) * gaussian(random);
      // The queue drains at a rate of a third above what comes in.
      spike = Math.max(0, spike - stepMs / 3);
      if (random() < stepMs / spikeEveryMs) spike = Math.max(spike, between(spikeMs, random));
      return Math.max(1, meanMs + wander) + spike;
    }, 0.3);
  };

/** A queue that is too long and that a TCP transfer fills and lets drain, in a sawtooth. Gettys and Nichols, "Bufferbloat" (2011). */
const bloatedQueue =
  (mostMs: number, periodMs: number, busyMs: number): (() => Part) =>
  () =>
    inOrder((atMs, random) => {
      const within = atMs % (periodMs + busyMs);
      const fill = within < busyMs ? within / busyMs : Math.max(0, 1 - (within - busyMs) / 300);
      return mostMs * fill + exponential(0.8, random);
    }, 0.2);

/** Runs of losses: Gilbert (1960). */
const lossRuns =
  (lossPct: number, meanRun: number): (() => Part) =>
  () => {
    let inRun = false;
    const leave = 1 / meanRun;
    const enter = ((lossPct / 100) * leave) / (1 - lossPct / 100);
    return (_, random) => {
      inRun = inRun ? random() >= leave : random() < enter;
      return inRun ? 'lost' : 0;
    };
  };

/** Some packets go by another, longer way. Bennett, Partridge and Shectman, "Packet reordering is not pathological" (1999). */
const detour =
  (sharePct: number, longerMs: readonly [number, number]): (() => Part) =>
  () =>
  (_, random) =>
    random() * 100 < sharePct ? between(longerMs, random) : 0;

/** The route changes: from `atS` on the way is longer, from `backS` on as it was. Paxson, "End-to-end routing behavior in the Internet" (1996). */
const rerouted =
  (longerMs: number, atS: number, backS: number): (() => Part) =>
  () =>
  (atMs) =>
    atMs >= atS * 1000 && atMs < backS * 1000 ? longerMs : 0;

const WAYS: readonly Way[] = [
  {
    name: 'wifi-scan',
    about: 'Wi-Fi that leaves its channel every 3 to 6 s for 50 to 120 ms',
    parts: [constant(3), wifi({ everyMs: [3_000, 6_000], lastsMs: [50, 120] })],
  },
  {
    name: 'wifi-stalls',
    about: 'Wi-Fi at its edge: every 1 to 8 s nothing for 50 to 250 ms, then all at once; 0.5 % lost',
    parts: [constant(3), lossRuns(0.5, 1.5), wifi({ everyMs: [1_000, 8_000], lastsMs: [50, 250], contentionMs: 2.5 })],
  },
  {
    name: 'wifi-crowded',
    about: 'a crowded channel: short stalls of 10 to 45 ms, four a second, 1 % lost',
    parts: [constant(4), lossRuns(1, 1.2), wifi({ everyMs: [50, 450], lastsMs: [10, 45], contentionMs: 4 })],
  },
  {
    name: '4g-harq',
    about: '4G in a good cell: steps of 8 ms by HARQ, at times one of RLC',
    parts: [constant(18), harq(0.12)],
  },
  {
    name: '4g-spikes',
    about: '4G under load: a wandering delay, every 4 s a spike of 30 to 80 ms; 0.5 % lost',
    parts: [
      constant(20),
      lossRuns(0.5, 1.5),
      harq(0.1),
      cell({ meanMs: 12, deviationMs: 5, memoryMs: 400, spikeEveryMs: 4_000, spikeMs: [30, 80] }),
    ],
  },
  {
    name: 'bufferbloat',
    about: "somebody's upload: the queue grows to 140 ms within 4 s and drains, again every 12 s",
    parts: [constant(12), bloatedQueue(140, 8_000, 4_000), scattered(1)],
  },
  {
    name: 'loss-bursts',
    about: '6 % lost in runs of 3, delays that scatter by 4 ms',
    parts: [constant(15), lossRuns(6, 3), scattered(4)],
  },
  {
    name: 'reordering',
    about: 'a twelfth of the packets takes a way that is 25 to 50 ms longer; 1 % lost',
    parts: [constant(15), lossRuns(1, 1), detour(8, [25, 50]), scattered(2)],
  },
  {
    name: 'wifi-and-4g',
    about: 'Wi-Fi stalls at home, 4G spikes at the gate, 1.5 % lost in runs of 2',
    parts: [
      constant(20),
      cell({ meanMs: 10, deviationMs: 4, memoryMs: 300, spikeEveryMs: 7_000, spikeMs: [30, 70] }),
      lossRuns(1.5, 2),
      wifi({ everyMs: [3_000, 9_000], lastsMs: [50, 180] }),
    ],
  },
  {
    name: 'poor-mobile',
    about: 'a poor mobile link: spikes, 3 % lost in runs of 2.5, some reordering, 60 ms longer from 30 s to 60 s',
    parts: [
      constant(30),
      harq(0.2),
      cell({ meanMs: 15, deviationMs: 7, memoryMs: 500, spikeEveryMs: 3_000, spikeMs: [30, 110] }),
      lossRuns(3, 2.5),
      rerouted(60, 30, 60),
      detour(1, [20, 40]),
    ],
  },
];

function exponential(mean: number, random: () => number): number {
  return -mean * Math.log(1 - random());
}

/** Box and Muller (1958). */
function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function between([least, most]: readonly [number, number], random: () => number): number {
  return least + (most - least) * random();
}
