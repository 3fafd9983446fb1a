import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { styleText } from 'node:util';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { AppError, errorText } from '../../core/errors.js';
import { runAttacksScenario } from '../../lab/attacks-scenario.js';
import { runCallScenario } from '../../lab/call-scenario.js';
import { runDoorScenario } from '../../lab/door-scenario.js';
import { runDriftScenario } from '../../lab/drift-scenario.js';
import { DAYS } from '../../lab/edge-day.js';
import { runEdgeScenario } from '../../lab/edge-scenario.js';
import { runFlowsScenario } from '../../lab/flows-scenario.js';
import { runHealScenario } from '../../lab/heal-scenario.js';
import type { Line } from '../../lab/impaired-network.js';
import { runKillScenario } from '../../lab/kill-scenario.js';
import { BROKERS, type BrokerName } from '../../lab/lab-broker.js';
import { detachMounts, withOwnMounts } from '../../lab/own-mounts.js';
import { inOwnNetwork } from '../../lab/own-network.js';
import { runPathScenario } from '../../lab/path-scenario.js';
import { runPowercutScenario } from '../../lab/powercut-scenario.js';
import { type Via, WAYS } from '../../lab/scenario.js';
import { runSelfTestScenario } from '../../lab/selftest-scenario.js';
import { runUnplugScenario } from '../../lab/unplug-scenario.js';
import { runUpdateScenario } from '../../lab/update-scenario.js';
import { again, whyNotAgain } from './again.js';
import { note, printJson } from './output.js';

/** What every scenario of the lab says. */
interface Outcome {
  readonly ok: boolean;
  readonly failed: readonly string[];
}

type Scenario = (context: { readonly dir: string; readonly log: (text: string) => void }) => Promise<Outcome>;

const JSON_OPTION = 'the JSON object on one line';

/** Every scenario ends within this, whatever hangs. */
const LIMIT_MS = 175_000;

