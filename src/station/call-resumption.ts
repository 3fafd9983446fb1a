import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CallControl } from './call-control.js';
import { type CallJournal, type TakenUp, takeUp } from './call-journal.js';
import type { EngineClient } from './engine-client.js';
import type { Signalling } from './signalling.js';

/** The media process is there, or it has ended too, and the call's session with it. */
const ENGINE_PATIENCE_MS = 1_500;

/**
 * The call that the last run left behind: it goes on where the media process has kept its session, which it does for 5 s;
 * else the peer is told, so that nobody keeps talking to a station that was killed. Resolves when that is decided. Never
 * rejects.
 */
export async function resumeLeftBehind(parts: {
  journal: CallJournal;
  calls: CallControl;
  engine: EngineClient;
  signalling: Signalling;
  logger: Logger;
}): Promise<void> {
  const { journal, calls, engine, signalling, logger } = parts;
  const left = journal.leftBehind;
  if (left === null) return;
  const { callId, peer } = left;
  const taken = takeUp(left);
  if (taken !== undefined && (await isKept(engine, taken, logger)) && calls.current === undefined) {
    logger.warn({ callId, peer }, 'the last run ended in mid-call; the call goes on');
    calls.resume(taken);
    return;
  }
  if (taken !== undefined) void engine.closeSession(callId);
  logger.warn({ callId, peer }, 'the last run ended in mid-call; the peer is told');
  signalling
    .send(callId, peer, { type: 'bye', reason: 'station-restarted' })
    .catch((error: unknown) => logger.warn({ callId, error: errorText(error) }, 'the peer was not told'))
    .finally(() => calls.current === undefined && journal.note(null));
}

/** Opening a session that is open gives what it has; another port or source is a new one, which nobody sends to. */
async function isKept(engine: EngineClient, { callId, local }: TakenUp, logger: Logger): Promise<boolean> {
  try {
    await engine.reached(ENGINE_PATIENCE_MS);
    const opened = await engine.openSession(callId);
    return opened.ssrc === local.ssrc && opened.local.port === local.hosts[0].port;
  } catch (error) {
    logger.warn({ callId, error: errorText(error) }, 'the media process does not say whether it has kept the call');
    return false;
  }
}
