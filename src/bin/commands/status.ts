import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { AppError } from '../../core/errors.js';
import { connectStation } from '../../lab/site.js';
import type { StationStatus } from '../../protocol/station-api.js';
import { CLOSE_ROWS, PLAIN, printJson, runningStations } from './output.js';

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .description('what the running stations are doing')
    .option('--station <id>', 'only this one')
    .option('--json', 'one JSON object')
    .action(async (options: { station?: string; json?: boolean }) => {
      const stations = await Promise.all(runningStations(options.station).map(({ id, runDir }) => ask(id, runDir)));
      if (options.json === true) printJson({ ok: true, failed: [], stations });
      else for (const station of stations) process.stdout.write(`${tableOf(station)}\n`);
    });
}

async function ask(id: string, runDir: string): Promise<StationStatus> {
  const client = await connectStation(runDir).catch((cause: unknown) => {
    throw new AppError('not-running', `${id} does not answer`, {
      remedy: 'Is it just starting? Else: make run',
      cause,
    });
  });
  try {
    return await client.call('station.status', {});
  } finally {
    client.close();
  }
}

const good = (text: string) => styleText('green', text, { stream: process.stdout });
const bad = (text: string) => styleText('red', text, { stream: process.stdout });

function tableOf(status: StationStatus): string {
  const table = new Table({
    head: [`${status.name} (${status.station})`, status.role],
    colWidths: [20, 58],
    chars: CLOSE_ROWS,
    wordWrap: true,
    style: PLAIN,
  });
  const { broker, engine, door, calls } = status;
  table.push([
    'broker',
    broker.connected ? good(`connected, MQTT ${broker.protocol}`) : bad(broker.fault ?? 'not connected'),
  ]);
  for (const card of ['capture', 'playback'] as const) {
    const state = engine?.[card];
    table.push([
      card === 'capture' ? 'microphone' : 'speaker',
      state === undefined ? bad('the media process is not there') : cardText(state),
    ]);
  }
  for (const button of status.buttons) {
    table.push([`button ${button.name}`, button.working ? button.action : bad(button.fault ?? 'not working')]);
  }
  if (door.fitted) table.push(['door', `${door.open ? bad('OPEN') : 'shut'}, opened ${door.openings} times`]);
  if (status.flows !== null) table.push(['flows', flowsText(status.flows)]);
  for (const call of calls) table.push([`call ${call.direction}`, `${call.state}, ${call.peerName || call.peer}`]);
  if (calls.length === 0) table.push(['call', 'none']);
  for (const session of engine?.sessions ?? []) {
    const { sent, received, lost, late, concealed, jitterMs, playoutDelayMs, remote } = session;
    table.push(['packets', `sent ${sent}, received ${received}, lost ${lost}, late ${late}, concealed ${concealed}`]);
    table.push([
      'path',
      `to ${remote === null ? 'nobody yet' : `${remote.address}:${remote.port}`}, jitter ${jitterMs.toFixed(1)} ms, playout ${playoutDelayMs.toFixed(0)} ms`,
    ]);
  }
  const refused = Object.entries({ ...status.refused, ...door.refused });
  if (refused.length > 0) table.push(['refused', refused.map(([name, count]) => `${name} ${count}`).join(', ')]);
  return table.toString();
}

function flowsText({ state, fault, url, isSafeMode }: NonNullable<StationStatus['flows']>): string {
  const text = `${state}${isSafeMode ? ', safe mode' : ''}${url === null ? '' : `, editor at ${url}`}`;
  if (state === 'running') return good(text);
  return bad(`${text}${fault === null ? '' : `: ${fault.text}`}`);
}

function cardText(card: {
  device: string;
  state: string;
  levelDbfs: number | null;
  fault: { text: string } | null;
}): string {
  if (card.state === 'down') return bad(`${card.device}: ${card.fault?.text ?? 'down'}`);
  return `${card.device}, ${card.state}${card.levelDbfs === null ? '' : `, ${card.levelDbfs.toFixed(0)} dBFS`}`;
}
