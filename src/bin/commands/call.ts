import { Argument, type Command, Option } from 'commander';
import { AppError } from '../../core/errors.js';
import { connectStation } from '../../lab/site.js';
import { note, printJson, runningStations } from './output.js';

interface StationOption {
  readonly station?: string;
  readonly json?: boolean;
}

export function addCallCommands(program: Command): void {
  const station = new Option('--station <id>', 'at which station (the indoor one, or the only one that runs)');
  program
    .command('call')
    .description("a station's calls, without its buttons")
    .addArgument(new Argument('<action>').choices(['place', 'answer', 'reject', 'hang-up', 'dtmf']))
    .argument('[target]', 'whom to call: a name, a number or an id of the directory; for dtmf the digits to send')
    .addOption(station)
    .option('--json', 'one JSON object')
    .action(async (action: string, target: string | undefined, options: StationOption) => {
      const client = await stationClient(options.station);
      try {
        if (action === 'place') {
          const { callId } = await client.call('call.place', { target: target ?? '' });
          show(options, { callId }, `calling ${target}: ${callId}`);
        } else if (action === 'dtmf') {
          const { callId } = await client.call('call.dtmf', { digits: target ?? '' });
          show(options, { callId }, `sending digits: ${callId}`);
        } else {
          const method = action === 'hang-up' ? 'call.hangUp' : action === 'reject' ? 'call.reject' : 'call.answer';
          const result = await client.call(method, {});
          show(options, result, `${action}: ${result.callId}`);
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
        show(options, result, result.opened ? 'the door is open' : `the door stays shut: ${result.reason}`);
        if (!result.opened) process.exitCode = 1;
      } finally {
        client.close();
      }
    });
}

function stationClient(id: string | undefined) {
  const stations = runningStations(id);
  const found = stations.length === 1 ? stations[0] : stations.find((one) => one.id === 'indoor');
  if (found !== undefined) return connectStation(found.runDir);
  throw new AppError('usage', 'several stations are running here', {
    remedy: `Say which: --station ${stations.map((one) => one.id).join(' or ')}`,
  });
}

function show(options: StationOption, result: object, text: string): void {
  if (options.json === true) printJson(result);
  else note(text);
}
