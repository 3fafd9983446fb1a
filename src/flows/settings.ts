import type { Config } from '../config/schema.js';
import type { Logger } from '../core/logger.js';
import type { EditorAccess } from './editor-access.js';
import { FLOW_FILE } from './flow-file.js';
import { PALETTE_DIR } from './palette-catalogue.js';

/** Nodes of a flow get so long to close, each. */
const NODE_CLOSE_MS = 2_000;

/** Levels of Node-RED's log (@node-red/util, log.js). */
const FATAL = 10;
const ERROR = 20;
const WARN = 30;

/**
 * Node-RED as it runs here: on loopback, behind a password, with our palette; it installs nothing, runs no programs, serves
 * no pages of flows and calls nobody.
 */
export function nodeRedSettings(options: {
  config: Config;
  dir: string;
  access: EditorAccess;
  isSafeMode: boolean;
  logger: Logger;
}): object {
  const { config, dir, access, isSafeMode, logger } = options;
  const { port, allowInstall, allowExec } = config.flows;
  return {
    uiHost: '127.0.0.1',
    uiPort: port,
    httpAdminRoot: '/',
    httpNodeRoot: false,
    userDir: dir,
    flowFile: FLOW_FILE,
    flowFilePretty: true,
    nodesDir: [PALETTE_DIR],
    paletteCategories: ['entryphone', 'subflows', 'common', 'function', 'network', 'sequence', 'parser', 'storage'],
    nodesExcludes: allowExec ? [] : ['90-exec.js'],
    credentialSecret: access.credentialSecret,
    adminAuth: access.adminAuth,
    safeMode: isSafeMode,
    nodeCloseTimeout: NODE_CLOSE_MS,
    apiMaxLength: '5mb',
    telemetry: { enabled: false, updateNotification: false },
    diagnostics: { enabled: false, ui: false },
    runtimeState: { enabled: false, ui: false },
    functionExternalModules: allowInstall,
    externalModules: {
      autoInstall: false,
      palette: { allowInstall, allowUpdate: allowInstall, allowUpload: allowInstall },
      modules: { allowInstall },
    },
    editorTheme: {
      page: { title: `${config.station.name}: Entryphone flows` },
      header: { title: `Entryphone: ${config.station.name}` },
      projects: { enabled: false },
      tours: false,
      ...(allowInstall ? {} : { palette: { catalogues: [] } }),
    },
    logging: { entryphone: { level: 'info', metrics: false, audit: false, handler: () => toLogger(logger) } },
  };
}

function toLogger(logger: Logger): (entry: { level: number; msg: unknown; type?: string; id?: string }) => void {
  return ({ level, msg, type, id }) => {
    const text =
      msg instanceof Error ? (msg.stack ?? msg.message) : String((msg as { message?: unknown }).message ?? msg);
    const fields = type === undefined ? {} : { node: type, id };
    if (level === FATAL || level === ERROR) logger.error(fields, text);
    else if (level === WARN) logger.warn(fields, text);
    else logger.info(fields, text.trim());
  };
}
