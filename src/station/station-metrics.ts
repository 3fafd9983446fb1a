import { join } from 'node:path';
import { byClass, type Figures, METRICS_CONTENT_TYPE, METRICS_URL, Metrics } from '../adapters/metrics/metrics.js';
import { PROCESS_FIGURES, type ProcessStatus, ProcessWatch } from '../adapters/metrics/process-figures.js';
import { readText, serveText } from '../adapters/sockets/text-page.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { FLOWS_METRICS_SOCKET } from '../protocol/flows-api.js';
import type { StationStatus } from '../protocol/station-api.js';

interface Status {
  readonly process: ProcessStatus;
  readonly station: StationStatus;
  readonly mqtt: { readonly waiting: number; readonly dropped: Partial<Record<string, number>> };
  /** Whether these processes gave their own metrics. */
  readonly hasMedia: boolean;
  readonly hasFlows: boolean;
}

const OTHERS_WITHIN_MS = 500;
const MOST_OTHERS_BYTES = 262_144;

const FIGURES: Figures<Status> = {
  ...PROCESS_FIGURES,
  media_up: { kind: 'gauge', help: '1 while the media process answers', of: ({ hasMedia }) => [[hasMedia ? 1 : 0]] },
  flows_up: {
    kind: 'gauge',
    help: '1 while the flows process answers; 0 also while a flow keeps it from that',
    of: ({ station, hasFlows }) => (station.flows === null ? [] : [[hasFlows ? 1 : 0]]),
  },
  call: {
    kind: 'gauge',
    help: '1 for each call that there is',
    labels: ['call_id', 'state', 'direction'],
    of: ({ station }) =>
      station.calls.map(({ callId, state, direction }) => [1, { call_id: callId, state, direction }] as const),
  },
  config_defaults_left_out: {
    kind: 'gauge',
    help: "1 where the configuration defaults of a release are faulty, and the station's own stand alone",
    of: ({ station }) => (station.defaults === null ? [] : [[station.defaults.isApplied ? 0 : 1]]),
  },
  mqtt_connected: {
    kind: 'gauge',
    help: '1 while the broker is reached',
    of: ({ station }) => [[station.broker.connected ? 1 : 0]],
  },
  mqtt_waiting_messages: {
    kind: 'gauge',
    help: 'Messages queued or not acknowledged yet',
    of: ({ mqtt }) => [[mqtt.waiting]],
  },
  mqtt_dropped_total: {
    kind: 'counter',
    help: 'Messages not sent or not taken in, by kind',
    labels: ['class'],
    of: ({ mqtt }) => byClass(mqtt.dropped),
  },
  outbox_waiting_events: {
    kind: 'gauge',
    help: 'Events kept on disk for the broker',
    of: ({ station }) => [[station.outbox.waiting]],
  },
  outbox_dropped_total: {
    kind: 'counter',
    help: 'Events that had to go for newer ones',
    of: ({ station }) => [[station.outbox.dropped]],
  },
  door_open: {
    kind: 'gauge',
    help: '1 while the door is held open',
    of: ({ station: { door } }) => (door.fitted ? [[door.open ? 1 : 0]] : []),
  },
  door_openings_total: {
    kind: 'counter',
    help: 'Times the door was opened',
    of: ({ station: { door } }) => (door.fitted ? [[door.openings]] : []),
  },
  door_refused_total: {
    kind: 'counter',
    help: 'Openings refused, by reason',
    labels: ['class'],
    of: ({ station }) => byClass(station.door.refused),
  },
  self_test_passed: {
    kind: 'gauge',
    help: 'Of the last self-test: 1 for a check that passed, 0 for one that failed',
    labels: ['check'],
    of: ({ station }) =>
      (station.selfTest?.checks ?? [])
        .filter(({ outcome }) => outcome !== 'skipped')
        .map(({ name, outcome }) => [outcome === 'pass' ? 1 : 0, { check: name }]),
  },
  refused_total: {
    kind: 'counter',
    help: 'What was refused from outside, by class of fault',
    labels: ['class'],
    of: ({ station }) => byClass(station.refused),
  },
  presses_total: {
    kind: 'counter',
    help: 'What became of presses that flows were offered',
    labels: ['class'],
    of: ({ station }) => byClass(station.flows?.presses ?? {}),
  },
  alerts_total: {
    kind: 'counter',
    help: 'What became of alerts that flows raised',
    labels: ['class'],
    of: ({ station }) => byClass(station.flows?.alerts ?? {}),
  },
  flow_actions_total: {
    kind: 'counter',
    help: 'What flows did about faults, and what of that was refused',
    labels: ['class'],
    of: ({ station }) => byClass(station.flows?.actions ?? {}),
  },
  flows_running: {
    kind: 'gauge',
    help: '1 while the flows run',
    of: ({ station: { flows } }) => (flows === null ? [] : [[flows.state === 'running' ? 1 : 0]]),
  },
  flows_faults_total: {
    kind: 'counter',
    help: 'Crashes and hangs of the flows, and times that good ones were put back',
    labels: ['class'],
    of: ({ station: { flows } }) =>
      flows === null ? [] : byClass({ crash: flows.crashes, hang: flows.hangs, restore: flows.restores }),
  },
  flows_heartbeats_total: {
    kind: 'counter',
    help: 'Heartbeats of config nodes',
    of: ({ station: { flows } }) => (flows === null ? [] : [[flows.heartbeats]]),
  },
  inference_up: {
    kind: 'gauge',
    help: '1 while the inference process has its models',
    of: ({ station: { hearing } }) => (hearing.isEnabled ? [[hearing.state === 'running' ? 1 : 0]] : []),
  },
  inference_hearing: {
    kind: 'gauge',
    help: '1 while sound comes to the inference process',
    of: ({ station: { hearing } }) => (hearing.isEnabled ? [[hearing.isHearing ? 1 : 0]] : []),
  },
  inference_models_refused: {
    kind: 'gauge',
    help: 'Models that are not served',
    of: ({ station: { hearing } }) => (hearing.isEnabled ? [[hearing.refused.length]] : []),
  },
  inference_decisions_total: {
    kind: 'counter',
    help: 'Sounds that inference decided to have heard, by label',
    labels: ['label'],
    of: ({ station: { hearing } }) =>
      Object.entries(hearing.decisions).map(([label, count]) => [count, { label }] as const),
  },
  inference_lost_frames_total: {
    kind: 'counter',
    help: 'Frames of 10 ms that inference was too slow for',
    of: ({ station: { hearing } }) => (hearing.figures === null ? [] : [[hearing.figures.lostFrames]]),
  },
  inference_runs_total: {
    kind: 'counter',
    help: 'Times that a model was asked, or skipped since nothing stood out of the background',
    labels: ['class'],
    of: ({ station: { hearing } }) =>
      hearing.figures === null
        ? []
        : byClass({ asked: hearing.figures.modelRuns, skipped: hearing.figures.skippedRuns }),
  },
  inference_cpu_seconds_total: {
    kind: 'counter',
    help: 'Processor time of the inference process',
    of: ({ station: { hearing } }) => (hearing.figures === null ? [] : [[hearing.figures.cpuMs / 1000]]),
  },
  inference_resident_memory_bytes: {
    kind: 'gauge',
    help: 'Memory of the inference process',
    of: ({ station: { hearing } }) => (hearing.figures === null ? [] : [[hearing.figures.memoryRssBytes]]),
  },
  edge_frames_total: {
    kind: 'counter',
    help: 'Frames of 10 ms of the microphone that inference was given, that it inferred from, and that left in alerts',
    labels: ['class'],
    of: ({ station: { edge } }) =>
      byClass({ captured: edge.capturedFrames, inferred: edge.inferredFrames, sent: edge.sentFrames }),
  },
  edge_bytes_total: {
    kind: 'counter',
    help: 'Their bytes: of samples, and of the messages that left; and the RTP payload of calls that have ended',
    labels: ['class'],
    of: ({ station: { edge } }) =>
      byClass({
        captured: edge.capturedBytes,
        inferred: edge.inferredBytes,
        sent: edge.sentBytes,
        call: edge.callBytes,
      }),
  },
  edge_hour_bytes: {
    kind: 'gauge',
    help: 'The same bytes of each of the last 24 hours, by when the hour began',
    labels: ['hour', 'class'],
    of: ({ station: { edge } }) =>
      edge.hours.flatMap(({ fromMs, capturedBytes, inferredBytes, sentBytes, callBytes }) => {
        const hour = new Date(fromMs).toISOString();
        const all = { captured: capturedBytes, inferred: inferredBytes, sent: sentBytes, call: callBytes };
        return Object.entries(all).map(([name, bytes]) => [bytes, { hour, class: name }] as const);
      }),
  },
  routed_messages_total: {
    kind: 'counter',
    help: 'Call messages that the switchboard moved; on a site host',
    of: ({ station: { siteHost } }) => (siteHost === null ? [] : [[siteHost.routed]]),
  },
  routing_refused_total: {
    kind: 'counter',
    help: 'Call messages that the switchboard refused, by reason; on a site host',
    labels: ['class'],
    of: ({ station: { siteHost } }) => byClass(siteHost?.refused ?? {}),
  },
};

