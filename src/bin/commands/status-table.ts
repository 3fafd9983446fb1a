import { styleText } from 'node:util';
import Table from 'cli-table3';
import { residentBytes } from '../../adapters/metrics/process-figures.js';
import type { SessionFigures } from '../../protocol/engine-api.js';
import type { StationStatus } from '../../protocol/station-api.js';
import { CLOSE_ROWS, PLAIN } from './output.js';

const good = (text: string) => styleText('green', text, { stream: process.stdout });
const bad = (text: string) => styleText('red', text, { stream: process.stdout });

const times = (count: number) => (count === 1 ? 'once' : `${count} times`);

const listed = (values: readonly number[]) => values.join(', ').replace(/, (?=\d+$)/, ' and ');

/** One station, for people. */
export function statusTable(status: StationStatus): string {
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
  if (engine !== null && engine.playback.state === 'up') {
    const { delayMs, xruns, starvedFrames } = engine.playback;
    table.push(['playback', `${delayMs.toFixed(0)} ms before it, xruns ${xruns}, starved frames ${starvedFrames}`]);
  }
  table.push(['processes', processesText(status)]);
  for (const button of status.buttons) {
    table.push([`button ${button.name}`, button.working ? button.action : bad(button.fault ?? 'not working')]);
  }
  if (door.fitted) table.push(['door', `${door.open ? bad('OPEN') : 'shut'}, opened ${times(door.openings)}`]);
  if (status.selfTest !== null) table.push(['self-test', selfTestText(status.selfTest)]);
  if (status.siteHost !== null) table.push(['site', siteText(status.siteHost)]);
  if (status.defaults !== null) table.push(['defaults', defaultsText(status.defaults)]);
  if (status.flows !== null) table.push(['flows', flowsText(status.flows)]);
  for (const call of calls) table.push([`call ${call.direction}`, `${call.state}, ${call.peerName || call.peer}`]);
  if (calls.length === 0) table.push(['call', 'none']);
  for (const session of engine?.sessions ?? []) {
    table.push(['packets', packetsText(session)], ['path', pathText(session)], ['quality', qualityText(session)]);
  }
  const refused = Object.entries({ ...status.refused, ...door.refused });
  if (refused.length > 0) table.push(['refused', refused.map(([name, count]) => `${name} ${count}`).join(', ')]);
  return table.toString();
}

function selfTestText({ verdict, failed, at }: NonNullable<StationStatus['selfTest']>): string {
  const time = new Date(at).toLocaleTimeString();
  return verdict === 'pass' ? good(`passed, ${time}`) : bad(`${verdict}, ${time}: ${failed.join(', ')}`);
}

function siteText({ broker, elsewhere, calls, routed }: NonNullable<StationStatus['siteHost']>): string {
  const runs = broker.running ? good('its broker runs') : bad(broker.fault ?? 'its broker does not run');
  const way = elsewhere ? good('other sites can be called') : bad("other sites can't be reached");
  return `${runs}, calls ${calls}, messages routed ${routed}${elsewhere === null ? '' : `\n${way}`}`;
}

function defaultsText({ version, isApplied, faults }: NonNullable<StationStatus['defaults']>): string {
  const release = `release ${version ?? 'unknown'}`;
  return isApplied ? good(release) : bad(`${release} is left out: ${faults.join('; ')}`);
}

function flowsText({ state, fault, url, isSafeMode }: NonNullable<StationStatus['flows']>): string {
  const text = `${state}${isSafeMode ? ', safe mode' : ''}${url === null ? '' : `, editor at ${url}`}`;
  if (state === 'running') return good(text);
  return bad(`${text}${fault === null ? '' : `: ${fault.text}`}`);
}

function processesText({ pid, engine, flows }: StationStatus): string {
  const process = (name: string, of: number, rssBytes: number | null, more = '') =>
    `${name} ${of}${rssBytes === null ? '' : `, ${(rssBytes / 2 ** 20).toFixed(0)} MiB`}${more}`;
  const all = [process('station', pid, residentBytes(pid))];
  if (engine !== null) all.push(process('media', engine.pid, engine.memoryRssBytes));
  if (flows !== null && flows.pid !== null) {
    const fell = flows.crashes + flows.hangs;
    all.push(process('flows', flows.pid, residentBytes(flows.pid), fell > 0 ? `, fell ${times(fell)}` : ''));
  }
  return all.join('\n');
}

function packetsText({ sent, received, lost, late, concealed, fecDecoded }: SessionFigures): string {
  const lostPct = received + lost === 0 ? 0 : (100 * lost) / (received + lost);
  const made = `concealed ${concealed}, by FEC ${fecDecoded}`;
  return `sent ${sent}, received ${received}, lost ${lost} (${lostPct.toFixed(1)} %), late ${late}, ${made}`;
}

function qualityText({ quality: { mos, concealedPct, lossRuns, redRecovered, ladder } }: SessionFigures): string {
  const score = (value: number | null) => (value === null ? '-' : value.toFixed(1));
  const scores = `MOS ${score(mos.listening)} here, ${score(mos.remoteListening)} there`;
  const runs = `loss runs ${lossRuns.runs} of ${lossRuns.meanPackets.toFixed(1)}`;
  const heard = `${scores}, concealed ${concealedPct.toFixed(1)} %, ${runs}, from copies ${redRecovered}`;
  const step = ladder.at(-1);
  if (step === undefined) return heard;
  const { bitrateBps, fecForPct, redDistances, reason } = step;
  const fec = fecForPct > 0 ? ', FEC' : '';
  const copies = redDistances.length > 0 ? `, copies ${listed(redDistances)} back` : '';
  return `${heard}\nsends ${(bitrateBps / 1000).toFixed(0)} kbit/s${fec}${copies} (${reason})`;
}

function pathText({ path, remote, srtp, jitterMs, roundTripMs, playoutDelayMs }: SessionFigures): string {
  const peer = remote === null ? 'nobody yet' : `${remote.address}:${remote.port}`;
  const way = path === 'mqtt' ? 'inside MQTT' : `UDP to ${peer}`;
  const roundTrip = roundTripMs === null ? '' : `, round trip ${roundTripMs.toFixed(0)} ms`;
  const secrecy = srtp === null ? ', not encrypted' : ', SRTP';
  return `${way}${secrecy}, jitter ${jitterMs.toFixed(1)} ms${roundTrip}, playout ${playoutDelayMs.toFixed(0)} ms`;
}

function cardText(card: {
  device: string;
  state: string;
  levelDbfs: number | null;
  fault: { text: string } | null;
}): string {
  if (card.state === 'down') return bad(`${card.device}: ${card.fault?.text ?? 'down'}`);
  return `${card.device}, ${card.state}${card.levelDbfs === null ? '' : `, ${levelText(card.levelDbfs)}`}`;
}

const METER_CELLS = 12;
const METER_DB_PER_CELL = 5;

/** A meter from -60 dBFS to 0, and the figure. */
function levelText(dbfs: number): string {
  const lit = Math.max(0, Math.min(METER_CELLS, METER_CELLS + Math.round(dbfs / METER_DB_PER_CELL)));
  return `${'▮'.repeat(lit)}${'▯'.repeat(METER_CELLS - lit)} ${dbfs.toFixed(0)} dBFS`;
}
