import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { type RelayBoard, relaySafe } from '../adapters/gpio/relay-safe.js';
import { AppError, errorText } from '../core/errors.js';

/**
 * `relay-safe.js --config FILE`: shuts the door, whatever state the station, its configuration or its line is in. It reads
 * the configuration's `board` and of that profile the chip and the relay, and nothing else: a fault elsewhere must not keep a
 * door open. One line on stderr; exit 0, or 1 when the door may not be shut.
 */
const profileRemedy = { remedy: 'Correct gpio.chip and gpio.relay {line, safe: high | low} of the board profile' };

/** What stands at `path` of a YAML file, as far as that is legible: a scalar, a node of yaml's, or undefined. */
function valueAt(file: string, path: readonly string[]): unknown {
  return parseDocument(readFileSync(file, 'utf8'), { logLevel: 'silent' }).getIn(path);
}

function readRelayBoard(config: string): RelayBoard {
  const profile = valueAt(config, ['board']);
  if (typeof profile !== 'string') throw new AppError('config-invalid', `${config} names no board`, profileRemedy);
  const file = resolve(dirname(config), profile);
  const chip = valueAt(file, ['gpio', 'chip']);
  if (typeof chip !== 'string') throw new AppError('config-invalid', `${file} names no GPIO chip`, profileRemedy);
  if (valueAt(file, ['gpio', 'relay']) === undefined) return { gpio: { chip } };
  const line = valueAt(file, ['gpio', 'relay', 'line']);
  const safe = valueAt(file, ['gpio', 'relay', 'safe']);
  if (typeof line !== 'number' || !Number.isSafeInteger(line) || line < 0 || (safe !== 'high' && safe !== 'low')) {
    throw new AppError('config-invalid', `${file}: gpio.relay names no line and safe level`, profileRemedy);
  }
  return { gpio: { chip, relay: { line, safe } } };
}

const [flag, config] = process.argv.slice(2);
try {
  if (flag !== '--config' || config === undefined) throw new AppError('usage', 'usage: relay-safe --config FILE');
  process.stderr.write(`relay-safe: ${await relaySafe(readRelayBoard(resolve(config)))}\n`);
} catch (error) {
  process.stderr.write(`relay-safe: ${errorText(error)}\n`);
  process.exitCode = 1;
}