/**
 * `GET /metrics` on `station-metrics.sock` in `run`: the station's own, then those of the media and the flows process, as far as
 * they answer within half a second. Where that can't be served, the station goes on without.
 */
export async function serveStationMetrics(options: {
  run: string;
  status: () => Promise<StationStatus>;
  mqtt: () => Status['mqtt'];
  logger: Logger;
}): Promise<{ close(): Promise<void> }> {
  const { run, status, mqtt, logger } = options;
  const metrics = new Metrics('entryphone_station_', FIGURES);
  const watch = new ProcessWatch();
  const others = async (file: string, prefix: string): Promise<string | null> => {
    const page = { path: join(run, file), url: METRICS_URL };
    return readText({ ...page, timeoutMs: OTHERS_WITHIN_MS, mostBytes: MOST_OTHERS_BYTES }).then(
      (text) => linesOf(text, prefix),
      () => null,
    );
  };
  const text = async (): Promise<string> => {
    const [station, media, flows] = await Promise.all([
      status(),
      others('media-metrics.sock', 'entryphone_media_'),
      others(FLOWS_METRICS_SOCKET, 'entryphone_flows_'),
    ]);
    const has = { hasMedia: media !== null, hasFlows: flows !== null };
    const own = await metrics.text({ process: watch.read(), station, mqtt: mqtt(), ...has });
    return own + (media ?? '') + (flows ?? '');
  };
  const page = await serveText({
    path: join(run, 'station-metrics.sock'),
    url: METRICS_URL,
    contentType: METRICS_CONTENT_TYPE,
    text,
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

/** As Prometheus reads it: one line that it can't read costs it the whole page. */
const LINE =
  /^(?:# HELP (\w+) .*|# TYPE (\w+) (?:counter|gauge|histogram|summary|untyped)|(\w+)(?:\{(?:\w+="(?:[^"\\]|\\[\\"n])*",?)*\})? (?:[+-]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|[Nn]a[Nn]))$/;

/** What a process says under its own name: an installer's flow must not be able to speak for the door, nor to silence it. */
function linesOf(text: string, prefix: string): string {
  const isOwn = (line: string) =>
    LINE.exec(line)
      ?.slice(1)
      .some((name) => name?.startsWith(prefix)) === true;
  return text
    .split('\n')
    .filter(isOwn)
    .map((line) => `${line}\n`)
    .join('');
}
