import { basename, join } from 'node:path';
import { readModelFolder } from '../adapters/onnx/model-folder.js';
import { type LoadedModel, loadModel } from '../adapters/onnx/onnx-model.js';
import { TapReceiver } from '../adapters/udp/tap-receiver.js';
import { type ModelsConfig, modelsPlace } from '../config/models-place.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import { LogTap } from '../core/log-tap.js';
import type { Logger } from '../core/logger.js';
import type { HearingFigures } from '../protocol/hearing.js';
import { INFERENCE_SOCKET, type InferenceReport } from '../protocol/inference-api.js';
import { L16_RATE_HZ } from '../rtp/l16.js';
import { Ears } from './ears.js';
import { StationLink } from './station-link.js';

const LOOK_EVERY_MS = 500;
const FIGURES_EVERY_MS = 2_000;
/** The tap sends each 20 ms; without a packet for so long nothing is heard. */
const SILENT_AFTER_MS = 1_000;

type Refused = InferenceReport['refused'];

export interface Listener {
  readonly report: InferenceReport;
  close(): Promise<void>;
}

/**
 * The inference process: hears a tap of the microphone while the station says that somebody wants decisions, and tells it what it heard.
 * It opens no card and no file but its models; it may fail, hang or end at any time, and nothing else waits for it.
 *
 *   media ── RTP L16, loopback ──▶ TapReceiver ──▶ Ears ──▶ StationLink ── inference.sock ──▶ station
 *
 * @throws AppError `socket-failed`
 */
export async function startListener(options: {
  config: Pick<Config, 'run'> & ModelsConfig;
  /** Ends this process, in order; its supervisor starts another. */
  endProcess?: () => void;
  /** What this process logs, for the station while that asks for it. */
  logTap?: LogTap;
  clock: Clock;
  logger: Logger;
}): Promise<Listener> {
  const { config, clock, logger } = options;
  const refused = new Counters<string>();
  let ears: Ears | undefined;
  let heardAtMs = Number.NEGATIVE_INFINITY;
  let isWanted = false;
  const receiver = await TapReceiver.open({
    clock,
    refused,
    sound: (sound, arrivalMs) => {
      heardAtMs = arrivalMs;
      ears?.sound(sound, arrivalMs);
    },
  });
  const { folder, slot } = modelsPlace(config);
  const station = new StationLink({
    path: join(config.run, INFERENCE_SOCKET),
    first: { pid: process.pid, port: receiver.port, isReady: false, isHearing: false, slot, models: [], refused: [] },
    logTap: options.logTap ?? new LogTap(),
    clock,
    logger,
    onListen: (on) => {
      isWanted = on;
    },
    onRestart: () => {
      logger.warn({}, 'the station orders a restart; ending');
      (options.endProcess ?? endBySignal)();
    },
  });
  const { loaded, refusedModels } = await loadAll(folder, logger);
  ears = new Ears({
    models: loaded,
    clock,
    logger,
    listener: {
      decided: (decision) => station.decided(decision),
      failed: ({ card: { name, file, sha256 } }, reason) => {
        logger.error({ model: name, reason }, 'a model fails and is asked no more');
        const { models, refused: known } = station.report;
        void station.say({
          models: models.filter((one) => one.sha256 !== sha256),
          refused: [...known, { card: file, reason: reason.slice(0, 1_000) }],
        });
      },
    },
  });
  const own = ears;
  await station.say({ isReady: true, models: loaded.map(describe), refused: refusedModels });
  const figures = (): HearingFigures => {
    const { user, system } = process.cpuUsage();
    return {
      ...own.figures,
      cpuMs: (user + system) / 1000,
      memoryRssBytes: process.memoryUsage.rss(),
      refused: { ...refused.all(), ...own.refused.all(), ...station.undelivered.all() } as Record<string, number>,
    };
  };

  let figuresAtMs = clock.nowMs();
  const look = (): Timer =>
    clock.after(LOOK_EVERY_MS, () => {
      const nowMs = clock.nowMs();
      const isHearing = nowMs - heardAtMs < SILENT_AFTER_MS;
      const hasChanged = isHearing !== station.report.isHearing;
      if (hasChanged) {
        if (!isHearing) own.silence();
        void station.say({ isHearing });
      }
      if (hasChanged || (isHearing && nowMs - figuresAtMs >= FIGURES_EVERY_MS)) {
        figuresAtMs = nowMs;
        void station.figures(figures());
      }
      if (hasChanged && isWanted && !isHearing) logger.warn({}, 'no sound comes from the microphone');
      timer = look();
    });
  let timer = look();

  return {
    get report() {
      return station.report;
    },
    close: async () => {
      timer.cancel();
      station.close();
      await receiver.close();
      await own.close();
    },
  };
}

/** What of the folder can be served; the rest is told, and keeps nothing from running. */
async function loadAll(folder: string, logger: Logger): Promise<{ loaded: LoadedModel[]; refusedModels: Refused }> {
  const refuse = (card: string, error: unknown) => ({
    card: basename(card).slice(0, 256),
    reason: errorText(error).slice(0, 1_000),
  });
  const loaded: LoadedModel[] = [];
  const refusedModels: Refused = [];
  try {
    const found = await readModelFolder(folder, L16_RATE_HZ);
    refusedModels.push(...found.refused.map(({ card, reason }) => refuse(card, reason)));
    for (const carded of found.models) {
      try {
        loaded.push(await loadModel(carded));
      } catch (error) {
        refusedModels.push(refuse(carded.card.file, error));
      }
    }
  } catch (error) {
    refusedModels.push(refuse(folder, error));
  }
  for (const one of refusedModels) logger.warn(one, 'a model is refused');
  return { loaded, refusedModels };
}

function describe({ card }: LoadedModel): InferenceReport['models'][number] {
  const { name, version, kind, sha256, decisions } = card;
  return { name, version, kind, sha256, labels: Object.keys(decisions) };
}

function endBySignal(): void {
  process.kill(process.pid, 'SIGTERM');
}
