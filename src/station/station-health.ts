import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { StationHealth } from '../protocol/flows-api.js';
import type { EngineClient } from './engine-client.js';
import type { Hearing } from './hearing.js';
import type { SiteHost } from './site-host.js';

/** What flows are told of how the station is. */
export async function stationHealth(parts: {
  link: Pick<MqttLink, 'state'>;
  engine: Pick<EngineClient, 'status'>;
  siteHost: Pick<SiteHost, 'status'> | undefined;
  hearing: Pick<Hearing, 'view'>;
}): Promise<StationHealth> {
  const engine = await parts.engine.status();
  const host = parts.siteHost?.status();
  const { isEnabled, state } = parts.hearing.view;
  return {
    media: upOrDown(engine !== null),
    capture: engine?.capture.state ?? null,
    playback: engine?.playback.state ?? null,
    captureXruns: engine?.capture.xruns ?? null,
    playbackXruns: engine?.playback.xruns ?? null,
    broker: upOrDown(parts.link.state.connected),
    siteBroker: host === undefined ? null : upOrDown(host.broker.running),
    otherSites: host === undefined || host.elsewhere === null ? null : upOrDown(host.elsewhere),
    inference: isEnabled ? upOrDown(state === 'running') : null,
  };
}

function upOrDown(is: boolean): 'up' | 'down' {
  return is ? 'up' : 'down';
}
