import { join } from 'node:path';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { Outbox } from '../adapters/sqlite/outbox.js';
import type { Call } from '../call/call.js';
import { settledWithin, type Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { installedVersion } from '../core/package-root.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import { INFERENCE_SOCKET } from '../protocol/inference-api.js';
import type { CallView } from '../protocol/station-api.js';
import { Alerts } from './alerts.js';
import { CallControl } from './call-control.js';
import { CallDigits } from './call-digits.js';
import { readInbox } from './call-inbox.js';
import { CallJournal } from './call-journal.js';
import { resumeLeftBehind } from './call-resumption.js';
import { readCredentials, readMediaIdentity } from './credentials.js';
import { DoorControl } from './door-control.js';
import { EdgeCounters } from './edge-counters.js';
import { EngineClient } from './engine-client.js';
import { engineEvents } from './engine-events.js';
import { Flows } from './flows.js';
import { Hearing } from './hearing.js';
import { type LocalApi, serveLocalApi } from './local-api.js';
import { openCommands } from './open-commands.js';
import type { OpenUpdates } from './open-updates.js';
import { OtherLogs } from './other-logs.js';
import { OutboxSender } from './outbox-sender.js';
import { PeerWatch } from './peer-watch.js';
import { openBoardPins, type Pins } from './pins.js';
import { announce, lastWill, newIdentity } from './presence.js';
import { PressActions } from './press-actions.js';
import { QualityReports } from './quality-reports.js';
import type { RemoteCommands } from './remote-commands.js';
import { SelfTest } from './self-test.js';
import { Signalling } from './signalling.js';
import { SiteHost } from './site-host.js';
import { stationHealth } from './station-health.js';
import { serveStationMetrics } from './station-metrics.js';
import type { StationOptions } from './station-options.js';
import { StationReports } from './station-reports.js';
import { stationStatus } from './station-status.js';
import { StationTaps } from './station-taps.js';

const WATCHDOG_MS = 500;
/** How long the peer and the media process are given to hear that the station ends. */
const FAREWELL_MS = 500;
const MOST_EVENTS = 10_000;

/** The station process: calls, pins, MQTT, the local API; and on the site host the site's broker. */
export class Station {
  readonly #options: StationOptions;
  readonly #refused = new Counters<string>();
  readonly #pins: Pins;
  readonly #siteHost: SiteHost | undefined;
  readonly #outbox: Outbox;
  readonly #link: MqttLink;
  readonly #events: OutboxSender;
  readonly #reports: StationReports;
  readonly #engine: EngineClient;
  readonly #signalling: Signalling;
  readonly #quality: QualityReports;
  readonly #journal: CallJournal;
  readonly #watch: PeerWatch;
  readonly #calls: CallControl;
  readonly #digits: CallDigits;
  readonly #door: DoorControl;
  readonly #presses: PressActions;
  readonly #selfTest: SelfTest;
  readonly #taps: StationTaps;
  readonly #alerts: Alerts;
  readonly #commands: RemoteCommands;
  readonly #edge: EdgeCounters;
  readonly #logs: OtherLogs;
  #hearing: Hearing | undefined;
  #flows: Flows | undefined;
  #api: LocalApi | undefined;
  #metrics: { close(): Promise<void> } | undefined;
  #updates: OpenUpdates | undefined;
  #watchdog: Timer | undefined;
  #closing: Promise<void> | undefined;
  #doorBy = 'local';

  /** @throws AppError `pki-damaged`, `credentials-missing`, `outbox-unusable`, `socket-taken`, `socket-failed` */
  static async start(options: StationOptions): Promise<Station> {
    const { config, clock, logger } = options;
    const { siteHost, station, state } = config;
    // The site's certificates are made here at the first start, our own among them.
    const host =
      siteHost === undefined
        ? undefined
        : await SiteHost.start({ dir: state, site: station.site, ...siteHost, clock, logger });
    const started: { station?: Station } = {};
    try {
      started.station = new Station(options, host);
      await started.station.#serve();
      return started.station;
    } catch (error) {
      await (started.station === undefined ? host?.close() : started.station.close());
      throw error;
    }
  }

  private constructor(options: StationOptions, siteHost: SiteHost | undefined) {
    const { config, board, clock, logger } = options;
    if (config.media.encryption === 'off') logger.warn({}, 'speech is not encrypted (media.encryption: off)');
    const { id: station, site } = config.station;
    const common = { clock, logger };
    this.#options = options;
    this.#siteHost = siteHost;
    const credentials = readCredentials(config);
    const identity = newIdentity(config, installedVersion());
    this.#outbox = new Outbox({ path: join(config.state, 'outbox.sqlite'), mostEntries: MOST_EVENTS, ...common });
    this.#journal = new CallJournal({ path: join(config.state, 'call.json'), logger });
    this.#link = new MqttLink({
      url: config.mqtt.url,
      ...credentials,
      clientId: station,
      will: lastWill(identity, clock),
      ...common,
    });
    this.#edge = new EdgeCounters(clock);
    const processes = () => [this.#engine, this.#flows, this.#hearing];
    this.#logs = new OtherLogs({ tap: options.logTap, clock, processes });
    this.#events = new OutboxSender({
      outbox: this.#outbox,
      link: this.#link,
      site,
      station,
      ...common,
      onSent: (...sent) => this.#edge.eventSent(...sent),
    });
    this.#alerts = new Alerts({ ...common, keep: (body) => this.#note('alert', body) });
    this.#quality = new QualityReports({ link: this.#link, site, station, ...common });
    this.#signalling = new Signalling({ link: this.#link, site, station, clock });
    this.#watch = new PeerWatch({ clock, onLost: () => this.#calls.happened({ on: 'peer-lost' }) });
    this.#engine = new EngineClient({
      path: join(config.run, 'media.sock'),
      identity: readMediaIdentity(config, logger),
      ...common,
      events: engineEvents(() => ({
        pins: this.#pins,
        calls: this.#calls,
        digits: this.#digits,
        watch: this.#watch,
        quality: this.#quality,
        flows: this.#flows,
        api: this.#api,
        selfTest: this.#selfTest,
        logs: this.#logs,
        siteHost,
      })),
    });
    this.#calls = new CallControl({
      config,
      signalling: this.#signalling,
      engine: this.#engine,
      ...common,
      onKeep: (entry) => this.#journal.note(entry),
      onChange: (call, view, figures) => this.#callChanged(call, view, figures),
    });
    this.#taps = new StationTaps({
      engine: this.#engine,
      isGranted: { flows: config.taps.flows, inference: config.inference.enabled },
      ...common,
      note: (kind, body) => this.#note(kind, body),
    });
    this.#digits = new CallDigits({ calls: this.#calls, engine: this.#engine });
    this.#pins = (options.openPins ?? openBoardPins)({
      board,
      ...common,
      onPress: (button) => this.#pressed(button),
      onRelease: (button) => this.#flows?.released(button),
      onDoor: (open) => this.#doorChanged(open),
    });
    this.#door = new DoorControl({
      config,
      relay: this.#pins.relay,
      signalling: this.#signalling,
      ...common,
      onOpening: (by) => {
        this.#doorBy = by;
      },
    });
    this.#presses = new PressActions({ actions: config.buttons, calls: this.#calls, door: this.#door, logger });
    this.#selfTest = new SelfTest({
      config,
      link: this.#link,
      engine: this.#engine,
      signalling: this.#signalling,
      pins: () => this.#pins,
      isInCall: () => this.#calls.current !== undefined,
      onPulse: () => {
        this.#doorBy = 'selftest';
      },
      onDone: (result) => this.#note('selftest', result),
      ...common,
    });
    this.#commands = openCommands({
      options,
      engine: this.#engine,
      calls: this.#calls,
      flows: () => this.#flows,
      updates: () => this.#updates,
      link: this.#link,
      selfTest: this.#selfTest,
      logs: this.#logs,
      note: (kind, body) => this.#note(kind, body),
    });
    siteHost?.offerEcho({ config, engine: this.#engine, ...common });
    readInbox({
      link: this.#link,
      site,
      station,
      refused: this.#refused,
      ...common,
      onCall: (message, retained) => {
        if (this.#selfTest.take(message)) return;
        if ('request' in message || 'nonce' in message) this.#door.take(message, retained);
        else this.#calls.take(message);
      },
      onPresence: (peer, online) => this.#calls.current?.peer === peer && this.#watch.peerOnline(online),
      onCommand: (verb, message) => this.#commands.take(verb, message),
      onManaged: (path, message) => this.#updates?.fleet.take(path, message) ?? false,
    });
    this.#reports = new StationReports({ config, link: this.#link, ...common });
    announce({ identity, config, link: this.#link, reports: this.#reports, ...common });
    this.#link.onState(({ connected }) => this.#watch.linkConnected(connected));
  }

  /** Hangs up, makes the door safe, says that it is offline, gives everything back; within 1.5 s. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #serve(): Promise<void> {
    const { config, board, file, defaults, clock, logger, notify } = this.#options;
    const hearing = await Hearing.serve({
      path: join(config.run, INFERENCE_SOCKET),
      isEnabled: config.inference.enabled,
      taps: this.#taps,
      edge: this.#edge,
      listener: {
        changed: (view) => this.#flows?.hearingChanged(view),
        decided: (decision) => this.#flows?.decided(decision),
        logged: (lines) => this.#logs.took('inference', lines),
      },
      clock,
      logger,
    });
    this.#hearing = hearing;
    if (config.flows.enabled) {
      this.#flows = await Flows.start({
        config,
        board,
        calls: this.#calls,
        digits: this.#digits,
        door: this.#door,
        engine: this.#engine,
        leds: this.#pins.leds,
        taps: this.#taps,
        alerts: this.#alerts,
        selfTest: this.#selfTest,
        hearing,
        health: () => stationHealth({ link: this.#link, engine: this.#engine, siteHost: this.#siteHost, hearing }),
        reports: this.#reports,
        notify,
        fallback: (button) => this.#presses.pressed(button),
        note: (kind, body) => this.#note(kind, body),
        logged: (lines) => this.#logs.took('flows', lines),
        clock,
        logger,
      });
    }
    const status = () =>
      stationStatus({
        config,
        board,
        defaults,
        link: this.#link,
        calls: this.#calls,
        door: this.#door,
        pins: this.#pins,
        outbox: this.#outbox,
        engine: this.#engine,
        siteHost: this.#siteHost,
        flows: this.#flows,
        selfTest: this.#selfTest,
        hearing,
        edge: this.#edge,
        refused: this.#refused,
        commands: this.#commands,
      });
    if (config.update.slots !== undefined) {
      // Trust and delivery are 20 MB, which a station that is updated by hand does not need.
      const { openUpdates } = await import('./open-updates.js');
      this.#updates = await openUpdates({
        ...{ config, board, file, defaults, hearing },
        link: this.#link,
        reports: this.#reports,
        engine: this.#engine,
        flows: () => this.#flows,
        isInCall: () => this.#calls.current !== undefined,
        isDoorOpen: () => this.#pins.relay?.open === true,
        selfTest: this.#selfTest,
        notify,
        told: (view) => this.#api?.notify('update.changed', view),
        clock,
        logger,
      });
    }
    this.#api = await serveLocalApi({
      path: join(config.run, 'station.sock'),
      calls: this.#calls,
      digits: this.#digits,
      door: this.#door,
      selfTest: this.#selfTest,
      updates: this.#updates?.own,
      status,
      logger,
      refused: this.#refused,
    });
    this.#metrics = await serveStationMetrics({ run: config.run, status, mqtt: () => this.#link.figures(), logger });
    const turn = (): void => {
      notify.watchdog();
      this.#watchdog = clock.after(WATCHDOG_MS, turn);
    };
    turn();
    // Only then is there word from the peer: what it says of a call that goes on must not come before that is known.
    void resumeLeftBehind({
      journal: this.#journal,
      calls: this.#calls,
      engine: this.#engine,
      signalling: this.#signalling,
      logger,
    }).then(() => this.#closing === undefined && this.#link.start());
  }

  async #close(): Promise<void> {
    const { clock } = this.#options;
    // First the door: nothing that comes later may hold it open.
    this.#pins.relay?.safe();
    this.#updates?.close();
    this.#selfTest.close();
    this.#commands.close();
    const hungUp = this.#calls.close('station-stopped');
    await settledWithin(clock, FAREWELL_MS, Promise.all([hungUp, this.#signalling.settled(), this.#journal.settled()]));
    this.#watch.close();
    await Promise.all([this.#flows?.close(), this.#hearing?.close()]);
    this.#engine.close();
    this.#pins.close();
    await this.#link.close();
    await Promise.all([this.#events.close(), this.#api?.close(), this.#metrics?.close(), this.#siteHost?.close()]);
    this.#outbox.close();
    this.#watchdog?.cancel();
  }

  #callChanged(call: Call, view: CallView, figures: Promise<SessionFigures | null>): void {
    const isOver = call.state === 'ended';
    if (!isOver) this.#selfTest.interrupt();
    this.#door.callChanged(call);
    if (isOver || call.state === 'inviting' || call.state === 'ringing-in') this.#watch.reset();
    this.#pins.leds.call?.set(!isOver);
    this.#flows?.callChanged(view);
    const { state, direction, peer, reason } = view;
    this.#note('call', { callId: call.callId, state, direction, peer, reason });
    if (isOver) {
      void figures.then((known) => {
        this.#edge.add({ callBytes: known?.sentBytes ?? 0 });
        this.#api?.notify('call.changed', { ...view, figures: known });
      });
    } else this.#api?.notify('call.changed', { ...view, figures: null });
  }

  #pressed(button: string): void {
    this.#selfTest.interrupt();
    this.#api?.notify('button.pressed', { button });
    if (this.#flows === undefined) this.#presses.pressed(button);
    else this.#flows.pressed(button);
  }

  #doorChanged(open: boolean): void {
    this.#api?.notify('door.changed', { open, by: this.#doorBy });
    this.#note('door', { open, by: this.#doorBy });
  }

  /** An event for the broker, kept on disk until it is there. */
  #note(kind: string, body: object): string | null {
    return this.#closing === undefined ? this.#events.add(kind, body) : null;
  }
}

/** Starts the station; resolves when its local API is served. Broker, media process and pins may come later. */
export function startStation(options: StationOptions): Promise<Station> {
  return Station.start(options);
}
