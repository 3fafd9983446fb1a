import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { connectStation } from '../../lab/site.js';
import type { SelfTestCheck, SelfTestResult } from '../../protocol/selftest.js';
import { note, PLAIN, printJson, runningStation } from './output.js';

/** It waits for others that call the echo extension. */
const MOST_MS = 40_000;
const COLOURS = { pass: 'green', fail: 'red', skipped: 'yellow' } as const;

const SELFTEST_KEYS = `
checks, each pass, fail or skipped, with its reason, figures and what to do next:
  broker  a message that it acknowledges: round trip
  relay   a pulse that a contact shows, where one is wired (gpio.contact of the board
          profile) and the configuration allows it (selftest.relay): it opens the lock
          for a moment
  sound   a signal from the loudspeaker to the microphone: level, delay, distortion
  call    a call to the site's echo extension: set-up, round trip, loss, MOS

Not in a call; it gives way at once to a press and to a call. Exit code 0 if all that
counts passed: a relay may be skipped.

Beside make run, whose virtual microphones hear no loudspeaker, sound fails: see
  entryphone lab selftest`;

export function addSelfTestCommand(program: Command): void {
  program
    .command('selftest')
    .description('a station tries itself: broker, relay, sound, a call; some ten seconds')
    .option('--station <id>', 'which one (the indoor one, or the only one that runs)')
    .option('--json', 'one JSON object')
    .addHelpText('after', SELFTEST_KEYS)
    .action(async ({ station, json }: { station?: string; json?: boolean }) => {
      const client = await connectStation(runningStation(station).runDir);
      try {
        if (json !== true) note('a signal will sound; ten seconds');
        const result = await client.call('selftest.run', {}, { timeoutMs: MOST_MS });
        if (json === true) printJson(result);
        else process.stdout.write(`${tableOf(result)}\n`);
        if (!result.ok) process.exitCode = 1;
      } finally {
        client.close();
      }
    });
}

function tableOf({ checks, verdict }: SelfTestResult): string {
  const table = new Table({
    style: PLAIN,
    head: ['', '', 'reason', 'what was found'],
    wordWrap: true,
    colWidths: [null, null, null, 70],
  });
  for (const check of checks) {
    const outcome = styleText(COLOURS[check.outcome], check.outcome, { stream: process.stdout });
    table.push([check.name, outcome, check.reason, textOf(check)]);
  }
  return `${table.toString()}\n${verdict}`;
}

function textOf({ text, remedy, figures }: SelfTestCheck): string {
  const known = Object.entries(figures).filter(([, value]) => value !== null);
  const told = known.map(([name, value]) => `${name} ${value}`).join(', ');
  return [text, ...(remedy === null ? [] : [`→ ${remedy}`]), ...(told === '' ? [] : [told])].join('\n');
}
