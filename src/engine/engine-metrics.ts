import { join } from 'node:path';
import { type Figure, type Figures, METRICS_CONTENT_TYPE, METRICS_URL, Metrics } from '../adapters/metrics/metrics.js';
import { PROCESS_FIGURES, type ProcessStatus, ProcessWatch } from '../adapters/metrics/process-figures.js';
import { serveText } from '../adapters/sockets/text-page.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { EngineStatus, SessionFigures } from '../protocol/engine-api.js';

interface Status {
  readonly process: ProcessStatus;
  readonly engine: EngineStatus;
}

/** A figure of each session, which has the id of its call. */
function ofSessions(
  kind: Figure<Status>['kind'],
  help: string,
  of: (session: SessionFigures) => number | null,
): Figure<Status> {
  const labels = ['call_id'];
  return {
    kind,
    help,
    labels,
    of: ({ engine }) =>
      engine.sessions.flatMap((session) => {
        const value = of(session);
        return value === null ? [] : [[value, { call_id: session.sessionId }] as const];
      }),
  };
}

const FIGURES: Figures<Status> = {
  ...PROCESS_FIGURES,
  packets_sent_total: ofSessions('counter', 'RTP packets sent', ({ sent }) => sent),
  packets_received_total: ofSessions('counter', 'RTP packets received', ({ received }) => received),
  path_is_mqtt: ofSessions('gauge', '1 while packets go inside MQTT, 0 by UDP', ({ path }) =>
    path === 'mqtt' ? 1 : 0,
  ),
  path_migrations_total: ofSessions('counter', 'Times that packets changed their path', ({ migrations }) => migrations),
  packets_lost: ofSessions('gauge', 'RTP packets expected less received (RFC 3550, A.3)', ({ lost }) => lost),
  packets_late_total: ofSessions('counter', 'RTP packets that came after their time', ({ late }) => late),
  packets_duplicate_total: ofSessions('counter', 'RTP packets that came twice', ({ duplicate }) => duplicate),
  packets_reordered_total: ofSessions('counter', 'RTP packets out of order', ({ reordered }) => reordered),
  fec_decoded_total: ofSessions('counter', 'Packet times made good from FEC', ({ fecDecoded }) => fecDecoded),
  concealed_total: ofSessions('counter', 'Packet times concealed', ({ concealed }) => concealed),
  jitter_seconds: ofSessions('gauge', 'Interarrival jitter (RFC 3550, A.8)', ({ jitterMs }) => jitterMs / 1000),
  round_trip_seconds: ofSessions('gauge', 'Round trip by RTCP', ({ roundTripMs }) => inS(roundTripMs)),
  playout_delay_seconds: ofSessions('gauge', 'What playout holds back', ({ playoutDelayMs }) => playoutDelayMs / 1000),
  mos: {
    kind: 'gauge',
    help: 'Mean opinion score by the E-model (ITU-T G.107.1): of what is heard here, and what the far end says of ours',
    labels: ['call_id', 'end', 'mode'],
    of: ({ engine }) =>
      engine.sessions.flatMap(({ sessionId, quality: { mos } }) =>
        (
          [
            [mos.listening, 'here', 'listening'],
            [mos.conversational, 'here', 'conversational'],
            [mos.remoteListening, 'there', 'listening'],
            [mos.remoteConversational, 'there', 'conversational'],
          ] as const
        ).flatMap(([value, end, mode]) =>
          value === null ? [] : [[value, { call_id: sessionId, end, mode }] as const],
        ),
      ),
  },
  concealed_ratio: ofSessions('gauge', 'Share of the time that was concealed', (one) => one.quality.concealedPct / 100),
  red_recovered_total: ofSessions(
    'counter',
    'Packets played from copies (RFC 2198)',
    (one) => one.quality.redRecovered,
  ),
  loss_runs_total: ofSessions('counter', 'Runs of packets lost', (one) => one.quality.lossRuns.runs),
  loss_run_mean_packets: ofSessions('gauge', 'Mean length of such a run', (one) => one.quality.lossRuns.meanPackets),
  send_bits_per_second: ofSessions(
    'gauge',
    'What the encoder is set to, without copies',
    (one) => one.quality.ladder.at(-1)?.bitrateBps ?? null,
  ),
  send_copies: ofSessions(
    'gauge',
    'Earlier packets that each carries again',
    (one) => one.quality.ladder.at(-1)?.redDistances.length ?? null,
  ),
  packets_refused_total: {
    kind: 'counter',
    help: 'Packets refused at the edge, by class of fault',
    labels: ['call_id', 'class'],
    of: ({ engine }) =>
      engine.sessions.flatMap(({ sessionId, refused }) =>
        Object.entries(refused).map(([fault, count]) => [count, { call_id: sessionId, class: fault }] as const),
      ),
  },
  tap_sent_frames_total: {
    kind: 'counter',
    help: 'Frames of 10 ms that left by each tap',
    labels: ['tap', 'source'],
    of: ({ engine }) =>
      engine.taps.map(({ tapId, source, sentFrames }) => [sentFrames, { tap: tapId, source }] as const),
  },
  tap_dropped_frames_total: {
    kind: 'counter',
    help: 'Frames of 10 ms that did not leave by a tap, by cause',
    labels: ['tap', 'class'],
    of: ({ engine }) =>
      engine.taps.flatMap(({ tapId, dropped }) =>
        Object.entries(dropped).map(([cause, frames]) => [frames, { tap: tapId, class: cause }] as const),
      ),
  },
  card_up: {
    kind: 'gauge',
    help: '1 while a sound card works, 0 while it is closed or down',
    labels: ['card'],
    of: ({ engine }) =>
      (['capture', 'playback'] as const).map((card) => [engine[card].state === 'up' ? 1 : 0, { card }] as const),
  },
  capture_xruns_total: {
    kind: 'counter',
    help: 'Times the microphone overran since it was opened',
    of: ({ engine }) => [[engine.capture.xruns]],
  },
  capture_dropped_frames_total: {
    kind: 'counter',
    help: 'Frames of 10 ms of the microphone that this process came for too late',
    of: ({ engine }) => [[engine.capture.droppedFrames]],
  },
  playback_delay_seconds: {
    kind: 'gauge',
    help: 'What the speaker has before it',
    of: ({ engine }) => [[engine.playback.delayMs / 1000]],
  },
  playback_xruns_total: {
    kind: 'counter',
    help: 'Times the speaker ran dry',
    of: ({ engine }) => [[engine.playback.xruns]],
  },
  playback_starved_frames_total: {
    kind: 'counter',
    help: 'Frames of 10 ms that came too late for the speaker',
    of: ({ engine }) => [[engine.playback.starvedFrames]],
  },
  control_refused_total: {
    kind: 'counter',
    help: 'Messages of the control socket that were refused, by class of fault',
    labels: ['class'],
    of: ({ engine }) => Object.entries(engine.refused).map(([fault, count]) => [count, { class: fault }] as const),
  },
};

/** `GET /metrics` on `media-metrics.sock` in `run`. Where that can't be served, media goes on without. */
export async function serveEngineMetrics(options: {
  run: string;
  status: () => EngineStatus;
  logger: Logger;
}): Promise<{ close(): Promise<void> }> {
  const { run, status, logger } = options;
  const metrics = new Metrics('entryphone_media_', FIGURES);
  const watch = new ProcessWatch();
  const page = await serveText({
    path: join(run, 'media-metrics.sock'),
    url: METRICS_URL,
    contentType: METRICS_CONTENT_TYPE,
    text: () => metrics.text({ process: watch.read(), engine: status() }),
    logger,
  }).catch((error: unknown) => {
    logger.warn({ error: errorText(error) }, 'no metrics are served');
  });
  return {
    close: async () => {
      watch.close();
      await page?.close();
    },
  };
}

function inS(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}