export function addLabCommands(program: Command): void {
  const lab = program
    .command('lab')
    .description('scenarios on real parts, measured: one JSON object with ok and failed');
  lab
    .command('call')
    .description('press, ring, answer, ten seconds of speech each way, door, hang up')
    .option('--wan-down', 'nothing outside the site is reachable')
    .option('--flows', 'presses are taken by Node-RED')
    .addOption(
      new Option('--via <way>', 'how speech travels: straight by UDP, inside MQTT, or by a gateway between two sites')
        .choices(WAYS)
        .default('direct'),
    )
    .option(
      '--loss <pct>',
      'how many packets the network between the stations loses, each way, in percent (0 to 100)',
      percent,
    )
    .option(
      '--burst <packets>',
      'how many it loses one after another, on average (1 to 100; each on its own if not said)',
      atLeastOne,
    )
    .option('--jitter <ms>', 'by how much it delays some packets more than others (0 to 1000)', milliseconds)
    .option('--json', JSON_OPTION)
    .addHelpText('after', CALL_KEYS)
    .action((options: CallOptions) => {
      const line = lineOf(options);
      return (options.wanDown === true || line !== undefined) && process.env[INSIDE] === undefined
        ? againWithoutOutside()
        : runScenario(options, (context) =>
            runCallScenario({ ...context, flows: options.flows === true, via: options.via, line }),
          );
    });
  lab
    .command('flows')
    .description("the door station's flows loop, reject, are damaged, can't be loaded: in mid-call, and before a press")
    .option('--json', JSON_OPTION)
    .addHelpText('after', FLOWS_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runFlowsScenario));
  lab
    .command('kill')
    .description('media, station and flows of both stations, and the broker, each ended by SIGKILL in mid-call')
    .option('--json', JSON_OPTION)
    .addHelpText('after', KILL_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runKillScenario));
  lab
    .command('unplug')
    .description("the door station's microphone and speaker are unplugged, and hang, in mid-call, and come back")
    .option('--json', JSON_OPTION)
    .addHelpText('after', UNPLUG_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runUnplugScenario));
  lab
    .command('selftest')
    .description(
      'a station tests itself: all is well; then speaker, microphone, relay and broker fail, one after the other',
    )
    .option('--json', JSON_OPTION)
    .addHelpText('after', SELFTEST_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runSelfTestScenario));
  lab
    .command('path')
    .description('UDP is cut in mid-call, and restored: the call moves to MQTT and back')
    .option('--json', JSON_OPTION)
    .addHelpText('after', PATH_KEYS)
    .action((options: { json?: boolean }) =>
      process.env[INSIDE] === undefined ? againWithoutOutside() : runScenario(options, runPathScenario),
    );
  lab
    .command('heal')
    .description('the network of a call is spoilt; flows/self-healing.json at the door mends the call, and goes back')
    .option('--json', JSON_OPTION)
    .addHelpText('after', HEAL_KEYS)
    .action((options: { json?: boolean }) =>
      process.env[INSIDE] === undefined ? againWithoutOutside() : runScenario(options, runHealScenario),
    );
  lab
    .command('drift')
    .description('a day of a call in simulated time, between clocks 200 ppm apart: the delay ends as it began')
    .option('--json', JSON_OPTION)
    .addHelpText('after', DRIFT_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runDriftScenario));
  lab
    .command('door')
    .description('the station is killed, and hung, with the door open; openings are replayed')
    .option('--json', JSON_OPTION)
    .addHelpText('after', DOOR_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runDoorScenario));
  lab
    .command('edge')
    .description('a day at the door: what the station hears by itself becomes an alert, all else is dropped')
    .option(
      '--day <number>',
      `which day's sounds are played (0 to ${DAYS - 1}); no model was trained on any`,
      dayNumber,
      0,
    )
    .option('--json', JSON_OPTION)
    .addHelpText('after', EDGE_KEYS)
    .action((options: { json?: boolean; day: number }) =>
      runScenario(options, (context) => runEdgeScenario({ ...context, day: options.day })),
    );
  lab
    .command('update')
    .description('a station is updated by a fleet manager over MQTT: well, badly, and by a changed line')
    .addOption(
      new Option('--broker <name>', "the site's: NATS and RabbitMQ as Debian has them")
        .choices(BROKERS)
        .default('mosquitto'),
    )
    .option('--json', JSON_OPTION)
    .addHelpText('after', UPDATE_KEYS)
    .action(({ broker, ...options }: { broker: BrokerName; json?: boolean }) =>
      runScenario(options, (context) => runUpdateScenario(context, broker)),
    );
  lab
    .command('attacks')
    .description('updates that are forged, old, mixed, endless or by the wrong key: each is refused')
    .option('--json', JSON_OPTION)
    .addHelpText('after', ATTACKS_KEYS)
    .action((options: { json?: boolean }) => runScenario(options, runAttacksScenario));
  lab
    .command('powercut')
    .description(
      'the power goes before, in and after each step of an update: a good release is started, and says what happened',
    )
    .option('--json', JSON_OPTION)
    .addHelpText('after', POWERCUT_KEYS)
    .action(powercut);
}

interface CallOptions {
  readonly wanDown?: boolean;
  readonly flows?: boolean;
  readonly json?: boolean;
  readonly via: Via;
  readonly loss?: number;
  readonly burst?: number;
  readonly jitter?: number;
}

/** @throws AppError `usage` for what leaves the way between the stations, where the poor network is */
function lineOf({ loss, burst, jitter, via }: CallOptions): Line | undefined {
  if (loss === undefined && burst === undefined && jitter === undefined) return undefined;
  if (via !== 'direct') {
    throw new AppError('usage', `--loss, --burst and --jitter go with --via direct, not ${via}`, {
      remedy: 'The poor network stands between the stations themselves',
    });
  }
  return {
    lossPct: loss ?? 0,
    jitterMs: jitter ?? 0,
    ...(burst === undefined ? {} : { meanBurstPackets: burst }),
  };
}

function numberFrom(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least && value <= most)) {
      throw new InvalidArgumentError(`It is a number from ${least} to ${most}.`);
    }
    return value;
  };
}
const percent = numberFrom(0, 100);
const atLeastOne = numberFrom(1, 100);
const milliseconds = numberFrom(0, 1_000);
const dayNumber = (text: string): number => Math.floor(numberFrom(0, DAYS - 1)(text));

const CALL_KEYS = `
Exits with 0 only if ok is true; failed says why it is not.
  setupMs       from the press at the door until its speech was heard indoors,
                less the time that the answer there took
  doorToIndoor, indoorToDoor
                what was heard beside what was said: similarity from 0 to 1 (at
                least 0.9), controls (the same of what is not the speech; at most
                0.5), mouthToEarMs
  rtp           packets of both stations
  doorPulseMs   how long the door was open
  engine        the real parts that ran, and what speech was encrypted with (srtp)
  concealedPct  share of the time that the two speakers played which had to be made up
  ladder        of each station: what it sent, from when on (atMs), and why
  mos           of each station: mean opinion scores of what it heard (ITU-T G.107.1)
  network       packets that came between the stations, and were lost there
With --loss, --burst or --jitter twenty seconds are spoken, and each direction must
be similar by 0.8 at least, not by 0.9.`;

