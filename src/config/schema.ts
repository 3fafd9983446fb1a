import { join } from 'node:path';
import * as z from 'zod';
import { packageRoot } from '../core/package-root.js';

/**
 * One station's configuration, in YAML. Keys carry their units. Every key has a default but for who the station is, what
 * it is wired to and where its broker is; paths that are not absolute are meant from the file's own folder.
 */
export const id = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/, 'must be lower-case letters, digits and dashes, at most 64');
const line = z.int().min(0).max(511).describe('line of the GPIO chip, counted from 0');
export const portNumber = z.int().min(1).max(65_535);
const level = z.enum(['high', 'low']);
const device = z.string().min(1).max(200);
const mixerSetting = z
  .string()
  .regex(
    /^(?:\d{1,3}%|-?\d+(?:\.\d+)?dB|on|off|mute|unmute|cap|nocap)(?: (?:\d{1,3}%|on|off|mute|unmute|cap|nocap))*$/,
    'must be what amixer sset takes: 80%, -6dB, on, off, mute, unmute, cap or nocap, with spaces between',
  );

const timeOfDay = z.string().regex(/^(?:[01]\d|2[0-3]):[0-5]\d$/, 'must be a time of the day, HH:MM');

export const buttonAction = z.discriminatedUnion('do', [
  z.strictObject({ do: z.literal('call'), target: z.string().min(1).max(80) }),
  z.strictObject({ do: z.literal('answer-or-hang-up') }),
  z.strictObject({ do: z.literal('hang-up') }),
  z.strictObject({ do: z.literal('open-door') }),
]);
export type ButtonAction = z.infer<typeof buttonAction>;

export const boardSchema = z.strictObject({
  profile: z
    .string()
    .regex(/^[a-z0-9][a-z0-9-]{0,63}$/, 'must be lowercase letters, digits and -')
    .optional()
    .describe(
      'the name of the board, by which releases say which boards they are for; that of the file, unless told otherwise',
    ),
  description: z.string().max(200).optional(),
  gpio: z.strictObject({
    chip: z.string().min(1).max(64).describe('label of the GPIO chip, as /sys/class/gpio/gpiochip*/label shows it'),
    buttons: z
      .record(id, z.strictObject({ line, pressed: level, debounceMs: z.int().min(0).max(1000).default(20) }))
      .default({}),
    relay: z
      .strictObject({
        line,
        wiring: z
          .enum(['fail-secure', 'fail-safe'])
          .describe('fail-secure: current opens the lock; fail-safe: current holds it shut'),
        safe: level.describe('level at the pin that keeps the door shut'),
      })
      .optional(),
    contact: z
      .strictObject({ line, closed: level.describe('level at the pin while the contact is closed') })
      .optional()
      .describe('a contact that moves with the relay: of its own, or of the lock; the self-test watches it'),
    leds: z
      .record(id, z.strictObject({ line, lit: level }))
      .default({})
      .describe('microphone and call are lit by the station; flows may light all but microphone'),
  }),
  sound: z
    .strictObject({
      card: z
        .string()
        .regex(/^[A-Za-z0-9_]{1,15}$/, 'must be letters, digits and _, at most 15')
        .describe("ALSA's id of the card, as /proc/asound/cards shows it in brackets"),
      capture: device.describe('ALSA device of the microphone'),
      playback: device.describe('ALSA device of the speaker'),
      mixer: z
        .record(z.string().min(1).max(44), mixerSetting)
        .default({})
        .describe("the card's controls, as amixer scontrols names them, and what each is set to"),
    })
    .optional()
    .describe('the sound card that belongs to the board'),
});
export type Board = z.infer<typeof boardSchema>;

const microphoneDriver = z.enum(['auto', 'native', 'alsa-capture']);
export type MicrophoneDriver = z.infer<typeof microphoneDriver>;

const opusEncoder = z.enum(['auto', 'native', 'discord', 'wasm']);
export type OpusEncoderChoice = z.infer<typeof opusEncoder>;
const opusDecoder = z.enum(['auto', 'native', 'wasm']);
export type OpusDecoderChoice = z.infer<typeof opusDecoder>;

export const rtpSchema = z.strictObject({
  address: z.union([z.ipv4(), z.ipv6()]).describe('own address, as the others reach it'),
  ports: z
    .strictObject({ from: portNumber, to: portNumber })
    .refine((range) => range.from <= range.to, { message: 'from must not be above to', path: ['from'] })
    .prefault({ from: 40_000, to: 40_199 }),
});

