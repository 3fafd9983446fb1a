import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import { CARD_PRIORITY, inRealTime, putInRealTime } from './precedence.js';
import { PulseControl } from './pulse-control.js';

/** ALSA device names of one station's virtual card; they mean something where `VirtualSound.env` is set. */
export interface VirtualCard {
  /** Capture: what is played to `feed`. */
  readonly microphone: string;
  /** Playback; what it plays is captured at `loop`. */
  readonly speaker: string;
  readonly feed: string;
  readonly loop: string;
}

/** Sound cards without hardware, one for each station, in real time and at 48 kHz. */
export interface VirtualSound {
  /** For programs that are to see these cards: their ALSA configuration and the private sound server. */
  readonly env: Readonly<Record<string, string>>;
  devices(station: string): VirtualCard;
  /** The microphone vanishes: whoever reads it gets an error, whoever opens it finds no such card. */
  unplugMicrophone(station: string): Promise<void>;
  /** Puts an unplugged microphone back, or lets a hung one go on. */
  replugMicrophone(station: string): Promise<void>;
  /** The microphone stays, but gives nothing more: no data, no error. */
  hangMicrophone(station: string): Promise<void>;
  unplugSpeaker(station: string): Promise<void>;
  replugSpeaker(station: string): Promise<void>;
  hangSpeaker(station: string): Promise<void>;
  /** The microphone hears the speaker, as through the air, so many dB louder (below 0: less loud); until it is parted. */
  joinSpeaker(station: string, gainDb: number): Promise<void>;
  partSpeaker(station: string): Promise<void>;
  /** Ends the server; leaves nothing running, nothing in its folder. */
  stop(): Promise<void>;
}

/** A Unix socket's path fits into sockaddr_un (unix(7)), its closing zero included. */
const SOCKET_PATH_BYTES = 108;
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 500;
/** A monitor that is served in steps of at most this much, this many times in a row, has left the idle pace of 2 s. */
const CADENCE_MS = 30;
const CADENCE_STEPS = 25;

/**
 * Starts a PulseAudio daemon of our own with two null sinks a station, and writes the ALSA configuration that names them
 * as cards (plugin `pulse` of alsa-plugins). Everything lives in `dir`; several may run at once in different folders.
 * The processes end with the caller, also when that is killed.
 * @param options.signal gives the start up
 * @throws AppError `lab-sound-unavailable`
 */
export async function startVirtualSound(options: {
  dir: string;
  stations: string[];
  signal?: AbortSignal | undefined;
}): Promise<VirtualSound> {
  const { dir, stations } = options;
  await mkdir(join(dir, 'run'), { recursive: true, mode: 0o700 });
  const fits = Buffer.byteLength(join(dir, 'control')) < SOCKET_PATH_BYTES;
  const socketDir = fits ? dir : await mkdtemp(join(tmpdir(), 'entryphone-sound-'));
  const serverPath = join(socketDir, 'server');
  const controlPath = join(socketDir, 'control');
  const env = {
    ALSA_CONFIG_PATH: join(dir, 'asound.conf'),
    PULSE_SERVER: `unix:${serverPath}`,
    PULSE_COOKIE: join(dir, 'cookie'),
    PULSE_RUNTIME_PATH: join(dir, 'run'),
    PULSE_STATE_PATH: join(dir, 'run'),
  };
  await Promise.all([serverPath, controlPath].map((path) => rm(path, { force: true })));
  await writeFile(join(dir, 'server.pa'), serverScript(stations, serverPath, controlPath));
  await writeFile(join(dir, 'daemon.conf'), daemonConfiguration());
  await writeFile(env.ALSA_CONFIG_PATH, alsaConfiguration(stations));

  const children: ChildProcess[] = [];
  const start = (command: string[], stdout: 'ignore' | 'pipe') => {
    const child = startTied(command, env, stdout);
    children.push(child);
    return child;
  };
  let pulse: PulseControl;
  const stop = async () => {
    await Promise.all(children.map(end));
    await rm(dir, { recursive: true, force: true });
    await rm(socketDir, { recursive: true, force: true });
  };

  const interrupted = () => void stop();
  options.signal?.addEventListener('abort', interrupted);
  try {
    options.signal?.throwIfAborted();
    const server = start(['env', `PULSE_CONFIG=${join(dir, 'daemon.conf')}`, ...serverCommand(dir)], 'ignore');
    pulse = await PulseControl.connect(controlPath, server, START_TIMEOUT_MS);
    putInRealTime(CARD_PRIORITY, server.pid);
    const monitors = stations.flatMap((station) => [`${station}-feed.monitor`, `${station}-loop.monitor`]);
    // An idle null sink renders in blocks of 2 s. A reader that wants little latency keeps it at short ones for good.
    for (const monitor of monitors) start(readerCommand(monitor), 'ignore');
    await Promise.all(monitors.map((monitor) => shortBlocks(start(readerCommand(monitor), 'pipe'))));
  } catch (error) {
    await stop();
    throw new AppError('lab-sound-unavailable', 'The virtual sound card does not start', {
      remedy: 'It needs pulseaudio, pulseaudio-utils, libasound2-plugins and util-linux (make setup)',
      cause: error,
    });
  } finally {
    options.signal?.removeEventListener('abort', interrupted);
  }

  return {
    env,
    devices: (station) => ({
      microphone: `${station}-microphone`,
      speaker: `${station}-speaker`,
      feed: `${station}-feed`,
      loop: `${station}-loop`,
    }),
    unplugMicrophone: (station) => pulse.remove('source', `${station}-microphone`),
    replugMicrophone: (station) => pulse.restore('source', `${station}-microphone`, microphoneModule(station)),
    hangMicrophone: (station) => pulse.suspend('source', `${station}-microphone`),
    unplugSpeaker: (station) => pulse.remove('sink', `${station}-speaker`),
    replugSpeaker: (station) => pulse.restore('sink', `${station}-speaker`, speakerModule(station)),
    hangSpeaker: (station) => pulse.suspend('sink', `${station}-speaker`),
    joinSpeaker: (station, gainDb) => pulse.join(`${station}-loop`, `${station}-feed`, gainDb),
    partSpeaker: (station) => pulse.part(`${station}-loop`),
    stop,
  };
}