const FLOWS_KEYS = `
loop, reject, corrupt and unloadable each have
  callSilenceMs  the longest silence of a held tone, from the door's microphone to
                 the indoor speaker (at most 40)
  pressRang      whether a press at the door rang indoors meanwhile
  flowsBackMs    from the fault until flows ran again
controlSilenceMs is the same silence with nothing broken: this machine's own.`;

const EDGE_KEYS = `
  alerts        of each kind of sound: how often it was played, and told of
                (at least 60 % of all)
  falseAlerts   alerts about nothing that was played: must be 0
  missed        sounds that nobody was told of
  played, told  each sound, and each alert, with its second of the day
  latencyMs     from a sound's start in the microphone until its alert, with a clip,
                was at a subscriber of the site's broker: p50, p95 (at most 1500),
                worst
  alertBytes    all of the alerts' MQTT payload, clips included
  streamedBytes what it would have taken to stream the microphone: RTP, UDP and IP, as
                the station is configured, and without DTX
  savedPct      how much less alertBytes is than the former (at least 60);
                savedPctWithoutDtx than the latter
  edge          the station's own counters: frames and bytes captured, inferred, sent
  inference     its share of one core (at most 10), memory (at most 120 MB), how often
                the model was asked and spared`;

const ATTACKS_KEYS = `
attacks has each by its name, with
  refused  whether it was, by the check that is there for it
  reason   why, in words`;

const POWERCUT_KEYS = `
cases      disks that a cut left, each another one, started by the real launcher and gone on from to the end of the job
bricked    of them: no whole release was started, or floor, outcome or report were not the right ones: must be 0
steps      how many of the cases were cut in each step
releases   the same by how the new release behaves: good, mute (it proves nothing), crashing
calls      of the file system, the launcher's among them, each of which was in its turn the
           first that was not carried out
launches   how often the real launcher ran: once for all disks that it can't tell apart
mechanism  what is lost by a cut, and how
sample     a real station that a fleet manager updates, whose power goes in seven of the steps:
           cases, and how often somebody answered the bell afterwards (answered: each time);
           each: the release, the step that was written down when the power went, the one
           that the disk knew of when it came back, the answer, and the release that gave it;
           reports: what the manager heard; mechanism: as root on an ext4 that is cut off`;

const UPDATE_KEYS = `
Releases of this checkout, without Node-RED, signed by keys of the lab; by TLS over the broker that is named.
good, bad and line each have
  state, reason  of the job, as the station told it; steps: how it came there
  runs           which release the station runs afterwards; rev is of what it is to have
                 then, which it reports to have: after bad that is good again
  bytes          moved over MQTT: metadata, manifest, chunks; size is the whole release,
                 as it is sent; deltaPct is bytes of size (at most 5 for line)
  serviceGapMs   from the end of the station's process until a press at the door rang
                 indoors again; pressed again and again (at most 10000)
good brings what the release before lacks: a package and a model. bad has a loudspeaker
that is silent, which the self-test hears: rolledBackMs is from its first start until the
release before ran again. line is good with a line changed.`;

const DOOR_KEYS = `
killed and hung each have
  openMs          how long the door was open; openMs outside is the longer one
openedByReplay    how often the door opened for a message of old: must be 0
replayed          what was sent to open it, by kind
refused           what of it the door refused, by why`;

const KILL_KEYS = `
media, station and flows are the door station's; indoorMedia, indoorStation and
indoorFlows the other's; mosquitto is the broker. Each has
  callEnded  whether the call was over, at either end, once the process was back
  silenceMs  the longest silence of a tone that is held both ways, at the speaker
             (at most 1000 for the media processes, 40 for all others)
  backMs     from SIGKILL until the process was ready and both stations were on
             the broker
controlSilenceMs is the same silence with nothing killed: this machine's own.`;

const UNPLUG_KEYS = `
mic and speaker are unplugged for three seconds; hung is the microphone, and
hungSpeaker the speaker, that stays but does nothing until the station has said
so. Each has
  silenceMs        from the card's return until the far end, or the speaker, had
                   sound again without a gap (at most 2000)
  detectedAfterMs  until the station said that the card was down
  outageMs         the whole silence
  callEnded        whether the call was over, at either end
controlSilenceMs is the longest silence with nothing unplugged: this machine's own.`;