export const configSchema = z.strictObject({
  station: z.strictObject({
    id,
    name: z.string().min(1).max(80),
    site: id,
    role: z.enum(['station', 'site-host']).default('station'),
  }),
  board: z.string().min(1).describe('file of the board profile (device/*.yaml)'),
  audio: z.strictObject({
    capture: device.describe('ALSA device of the microphone'),
    playback: device.describe('ALSA device of the speaker'),
    profile: z
      .enum(['voice', 'fullband'])
      .default('voice')
      .describe('voice: 16 kHz; fullband: 48 kHz, without in-band FEC'),
    driver: microphoneDriver
      .default('auto')
      .describe("of the microphone. native: Entryphone's own; alsa-capture: the package; auto: the better of them"),
  }),
  opus: z
    .strictObject({
      bitrateBps: z
        .int()
        .min(6_000)
        .max(128_000)
        .default(24_000)
        .describe('at most; less where the line bears no more'),
      complexity: z.int().min(0).max(10).default(9).describe('at most; less where the machine is too slow'),
      inbandFec: z.boolean().default(true).describe('may be used, where loss asks for it'),
      expectedLossPct: z
        .int()
        .min(0)
        .max(100)
        .default(0)
        .describe('what a call begins with; reports know better within a second or two'),
      packetTimeMs: z
        .union([z.literal(10), z.literal(20), z.literal(40), z.literal(60)])
        .default(20)
        .describe('at least; more where the line is too narrow for the headers of short packets'),
      dtx: z
        .boolean()
        .default(true)
        .describe(
          'in silence a packet now and then, which says how the silence sounds; what is no silence is sent whole',
        ),
      encoder: opusEncoder
        .default('auto')
        .describe(
          "native: the distribution's libopus; discord: @discordjs/opus; wasm: libopus-wasm; auto: the best of them",
        ),
      decoder: opusDecoder.default('auto').describe('as for the encoder'),
    })
    .prefault({}),
  playout: z
    .strictObject({
      leastMs: z.int().min(0).max(500).default(0),
      mostMs: z.int().min(0).max(1000).default(300),
    })
    .refine(({ leastMs, mostMs }) => leastMs <= mostMs, 'leastMs must not be above mostMs')
    .prefault({})
    .describe('bounds of what packets wait for late ones; within them it follows what the network does'),
  rtp: rtpSchema.describe('RTP and RTCP share one port of this range in each session'),
  media: z
    .strictObject({
      path: z
        .enum(['auto', 'udp', 'mqtt'])
        .default('auto')
        .describe('auto: UDP, and MQTT while UDP does not go both ways'),
      codecs: z
        .array(z.enum(['opus', 'pcmu', 'pcma']))
        .min(1)
        .max(3)
        .refine((codecs) => new Set(codecs).size === codecs.length, 'must name each codec once')
        .default(['opus', 'pcmu', 'pcma'])
        .describe('what calls may be held with, the one that is wanted first'),
      encryption: z
        .enum(['required', 'preferred', 'off'])
        .default('required')
        .describe(
          'SRTP. required: no call without; preferred: plain RTP with who has none; off: plain RTP, with a warning',
        ),
      identity: z
        .strictObject({ cert: z.string().min(1), key: z.string().min(1) })
        .optional()
        .describe(
          "certificate of the media process's own MQTT connection, read by the station; without it there is none",
        ),
    })
    .prefault({})
    .describe('how speech travels'),
  buttons: z.record(id, buttonAction).default({}).describe('what a press of each button of the board does'),
  call: z
    .strictObject({
      ringTimeoutMs: z.int().min(1_000).max(600_000).default(30_000),
      talkTimeoutMs: z.int().min(10_000).max(86_400_000).default(600_000),
    })
    .prefault({}),
  door: z
    .strictObject({
      pulseMs: z.int().min(100).max(30_000).default(3_000),
      ttlMs: z.int().min(100).max(5_000).default(3_000).describe('how long an authorisation to open is good for'),
    })
    .prefault({}),
  flows: z
    .strictObject({
      enabled: z.boolean().default(true).describe('off: each press does at once what buttons says'),
      port: portNumber.default(1880).describe("of the editor and its Admin API, on this machine's loopback alone"),
      initial: z
        .enum(['door-station', 'indoor-station', 'help-point', 'edge-alert', 'quiet-hours', 'self-healing'])
        .default('door-station')
        .describe('the flows that a first start begins with (flows/*.json)'),
      goodAfterMs: z
        .int()
        .min(1_000)
        .max(86_400_000)
        .default(300_000)
        .describe('flows that ran for so long without a fault are kept as the last good ones'),
      allowInstall: z.boolean().default(false).describe('whether the editor may install further nodes from npm'),
      allowExec: z.boolean().default(false).describe('whether flows may run programs (the exec node)'),
    })
    .prefault({})
    .describe('Node-RED: what presses, calls and the door do, as its flows say'),
  taps: z
    .strictObject({
      flows: z
        .boolean()
        .default(false)
        .describe('whether flows may hear the microphone and the speaker, to listen or to record'),
    })
    .prefault({})
    .describe('who on this machine may hear sound itself; each opening is told to the broker'),
  inference: z
    .strictObject({
      enabled: z
        .boolean()
        .default(false)
        .describe('whether the inference process may hear the microphone, while flows ask it to'),
      models: z
        .string()
        .min(1)
        .default(join(packageRoot, 'models'))
        .describe("folder of models with their cards; Entryphone's own, unless told otherwise"),
    })
    .prefault({})
    .describe('what the station hears by itself: voices, sounds, keywords'),
  update: z
    .strictObject({
      slots: z
        .string()
        .min(1)
        .optional()
        .describe('folder of the two slots that the launcher starts from; without it releases are installed by hand'),
      root: z
        .string()
        .min(1)
        .optional()
        .describe('the first root metadata of who signs its releases; trust begins with it'),
      ca: z
        .string()
        .min(1)
        .optional()
        .describe("PEM of the authority of the web server that has releases; the system's where it is left out"),
      maxRateBps: z
        .int()
        .min(64_000)
        .max(1_000_000_000)
        .default(4_000_000)
        .describe('bits a second that releases may take of the line; nothing in a call'),
      quietHours: z
        .strictObject({ from: timeOfDay, to: timeOfDay })
        .optional()
        .describe('when jobs that are not urgent may begin, by the clock of this machine; at any hour without'),
      needsSelfTest: z
        .boolean()
        .default(true)
        .describe('whether a release must pass the self-test before it stays: its tone heard, its test call answered'),
    })
    .prefault({})
    .describe('how this station comes to other releases'),
  selftest: z
    .strictObject({
      relay: z
        .boolean()
        .default(false)
        .describe('whether it pulses the relay, where the board has a contact: the lock is open for that moment'),
      relayPulseMs: z.int().min(50).max(1_000).default(200),
      signalDbfs: z.number().min(-60).max(-6).default(-20).describe('level of the signal that the loudspeaker plays'),
      leastLevelDb: z
        .number()
        .min(-100)
        .max(20)
        .default(-50)
        .describe('what the microphone hears of it, against what was played; less is too quiet'),
      echo: z.string().min(1).max(80).default('echo').describe('whom the test call is placed to: siteHost.echo.number'),
      dailyAt: timeOfDay.optional().describe("once a day, by the machine's own clock; not in a call"),
      everyHours: z.int().min(1).max(168).optional().describe('or each so many hours'),
    })
    .refine(({ dailyAt, everyHours }) => dailyAt === undefined || everyHours === undefined, {
      message: 'dailyAt and everyHours exclude each other',
      path: ['everyHours'],
    })
    .prefault({})
    .describe('what the station tries of itself: sound, relay, broker, a call; by itself only where a time is set'),
  fleet: z
    .strictObject({
      commandKeys: z
        .array(z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 digits of lower-case hex'))
        .max(4)
        .default([])
        .describe('public keys of the fleet managers whose orders count (entryphone fleet key); none: no orders'),
    })
    .prefault({})
    .describe('who may have this station test itself, restart, and send its log, from afar'),
  mqtt: z.strictObject({
    url: z.url({ protocol: /^mqtts?$/ }).describe('mqtts://host:port of the site broker'),
    ca: z.string().min(1),
    cert: z.string().min(1),
    key: z.string().min(1),
  }),
  siteHost: z
    .strictObject({
      listen: z.strictObject({ address: z.union([z.ipv4(), z.ipv6()]), port: portNumber }),
      stations: z
        .record(
          id,
          z.strictObject({
            name: z.string().min(1).max(80),
            numbers: z.array(z.string().max(32)).default([]),
            mayCall: z.array(id).optional(),
          }),
        )
        .describe('the directory: who is in the site, and whom each may call (all, where it is left out)'),
      broker: z
        .enum(['own', 'foreign'])
        .default('own')
        .describe(
          'own: mosquitto, started here; foreign: another broker listens there, which knows the same certificates',
        ),
      cloud: z
        .strictObject({
          url: z.url({ protocol: /^mqtts$/ }).describe("mqtts://host:port of the cloud's broker"),
          ca: z.string().min(1),
          cert: z.string().min(1).describe("the site's own, of the cloud's authority"),
          key: z.string().min(1),
        })
        .optional()
        .describe('the way to other sites, by name: {station}@{site}, or a name that this site does not know'),
      echo: z
        .strictObject({
          enabled: z.boolean().default(true),
          number: z
            .string()
            .min(1)
            .max(32)
            .default('echo')
            .describe('what a station of this site calls to hear itself'),
        })
        .prefault({})
        .describe('the echo extension: who calls it hears what it says, for 20 s at most; the self-test calls it'),
    })
    .optional()
    .describe("for role site-host: the site's broker and its directory"),
  state: z.string().min(1).describe('folder for what must outlive a restart: outbox, keys, the broker'),
  run: z.string().min(1).describe('folder for the Unix sockets of the local API'),
});
export type Config = z.infer<typeof configSchema>;
