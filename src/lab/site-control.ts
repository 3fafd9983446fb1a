import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import * as z from 'zod';
import { connectRpc, type RpcClient, type RpcServer, serveRpc } from '../adapters/sockets/rpc.js';
import { loadConfig } from '../config/load.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { Site } from './site.js';
import { STATIONS, type StationId } from './site-config.js';

/** What people (`./entryphone press`, `say`) do to the virtual boards of a running site: fingers and voices. */
const station = z.enum(STATIONS);
export const siteRequests = {
  'board.press': {
    params: z.object({ station, button: z.string().min(1).max(64), holdMs: z.int().min(10).max(10_000) }),
    result: z.object({}),
  },
  /** Where it keeps configurations, passwords and logs. */
  'site.describe': { params: z.object({}), result: z.object({ dir: z.string() }) },
  /** Speaks `text` (espeak-ng), or plays a WAV file, into the station's microphone; resolves when it has been said. */
  'sound.say': {
    params: z.object({
      station,
      text: z.string().min(1).max(2_000).optional(),
      file: z.string().max(4_096).optional(),
    }),
    result: z.object({}),
  },
} as const;

const SOCKET = 'site.sock';

export function serveSiteControl(site: Site, logger: Logger): Promise<RpcServer<Record<never, never>>> {
  return serveRpc({
    path: join(site.plan.runDir, SOCKET),
    requests: siteRequests,
    notifications: {},
    handlers: {
      'board.press': async ({ station: id, button, holdMs }) => {
        await site.boards[id].press(buttonLine(site, id, button), holdMs);
        return {};
      },
      'site.describe': () => ({ dir: site.plan.dir }),
      'sound.say': async ({ station: id, text, file }) => {
        await speak(site, id, text === undefined ? { file: file ?? '' } : { text });
        return {};
      },
    },
    logger,
    refused: new Counters<string>(),
  });
}

export function connectSiteControl(runDir: string): Promise<RpcClient<typeof siteRequests>> {
  return connectRpc({
    path: join(runDir, SOCKET),
    requests: siteRequests,
    notifications: {},
    onNotification: () => {},
    onClose: () => {},
    timeoutMs: 120_000,
  });
}

/** @throws AppError `button-unknown` */
export function buttonLine(site: Site, id: StationId, button: string): number {
  const { board } = loadConfig(join(site.plan.dir, `${id}.yaml`));
  const found = board.gpio.buttons[button];
  if (found === undefined) {
    const names = Object.keys(board.gpio.buttons).join(', ');
    throw new AppError('button-unknown', `${id} has no button ${button}`, { remedy: `It has: ${names}` });
  }
  return found.line;
}

async function speak(site: Site, id: StationId, what: { text: string } | { file: string }): Promise<void> {
  const env = { ...process.env, ...site.sound.env };
  const device = site.sound.devices(id).feed;
  if ('file' in what) {
    await ended(spawn('aplay', ['-q', '-D', device, what.file], { env, stdio: 'ignore' }), 'aplay');
    return;
  }
  const player = spawn('aplay', ['-q', '-D', device], { env, stdio: ['pipe', 'ignore', 'ignore'] });
  const speaker = spawn('espeak-ng', ['--stdout', '--', what.text], { stdio: ['ignore', player.stdin, 'ignore'] });
  player.stdin.destroy();
  await Promise.all([ended(speaker, 'espeak-ng'), ended(player, 'aplay')]);
}

function ended(child: ChildProcess, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('error', (error) =>
      reject(
        new AppError('program-failed', `${name} can't be started: ${error.message}`, { remedy: 'Run make setup' }),
      ),
    );
    child.once('exit', (code, signal) => {
      if (code === 0) resolve();
      else reject(new AppError('program-failed', `${name} ended with ${signal ?? code}`));
    });
  });
}