const SELFTEST_KEYS = `
sound     a self-test with nothing wrong: every check with its figures; all must pass
host      the same of the station that hosts the site, whose microphone is not joined
          to its loudspeaker: sound must fail, the call to its own echo pass
faults    speakerWire, speakerCard, microphoneWire, microphoneCard, microphoneHung,
          relayStuck, brokerDead, each with
  failed    what the self-test said, and why; must be
  expected  no more and no less than this
mended    a self-test when all was mended; all must pass`;

const PATH_KEYS = `
migrations has two entries, to MQTT and back, each with
  from, to   the paths
  silenceMs  the longest silence of a tone that is held both ways, at the speaker,
             from the change of the network on (at most 2000)
  movedMs    from the change until what both ends sent took the other path
callEnded and ssrcKept say whether it was the same call, of the same sources;
testCall is that of a self-test while UDP is cut; it passes, inside MQTT;
controlSilenceMs is the same silence with nothing cut: this machine's own.`;

const HEAL_KEYS = `
Packets are lost by 20 % in runs of 4, which copies of them don't make good.
  actions      what the flow did, and when, since the network was spoilt: a limit of
               the bit rate, another path, a restart; a step each 5 s at most
  recoveredMs  from the first of them until the call was good again (a MOS of 4 or
               more for 3 s) with the network as bad as ever (at most 20000)
  mos          the worse of both directions: before; spoilt, at its worst before the
               flow acted; after, healed; unhealed, after 20 s without the flow
  idleActions  what the flow did while nothing was wrong: must be 0
  backMs       from the network's recovery until the flow went back: half a minute`;

const DRIFT_KEYS = `
quickSpeaker and slowSpeaker are two days, the speaker's clock 200 ppm quicker
than the microphone's and 200 ppm slower; what stands outside is of the one
whose delay changed more.
  delayStartMs  how long packets waited for the speaker: mean of the first minute
                once settled
  delayEndMs    the same, of the last minute; at most 5 ms from it
  heapEndMb     what is held at the end of the day; at most 1 MiB above
                heapStartMb, after a tenth of it`;

/** Set in a process that has been started in a network namespace of its own. */
const INSIDE = 'ENTRYPHONE_LAB_NO_OUTSIDE';
const OWN_MOUNTS = 'ENTRYPHONE_LAB_OWN_MOUNTS';

/** Runs this very command in a network namespace whose only interface is its own loopback. */
async function againWithoutOutside(): Promise<void> {
  const why = whyNotAgain(inOwnNetwork);
  if (why === null) return again(inOwnNetwork, INSIDE);
  throw new AppError('no-namespace', `no network of its own: ${why}`, {
    remedy: 'As another user than root it needs user namespaces; in a container, the right to make them',
  });
}

/** Runs it where it can mount a disk whose power it can cut; where it may not, without that. */
async function powercut(options: { json?: boolean }): Promise<void> {
  const isAlone = process.env[OWN_MOUNTS] !== undefined;
  if (!isAlone && process.getuid?.() === 0 && whyNotAgain(withOwnMounts) === null) {
    return again(withOwnMounts, OWN_MOUNTS);
  }
  return runScenario(options, (context) => runPowercutScenario(context, isAlone));
}

async function runScenario(options: { json?: boolean }, scenario: Scenario): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-lab-'));
  let limit: NodeJS.Timeout | undefined;
  const outcome = await Promise.race([
    scenario({ dir, log: (text) => note(`lab: ${text}`) }),
    new Promise<Outcome>((done) => {
      const giveUp = (why: string) => done({ ok: false, failed: [why] });
      limit = setTimeout(() => giveUp(`not done within ${LIMIT_MS / 1000} s`), LIMIT_MS);
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => giveUp(`ended by ${signal}`));
    }),
  ]).catch((error: unknown): Outcome => ({ ok: false, failed: [errorText(error)] }));
  clearTimeout(limit);
  detachMounts(dir);
  rmSync(dir, { recursive: true, force: true });
  if (options.json === true) printJson(outcome);
  else process.stdout.write(`${JSON.stringify(outcome, null, 2)}\n`);
  if (!outcome.ok) note(styleText('red', `failed: ${outcome.failed.join('; ')}`, { stream: process.stderr }));
  process.exit(outcome.ok ? 0 : 1);
}