/** The cards' plugs are modules of their own on top of the null sinks, so that these go on while a plug is pulled. */
const microphoneModule = (station: string) =>
  `module-remap-source source_name=${station}-microphone master=${station}-feed.monitor channels=1 master_channel_map=mono channel_map=mono remix=no`;
const speakerModule = (station: string) =>
  `module-remap-sink sink_name=${station}-speaker master=${station}-loop channels=1 master_channel_map=mono channel_map=mono remix=no`;

function serverScript(stations: string[], serverPath: string, controlPath: string): string {
  const nullSink = (name: string) => `module-null-sink sink_name=${name} rate=48000 channels=1 channel_map=mono`;
  return [
    ...stations.flatMap((station) => [
      nullSink(`${station}-feed`),
      nullSink(`${station}-loop`),
      microphoneModule(station),
      speakerModule(station),
    ]),
    `module-native-protocol-unix socket=${serverPath} auth-anonymous=1`,
    // Last, since who can connect to it finds everything else in place.
    `module-cli-protocol-unix socket=${controlPath}`,
  ]
    .map((module) => `load-module ${module}\n`)
    .join('');
}

function alsaConfiguration(stations: string[]): string {
  const card = (name: string, device: string) => `pcm.${name} { type pulse device "${device}" }\n`;
  return `</usr/share/alsa/alsa.conf>\n${stations
    .flatMap((station) => [
      card(`${station}-microphone`, `${station}-microphone`),
      card(`${station}-speaker`, `${station}-speaker`),
      card(`${station}-feed`, `${station}-feed`),
      card(`${station}-loop`, `${station}-loop.monitor`),
    ])
    .join('')}`;
}

/**
 * Each sink has a thread of its own, at priority 5 by default: below the media processes, so that two of them which start, and are
 * busy for a second, would stop every card.
 */
function daemonConfiguration(): string {
  return `realtime-priority = ${CARD_PRIORITY}\n`;
}

function serverCommand(dir: string): string[] {
  // A card's own clock is not late for want of a processor; where the daemon may not have real time, it does without.
  const flags = '--daemonize=no --exit-idle-time=-1 --use-pid-file=no --realtime=yes --high-priority=yes';
  return [
    'pulseaudio',
    '-n',
    '-F',
    join(dir, 'server.pa'),
    ...flags.split(' '),
    `--log-target=file:${join(dir, 'log')}`,
  ];
}

function readerCommand(monitor: string): string[] {
  return ['parec', '-d', monitor, '--latency-msec=10', '--rate=48000', '--channels=1'];
}

/** A child that the kernel kills when this process is gone, however that came about. */
function startTied(command: string[], env: Record<string, string>, stdout: 'ignore' | 'pipe'): ChildProcess {
  // Without the session's variables, a user's own sound server and D-Bus stay out of it.
  const { PATH } = process.env;
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...inRealTime(CARD_PRIORITY, command)], {
    stdio: ['ignore', stdout, 'ignore'],
    detached: true, // a terminal's Ctrl-C is for the caller alone
    env: { PATH, LC_ALL: 'C', HOME: env.PULSE_RUNTIME_PATH, ...env },
  });
  child.on('error', () => {});
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  child.kill('SIGTERM');
  await exited;
  clearTimeout(timer);
}

/** Reads a monitor until it comes in short blocks, then ends the reader. */
async function shortBlocks(reader: ChildProcess): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('a null sink stays at its idle pace')), START_TIMEOUT_MS);
    let lastMs = Number.NEGATIVE_INFINITY;
    let steps = 0;
    reader.stdout?.on('data', () => {
      const nowMs = performance.now();
      steps = nowMs - lastMs <= CADENCE_MS ? steps + 1 : 0;
      lastMs = nowMs;
      if (steps < CADENCE_STEPS) return;
      clearTimeout(timer);
      resolve();
    });
    reader.once('exit', () => reject(new Error('parec ended')));
    reader.once('error', reject);
  });
  await end(reader);
}
