import type { OpusEncoderSettings } from '../src/codec/codec.js';
import { systemClock } from '../src/core/clock.js';
import { ImpairmentRelay } from '../src/lab/impairment-relay.js';
import { feedRecording } from '../src/lab/sound-device.js';
import { LAB_RATE_HZ } from '../src/lab/speech.js';
import type { VirtualSound } from '../src/lab/virtual-sound.js';
import { freePorts, Measured, type MediaEndOptions, sleep } from './children.js';

/** CPU of a whole process, in ms a second. */
export interface CpuFigures {
  readonly oursMsPerS: number;
  readonly gstreamerMsPerS: number;
  /** Ours by GStreamer's: below 1 ours needs less. */
  readonly ratio: number;
}

export interface CpuOptions {
  readonly sound: VirtualSound;
  readonly env: NodeJS.ProcessEnv;
  readonly speech: Int16Array;
  readonly seconds: number;
  readonly opus: OpusEncoderSettings;
  readonly gstreamerDelayMs: number;
  readonly lossPct: number;
  readonly seed: number;
}

/** Start-up, first packets and just-in-time compilation are behind after it. */
export const WARM_UP_S = 5;
const TAIL_S = 1;

/**
 * Both senders hear the same microphone, both receivers lose by the same seed, all four at once:
 *
 *     microphone ─┬─ ours ─── relay ── ours ─────── speaker
 *                 └─ GStreamer ─ relay ── GStreamer ─ speaker
 */
export async function measureCpu(options: CpuOptions): Promise<{ sender: CpuFigures; receiver: CpuFigures }> {
  const { sound, env, seconds, opus, gstreamerDelayMs } = options;
  const [oursFrom = 0, oursTo = 0, theirsFrom = 0, theirsTo = 0] = await freePorts(4);
  const relays: ImpairmentRelay[] = [];
  const running: Measured[] = [];
  try {
    const relay = async (from: number, to: number) => {
      const opened = await ImpairmentRelay.open({
        a: { address: '127.0.0.1', port: from },
        b: { address: '127.0.0.1', port: to },
        aToB: { lossPct: options.lossPct },
        bToA: {},
        seed: options.seed,
        clock: systemClock,
      });
      relays.push(opened);
      return opened;
    };
    const [oursRelay, theirsRelay] = [await relay(oursFrom, oursTo), await relay(theirsFrom, theirsTo)];
    const { microphone } = sound.devices('ours');
    const start = async (starting: Promise<Measured>) => {
      const started = await starting;
      running.push(started);
      return started;
    };
    const ours = { opus };
    const receiver: MediaEndOptions = {
      ...ours,
      role: 'receiver',
      device: sound.devices('ours').speaker,
      localPort: oursTo,
      remotePort: oursRelay.towardsB.port,
    };
    const sender: MediaEndOptions = {
      ...ours,
      role: 'sender',
      device: microphone,
      localPort: oursFrom,
      remotePort: oursRelay.towardsA.port,
    };
    const oursReceiver = await start(Measured.node('our receiver', 'media-end.js', receiver, env));
    const theirsReceiver = await start(
      Measured.gstreamer(
        "GStreamer's receiver",
        gstreamerReceiver(theirsTo, sound.devices('yardstick').speaker, gstreamerDelayMs),
        env,
      ),
    );
    const oursSender = await start(Measured.node('our sender', 'media-end.js', sender, env));
    const theirsSender = await start(
      Measured.gstreamer(
        "GStreamer's sender",
        gstreamerSender(microphone, theirsFrom, theirsRelay.towardsA.port, opus),
        env,
      ),
    );

    const feeding = feedRecording({
      device: sound.devices('ours').feed,
      env: sound.env,
      rateHz: LAB_RATE_HZ,
      clock: systemClock,
      samples: repeat(options.speech, WARM_UP_S + seconds + TAIL_S),
    });
    feeding.catch(() => {}); // awaited below
    await sleep(WARM_UP_S * 1000);
    const all = [oursSender, theirsSender, oursReceiver, theirsReceiver];
    const startedMs = systemClock.nowMs();
    const before = all.map((child) => child.cpuMs());
    await sleep(seconds * 1000);
    const after = all.map((child) => child.cpuMs());
    const tookS = (systemClock.nowMs() - startedMs) / 1000;
    await feeding;
    const perS = (i: number) => ((after[i] ?? 0) - (before[i] ?? 0)) / tookS;
    return { sender: figures(perS(0), perS(1)), receiver: figures(perS(2), perS(3)) };
  } finally {
    await Promise.all(running.map((child) => child.stop()));
    await Promise.all(relays.map((relay) => relay.close()));
  }
}

function figures(oursMsPerS: number, gstreamerMsPerS: number): CpuFigures {
  return { oursMsPerS, gstreamerMsPerS, ratio: oursMsPerS / gstreamerMsPerS };
}

function repeat(speech: Int16Array, seconds: number): Int16Array {
  return new Int16Array(seconds * LAB_RATE_HZ).map((_, i) => speech[i % speech.length] ?? 0);
}

const RAW = 'audio/x-raw,format=S16LE,rate=48000,channels=1';

function gstreamerSender(device: string, fromPort: number, toPort: number, opus: OpusEncoderSettings): string[] {
  const encoder = [
    'opusenc',
    `bitrate=${opus.bitrateBps}`,
    `complexity=${opus.complexity}`,
    `inband-fec=${opus.inbandFec}`,
    `packet-loss-percentage=${opus.expectedLossPct}`,
    `frame-size=${opus.packetTimeMs}`,
    'audio-type=voice',
  ];
  const sink = ['udpsink', 'host=127.0.0.1', `port=${toPort}`, `bind-port=${fromPort}`, 'bind-address=127.0.0.1'];
  return chain(
    ['alsasrc', `device=${device}`, 'buffer-time=80000', 'latency-time=10000'],
    [RAW],
    encoder,
    ['rtpopuspay', 'pt=96'],
    sink,
  );
}

function gstreamerReceiver(port: number, device: string, latencyMs: number): string[] {
  const caps = 'application/x-rtp,media=audio,clock-rate=48000,encoding-name=OPUS,payload=96';
  return chain(
    ['udpsrc', 'address=127.0.0.1', `port=${port}`, `caps=${caps}`],
    ['rtpjitterbuffer', `latency=${latencyMs}`, 'do-lost=true'],
    ['rtpopusdepay'],
    ['opusdec', 'use-inband-fec=true', 'plc=true'],
    [RAW],
    ['alsasink', `device=${device}`, 'buffer-time=80000', 'latency-time=10000'],
  );
}

function chain(...elements: string[][]): string[] {
  return elements.flatMap((element, i) => (i === 0 ? element : ['!', ...element]));
}
