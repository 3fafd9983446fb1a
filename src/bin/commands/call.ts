import { Argument, type Command, Option } from 'commander';
import { AppError } from '../../core/errors.js';
import { connectStation } from '../../lab/site.js';
import { note, printJson, runningStation } from './output.js';

interface StationOption {
  readonly station?: string;
  readonly json?: boolean;
}

const DIGITS = /^[0-9*#A-D]{1,32}$/;

const CALL_EXAMPLES = `
Beside make run:
  entryphone call place "Front door"         from the indoor station
  entryphone call answer --station door
  entryphone call dtmf '12#'
  entryphone call hang-up`;

export function addCallCommands(program: Command): void {
  const station = new Option('--station <id>', 'at which station (the indoor one, or the only one that runs)');
  program
    .command('call')
    .description("a station's calls, without its buttons")
    .addArgument(new Argument('<action>').choices(['place', 'answer', 'reject', 'hang-up', 'dtmf']))
    .argument('[target]', 'whom to call: a name, a number or an id of the directory; for dtmf the digits to send')
    .addOption(station)
    .option('--json', 'one JSON object')
    .addHelpText('after', CALL_EXAMPLES)
    .action(async (action: string, target: string | undefined, options: StationOption) => {
      const wanted = wantedBy(action, target);
      const client = await stationClient(options.station);
      try {
        if (action === 'place') {
          const { callId } = await client.call('call.place', { target: wanted });
          done(options, { callId }, `calling ${wanted}: ${callId}; see: entryphone status`);
        } else if (action === 'dtmf') {
          const { callId } = await client.call('call.dtmf', { digits: wanted });
          done(options, { callId }, `sending digits: ${callId}`);
        } else {
          const method = action === 'hang-up' ? 'call.hangUp' : action === 'reject' ? 'call.reject' : 'call.answer';
          const result = await client.call(method, {});
          done(options, result, `${action}: ${result.callId}`);
        }
      } finally {
        client.close();
      }
    });
  program
    .command('open-door')
    .description("in a call, open the peer's door; without one, the station's own")
    .addOption(station)
    .option('--json', 'one JSON object')
    .action(async (options: StationOption) => {
      const client = await stationClient(options.station);
      try {
        const result = await client.call('door.open', {});
        if (!result.opened) throw new AppError('door-shut', `the door stays shut: ${result.reason}`);
        done(options, result, 'the door is open');
      } finally {
        client.close();
      }
    });
}

function stationClient(id: string | undefined) {
  return connectStation(runningStation(id).runDir);
}

/** What `place` and `dtmf` can't do without. @throws AppError `usage` */
function wantedBy(action: string, target: string | undefined): string {
  const isNeeded = action === 'place' || action === 'dtmf';
  if (!isNeeded && target !== undefined) throw new AppError('usage', `call ${action} takes nothing more`);
  if (!isNeeded) return '';
  if (action === 'dtmf' && !DIGITS.test(target ?? '')) {
    throw new AppError('usage', 'call dtmf needs 1 to 32 digits of 0 to 9, *, # and A to D', {
      remedy: "Such as: entryphone call dtmf '12#'",
    });
  }
  if (target === undefined || target === '') {
    throw new AppError('usage', 'call place needs whom to call', { remedy: 'Such as: entryphone call place Kitchen' });
  }
  return target;
}

function done(options: StationOption, result: object, text: string): void {
  if (options.json === true) printJson({ ok: true, failed: [], ...result });
  else note(text);
}
