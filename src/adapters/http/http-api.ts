import swagger from '@fastify/swagger';
import fastify, { type FastifyInstance } from 'fastify';
import * as z from 'zod';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { parseJson } from '../../protocol/call-message.js';
import { apiFault } from '../../protocol/gateway-api.js';

/** One route: `params` and `body` are checked before its handler runs, which gets them parsed. */
export interface ApiRoute {
  readonly method: 'GET' | 'POST' | 'DELETE';
  readonly url: string;
  readonly summary: string;
  readonly params?: z.ZodType;
  readonly body?: z.ZodType;
  readonly result: z.ZodType;
}

type Part<R, K extends string> = R extends Record<K, infer S extends z.ZodType> ? z.output<S> : undefined;
export type ApiHandlers<Routes extends Readonly<Record<string, ApiRoute>>> = {
  readonly [K in keyof Routes]: (request: {
    params: Part<Routes[K], 'params'>;
    body: Part<Routes[K], 'body'>;
  }) => z.input<Routes[K]['result']> | Promise<z.input<Routes[K]['result']>>;
};

/** Text that is made when it is asked for. */
export interface TextRoute {
  readonly url: string;
  readonly summary: string;
  readonly contentType: string;
  readonly text: () => Promise<string>;
}

export interface HttpApiOptions<Routes extends Readonly<Record<string, ApiRoute>>> {
  /** 0: any free one. Served on 127.0.0.1 alone. */
  readonly port: number;
  readonly title: string;
  readonly version: string;
  readonly routes: Routes;
  readonly handlers: ApiHandlers<Routes>;
  /** Beside the JSON. */
  readonly texts: readonly TextRoute[];
  /** HTTP status of an AppError's code; 500 for the rest. */
  readonly statusOf: Readonly<Record<string, number>>;
  readonly logger: Logger;
}

export interface HttpApi {
  readonly port: number;
  close(): Promise<void>;
}

const LOOPBACK = '127.0.0.1';
const MOST_BODY_BYTES = 65_536;

/**
 * Serves routes as JSON on loopback, and their OpenAPI description at `/openapi.json`. A name other than loopback's in `Host`
 * is refused: a page in a browser of this machine could have it resolve to us.
 * @throws AppError `port-taken`
 */
export async function serveHttpApi<Routes extends Readonly<Record<string, ApiRoute>>>(
  options: HttpApiOptions<Routes>,
): Promise<HttpApi> {
  const { port, title, version, routes, handlers, texts, logger } = options;
  const app = fastify({ bodyLimit: MOST_BODY_BYTES, requestTimeout: 10_000, forceCloseConnections: true });
  await app.register(swagger, { openapi: { openapi: '3.1.0', info: { title, version } } });
  app.addHook('onRequest', async ({ headers }) => {
    const name = (headers.host ?? '').replace(/:\d+$/, '');
    if (!['127.0.0.1', 'localhost', '[::1]'].includes(name)) {
      throw new AppError('foreign-host', 'This API answers to loopback names alone');
    }
  });
  app.setNotFoundHandler((_request, reply) => {
    void reply
      .code(404)
      .send({ code: 'route-unknown', message: 'There is no such route', remedy: 'See /openapi.json' });
  });
  app.setErrorHandler((error, _request, reply) => {
    const known = error instanceof AppError ? error : undefined;
    const status = known === undefined ? statusOfFastify(error) : statusOfApp(known, options.statusOf);
    if (status === 500) logger.error({ error: errorText(error) }, 'a request failed');
    void reply.code(status).send({
      code: known?.code ?? (status === 500 ? 'internal' : 'bad-request'),
      message: status === 500 ? 'The gateway could not do it; its log says why' : (error as Error).message,
      ...(known?.remedy === undefined ? {} : { remedy: known.remedy }),
    });
  });
  for (const [name, route] of Object.entries(routes)) addRoute(app, route, handlers[name as keyof Routes]);
  for (const { url, summary, contentType, text } of texts) {
    const response = { 200: { content: { 'text/plain': { schema: { type: 'string' } } } } };
    app.get(url, { schema: { summary, response } }, async (_request, reply) =>
      reply.type(contentType).send(await text()),
    );
  }
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
  try {
    await app.listen({ host: LOOPBACK, port });
  } catch (error) {
    throw new AppError('port-taken', `The HTTP port ${port} can't be had: ${errorText(error)}`, {
      remedy: 'Set another http.port',
    });
  }
  const address = app.server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    close: () => app.close(),
  };
}

function addRoute(app: FastifyInstance, route: ApiRoute, handler: (request: never) => unknown): void {
  const { method, url, summary, params, body, result } = route;
  const response = { '2xx': jsonSchema(result), '4xx': jsonSchema(apiFault) };
  app.route({
    method,
    url,
    schema: {
      summary,
      response,
      ...(params === undefined ? {} : { params: jsonSchema(params) }),
      ...(body === undefined ? {} : { body: jsonSchema(body) }),
    },
    // Checked by zod, which the JSON Schemas are made of; what leaves is ours already.
    validatorCompiler: () => () => true,
    serializerCompiler: () => (data) => JSON.stringify(data),
    handler: async (request) =>
      handler({ params: checked(params, request.params), body: checked(body, request.body) } as never),
  });
}

function checked(schema: z.ZodType | undefined, value: unknown): unknown {
  if (schema === undefined) return undefined;
  const parsed = parseJson(schema, value);
  if (parsed.ok) return parsed.value;
  throw new AppError('bad-request', parsed.fault, { remedy: 'See /openapi.json' });
}

function jsonSchema(schema: z.ZodType): object {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  return rest;
}

function statusOfApp(error: AppError, statusOf: Readonly<Record<string, number>>): number {
  if (error.code === 'bad-request') return 400;
  return error.code === 'foreign-host' ? 403 : (statusOf[error.code] ?? 500);
}

function statusOfFastify(error: unknown): number {
  const status = (error as { statusCode?: unknown }).statusCode;
  return typeof status === 'number' && status >= 400 && status < 500 ? status : 500;
}
