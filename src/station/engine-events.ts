import type { CallControl } from './call-control.js';
import type { CallDigits } from './call-digits.js';
import type { EngineEvents } from './engine-client.js';
import type { Flows } from './flows.js';
import type { LocalApi } from './local-api.js';
import type { OtherLogs } from './other-logs.js';
import type { PeerWatch } from './peer-watch.js';
import type { Pins } from './pins.js';
import type { QualityReports } from './quality-reports.js';
import type { SelfTest } from './self-test.js';
import type { SiteHost } from './site-host.js';

/** Who hears of what the media process tells; asked for at each event, since most are made after it is connected to. */
export interface EngineAudience {
  readonly pins: Pick<Pins, 'leds'>;
  readonly calls: CallControl;
  readonly digits: CallDigits;
  readonly watch: PeerWatch;
  readonly quality: QualityReports;
  readonly flows: Flows | undefined;
  readonly api: LocalApi | undefined;
  readonly selfTest: SelfTest;
  readonly logs: OtherLogs;
  readonly siteHost: SiteHost | undefined;
}

/** Hands what the media process tells to those whom it concerns. */
export function engineEvents(audience: () => EngineAudience): EngineEvents {
  return {
    onCapture: (open) => audience().pins.leds.microphone?.set(open),
    onHeard: (callId, afterMs) => {
      audience().calls.heard(callId);
      audience().api?.notify('session.heard', { callId, afterMs });
    },
    onSilent: (callId, silent) => {
      const { calls, watch } = audience();
      if (calls.current?.callId === callId) watch.silent(silent);
    },
    onSlow: () => audience().calls.slow(),
    onMoved: (sessionId, path, reason) => {
      const { calls, selfTest, siteHost } = audience();
      calls.moved(sessionId, path, reason);
      selfTest.moved(sessionId, path);
      siteHost?.moved(sessionId, path);
    },
    onQuality: (report) => {
      const { api, flows, quality } = audience();
      api?.notify('quality.report', report);
      flows?.quality(report);
      quality.report(report);
    },
    onDigit: (callId, digit, durationMs) => {
      const { digits, api, flows } = audience();
      if (!digits.isFrom(callId)) return;
      const told = { callId, digit, durationMs };
      api?.notify('call.dtmf', told);
      flows?.digit(told);
    },
    onClipEnded: (clipId, reason) => audience().flows?.soundEnded(clipId, reason),
    onLog: (lines) => audience().logs.took('media', lines),
    onLost: () => {
      const { calls, flows, siteHost } = audience();
      flows?.mediaLost();
      calls.happened({ on: 'media-lost' });
      siteHost?.mediaLost();
    },
  };
}
