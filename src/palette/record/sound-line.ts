import { L16_RATE_HZ, type L16Sound } from '../../rtp/l16.js';

const SAMPLES_PER_MS = L16_RATE_HZ / 1_000;
/** Longer than that is a pause: nobody wants to hear it. */
const MOST_FILLED_MS = 1_000;
/** How long one of two streams waits for the other, which may have nothing to say. */
const MOST_WAIT_SAMPLES = 120 * SAMPLES_PER_MS;
const STEP_SAMPLES = 10 * SAMPLES_PER_MS;

/** Of a tap's packets a line of sound without holes: silence stands for what was lost, so that what is recorded keeps its time. */
export class FilledLine {
  readonly #take: (samples: Int16Array) => void;
  readonly #silence = new Int16Array(STEP_SAMPLES);
  #endsAtMs: number | null = null;
  #lostPackets = 0;

  constructor(take: (samples: Int16Array) => void) {
    this.#take = take;
  }

  /** Packets that did not come. */
  get lostPackets(): number {
    return this.#lostPackets;
  }

  push({ samples, endsAtMs, lostPackets }: L16Sound): void {
    const startsAtMs = endsAtMs - samples.length / SAMPLES_PER_MS;
    const gapMs = this.#endsAtMs === null ? 0 : startsAtMs - this.#endsAtMs;
    this.#endsAtMs = endsAtMs;
    this.#lostPackets += lostPackets;
    if (gapMs > 0 && gapMs <= MOST_FILLED_MS) {
      for (let left = Math.round(gapMs * SAMPLES_PER_MS); left > 0; left -= STEP_SAMPLES) {
        this.#take(this.#silence.subarray(0, Math.min(left, STEP_SAMPLES)));
      }
    }
    this.#take(samples);
  }
}

/** Two streams in one: where both have something their sum, held at full scale; where one has nothing the other alone. */
export class Mix {
  readonly #take: (samples: Int16Array) => void;
  readonly #waiting = [new Waiting(), new Waiting()] as const;
  readonly #sum = new Int16Array(STEP_SAMPLES);

  /** @param take what it is given is valid until it returns */
  constructor(take: (samples: Int16Array) => void) {
    this.#take = take;
  }

  push(which: 0 | 1, samples: Int16Array): void {
    const [own, other] = [this.#waiting[which], this.#waiting[1 - which] as Waiting];
    own.push(samples);
    while (own.length >= STEP_SAMPLES && (other.length >= STEP_SAMPLES || own.length > MOST_WAIT_SAMPLES)) {
      this.#sum.fill(0);
      for (const one of this.#waiting) if (one.length >= STEP_SAMPLES) one.addTo(this.#sum);
      this.#take(this.#sum);
    }
  }
}

class Waiting {
  #samples = new Int16Array(2 * MOST_WAIT_SAMPLES);
  length = 0;

  push(samples: Int16Array): void {
    if (this.length + samples.length > this.#samples.length) {
      const more = new Int16Array(this.length + 2 * samples.length);
      more.set(this.#samples.subarray(0, this.length));
      this.#samples = more;
    }
    this.#samples.set(samples, this.length);
    this.length += samples.length;
  }

  addTo(sum: Int16Array): void {
    for (let i = 0; i < sum.length; i++) {
      sum[i] = Math.max(-32_768, Math.min(32_767, (sum[i] ?? 0) + (this.#samples[i] ?? 0)));
    }
    this.#samples.copyWithin(0, sum.length, this.length);
    this.length -= sum.length;
  }
}
