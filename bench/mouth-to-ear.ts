import type { OpusEncoderSettings } from '../src/codec/codec.js';
import { systemClock } from '../src/core/clock.js';
import { judge } from '../src/lab/call-scenario.js';
import { DeviceRecorder, feedRecording } from '../src/lab/sound-device.js';
import { LAB_RATE_HZ } from '../src/lab/speech.js';
import type { VirtualSound } from '../src/lab/virtual-sound.js';
import { type BareChainOptions, freePorts, Measured, type MediaEndOptions, sleep } from './children.js';

export interface DelayFigures {
  readonly p50: number;
  readonly p95: number;
  /** Of what was heard to what was said. */
  readonly similarity: number;
}

/**
 * Mouth to ear, in ms, of our two ends and of the bare chain at once: one microphone is fed, two speakers are heard.
 * Taken at the ALSA devices; what the virtual card itself needs is in both.
 */
export async function measureMouthToEar(options: {
  readonly sound: VirtualSound;
  readonly env: NodeJS.ProcessEnv;
  readonly speech: Int16Array;
  readonly other: Int16Array;
  readonly opus: OpusEncoderSettings;
}): Promise<{ ours: DelayFigures; bare: DelayFigures }> {
  const { sound, env, speech, opus } = options;
  const [from = 0, to = 0] = await freePorts(2);
  const { microphone, speaker, feed } = sound.devices('ours');
  const running: Measured[] = [];
  const recorders: DeviceRecorder[] = [];
  const ours = { opus };
  const receiver: MediaEndOptions = { ...ours, role: 'receiver', device: speaker, localPort: to, remotePort: from };
  const sender: MediaEndOptions = { ...ours, role: 'sender', device: microphone, localPort: from, remotePort: to };
  const bare: BareChainOptions = { microphone, speaker: sound.devices('yardstick').speaker, opus };
  const device = { rateHz: LAB_RATE_HZ, clock: systemClock, env: sound.env };
  try {
    running.push(await Measured.node('our receiver', 'media-end.js', receiver, env));
    running.push(await Measured.node('our sender', 'media-end.js', sender, env));
    running.push(await Measured.node('the bare chain', 'bare-chain.js', bare, env));
    for (const station of ['ours', 'yardstick']) {
      const { loop } = sound.devices(station);
      const mostSeconds = speech.length / LAB_RATE_HZ + 15;
      recorders.push(await DeviceRecorder.start({ ...device, device: loop, mostSeconds }));
    }
    await sleep(1_000);
    const fed = await feedRecording({ ...device, device: feed, samples: speech });
    await sleep(700);
    const [atOurs, atBare] = await Promise.all(recorders.map((recorder) => recorder.stop()));
    if (atOurs === undefined || atBare === undefined) throw new Error('nothing was recorded');
    const figures = (heard: typeof atOurs): DelayFigures => {
      const { mouthToEarMs, similarity } = judge(speech, options.other, fed, heard);
      return { ...mouthToEarMs, similarity };
    };
    return { ours: figures(atOurs), bare: figures(atBare) };
  } finally {
    await Promise.all([...recorders, ...running].map((child) => child.stop()));
  }
}
