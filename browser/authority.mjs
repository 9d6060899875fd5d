// A small authorization server and one MCP server that wants its tokens, for the dashboard to sign in to.
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

const json = (response, status, body, headers = {}) => response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
const digest = (text) => createHash('sha256').update(text).digest('base64url');

async function textOf(request) {
  let text = '';
  for await (const part of request) text += part;
  return text;
}

/** Starts both on one port. `visits` grows with each sign-in page that was opened. */
export async function authority() {
  const world = { visits: 0, tokens: new Set(), codes: new Map() };
  const pages = {
    '/.well-known/oauth-protected-resource/mcp': (_, response) => json(response, 200, { resource: world.url, authorization_servers: [world.origin] }),
    '/.well-known/oauth-authorization-server': (_, response) => json(response, 200, {
      issuer: world.origin, authorization_endpoint: `${world.origin}/authorize`, token_endpoint: `${world.origin}/token`, registration_endpoint: `${world.origin}/register`,
      response_types_supported: ['code'], grant_types_supported: ['authorization_code', 'refresh_token'], code_challenge_methods_supported: ['S256'], token_endpoint_auth_methods_supported: ['none'],
    }),
    '/register': async (request, response) => json(response, 201, { ...JSON.parse(await textOf(request)), client_id: 'the-client', token_endpoint_auth_method: 'none' }),
    '/authorize': (_, response, query) => {
      world.visits += 1;
      const code = randomBytes(12).toString('hex');
      world.codes.set(code, query.get('code_challenge'));
      const back = new URL(query.get('redirect_uri'));
      back.searchParams.set('code', code);
      back.searchParams.set('state', query.get('state'));
      // A page, as real ones are: the person clicks.
      response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>Sign in</title><a id="allow" href="${back.href.replaceAll('&', '&amp;')}">Allow</a>`);
    },
    '/token': async (request, response) => {
      const form = new URLSearchParams(await textOf(request));
      const code = form.get('code');
      if (!world.codes.has(code) || world.codes.get(code) !== digest(form.get('code_verifier'))) return json(response, 400, { error: 'invalid_grant' });
      world.codes.delete(code);
      const token = randomBytes(16).toString('hex');
      world.tokens.add(token);
      return json(response, 200, { access_token: token, token_type: 'Bearer', expires_in: 3600, refresh_token: randomBytes(16).toString('hex'), scope: 'read' });
    },
    '/mcp': async (request, response) => {
      const token = (request.headers.authorization || '').replace(/^Bearer /, '');
      const text = await textOf(request);
      if (!world.tokens.has(token)) return json(response, 401, { error: 'unauthorized' }, { 'www-authenticate': `Bearer resource_metadata="${world.origin}/.well-known/oauth-protected-resource/mcp"` });
      if (request.method !== 'POST') return response.writeHead(405).end();
      const { id, method, params } = JSON.parse(text);
      if (id === undefined) return response.writeHead(202).end();
      const answers = {
        initialize: () => ({ protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'protected', version: '1.0.0' } }),
        ping: () => ({}),
        'tools/list': () => ({ tools: [{ name: 'hello', description: 'Says hello.', inputSchema: { type: 'object' } }] }),
      };
      const answer = answers[method];
      return json(response, 200, { jsonrpc: '2.0', id, ...(answer ? { result: answer() } : { error: { code: -32601, message: `no ${method} here` } }) });
    },
  };
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url, world.origin);
    const page = pages[pathname];
    if (!page) return response.writeHead(404).end();
    return Promise.resolve(page(request, response, searchParams)).catch(() => response.destroy());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  world.origin = `http://127.0.0.1:${server.address().port}`;
  world.url = `${world.origin}/mcp`;
  world.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return world;
}
