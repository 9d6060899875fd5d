// A real authorization server (npm `oidc-provider`: certified by the OpenID Foundation) and an MCP server that only takes
// its tokens, in one process, for scripts/proof. Refresh tokens rotate, and one that is used twice ends its whole grant.
//
// Faults, one by one on a fixed schedule, at the token endpoint: slow, 429, 500, and the crash between rotation and
// answer: the grant has moved on and nobody is told. From such a crash no client could recover alone, so the server does what
// those in the field do: a refresh token whose answer never left may be used once more.
//
// What it saw is at GET /ledger. It decides nothing about right and wrong; the driver does.
//
//   node authority.mjs --lifetime SECONDS --faults on|off
// The first line of its output is {"url": ...}.
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import Provider from 'oidc-provider';
import { createLocalJWKSet, generateKeyPair, exportJWK, jwtVerify } from 'jose';

const { values: given } = parseArgs({
  options: { lifetime: { type: 'string', default: '2' }, faults: { type: 'string', default: 'on' } },
});
const LIFETIME_S = Number(given.lifetime);
if (!Number.isInteger(LIFETIME_S) || LIFETIME_S < 1) throw new Error('--lifetime wants whole seconds, at least 1');
const FAULTS = given.faults === 'on';

// One of these befalls every third refresh, in this order.
const SCHEDULE = ['slow', '429', '500', 'crash'];
const SLOW_MS = 1_500;

const ledger = {
  refreshes: 0, // refresh requests that arrived
  rotations: 0, // refresh tokens that were exchanged for new ones
  reused: 0, // refresh tokens that came again although their answer had left
  early: 0, // refreshes of an access token that had most of its life before it
  revoked: 0, // grants that were ended
  grants: 0, // sign-ins
  errors: {}, // error answers of the token endpoint, by code
  faults: { slow: 0, 429: 0, 500: 0, crash: 0 },
  calls: 0, // calls answered by the MCP server
  refused: {}, // its 401s, by reason
};

// ---- storage: in memory, and it knows which answers were lost ----
const records = new Map();
const byGrant = new Map();
const answerLost = new Set();

class Store {
  constructor(name) { this.name = name; }
  key(id) { return `${this.name}:${id}`; }
  async upsert(id, payload) {
    records.set(this.key(id), { ...payload });
    if (payload.grantId) {
      if (!byGrant.has(payload.grantId)) byGrant.set(payload.grantId, new Set());
      byGrant.get(payload.grantId).add(this.key(id));
    }
    if (payload.uid) records.set(`uid:${payload.uid}`, this.key(id));
  }
  async find(id) {
    const record = records.get(this.key(id));
    if (record?.consumed && answerLost.has(this.key(id))) return { ...record, consumed: undefined };
    return record && { ...record };
  }
  async findByUid(uid) { const key = records.get(`uid:${uid}`); return key && records.get(key); }
  async findByUserCode() { return undefined; }
  async consume(id) {
    const record = records.get(this.key(id));
    if (!record) return;
    record.consumed = Math.floor(Date.now() / 1000);
    answerLost.delete(this.key(id));
  }
  async destroy(id) { records.delete(this.key(id)); }
  async revokeByGrantId(grantId) {
    for (const key of byGrant.get(grantId) ?? []) records.delete(key);
    byGrant.delete(grantId);
  }
}

// ---- the authorization server ----
const server = createServer();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const url = `http://127.0.0.1:${server.address().port}`;
const resource = `${url}/mcp`;

const keys = await generateKeyPair('ES256', { extractable: true });
const jwk = { ...(await exportJWK(keys.privateKey)), kid: 'proof', alg: 'ES256', use: 'sig' };
const publicKeys = createLocalJWKSet({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 'proof', alg: 'ES256' }] });

const provider = new Provider(url, {
  adapter: Store,
  jwks: { keys: [jwk] },
  scopes: ['openid', 'offline_access'],
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  cookies: { keys: ['a key for cookies of a test'] },
  pkce: { required: () => true },
  // MCP clients must not go on without it.
  discovery: { code_challenge_methods_supported: ['S256'] },
  rotateRefreshToken: true,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: LIFETIME_S, RefreshToken: 14 * 24 * 3600, Grant: 14 * 24 * 3600, AuthorizationCode: 60, Session: 3600,
    Interaction: 600, IdToken: 3600,
  },
  interactions: { url: (_ctx, interaction) => `/sign-in/${interaction.uid}` },
  findAccount: async (_ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: async (_ctx, indicator) => {
        if (indicator !== resource) throw new Error(`no such resource: ${indicator}`);
        return { scope: 'tools', audience: resource, accessTokenTTL: LIFETIME_S, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256' } } };
      },
      useGrantedResource: async () => true,
      defaultResource: async () => resource,
    },
  },
});
provider.on('grant.revoked', () => { ledger.revoked += 1; });
provider.on('refresh_token.consumed', () => { ledger.rotations += 1; });
provider.on('grant.error', (_ctx, error) => {
  const code = error.error ?? error.name;
  ledger.errors[code] = (ledger.errors[code] ?? 0) + 1;
});

// Whoever comes is ann, and agrees.
async function consent(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === 'login') return { login: { accountId: 'ann' } };
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid offline_access');
  grant.addResourceScope(resource, 'tools');
  ledger.grants += 1;
  return { consent: { grantId: await grant.save() } };
}

// ---- faults at the token endpoint ----
const issuedAt = new Map(); // refresh token -> when the access token beside it was issued
const pause = (ms) => new Promise((over) => setTimeout(over, ms));

provider.use(async (ctx, next) => {
  if (ctx.path !== '/token' || ctx.method !== 'POST') return next();
  const body = await read(ctx.req);
  ctx.req.body = body;
  const form = new URLSearchParams(body);
  const token = form.get('refresh_token');
  const isRefresh = form.get('grant_type') === 'refresh_token';
  let fault;
  if (isRefresh) {
    ledger.refreshes += 1;
    const id = `RefreshToken:${token}`;
    if (records.get(id)?.consumed && !answerLost.has(id)) ledger.reused += 1;
    const issued = issuedAt.get(token);
    if (issued && !answerLost.has(id) && Date.now() - issued < (LIFETIME_S * 1000) / 4) ledger.early += 1;
    if (FAULTS && ledger.refreshes % 3 === 0) fault = SCHEDULE[(ledger.refreshes / 3) % SCHEDULE.length];
    if (fault) ledger.faults[fault] += 1;
  }
  if (fault === 'slow') await pause(SLOW_MS);
  if (fault === '429') {
    ctx.set('retry-after', '1');
    ctx.status = 429;
    ctx.body = { error: 'temporarily_unavailable' };
    return undefined;
  }
  if (fault === '500') {
    ctx.status = 500;
    ctx.type = 'text/html';
    ctx.body = '<html><body>Oh dear</body></html>';
    return undefined;
  }
  await next();
  if (fault === 'crash') {
    answerLost.add(`RefreshToken:${token}`);
    ctx.respond = false;
    ctx.req.socket.destroy();
    return undefined;
  }
  if (ctx.status === 200 && ctx.body?.refresh_token) issuedAt.set(ctx.body.refresh_token, Date.now());
  return undefined;
});

async function read(stream) {
  let text = '';
  for await (const chunk of stream) {
    text += chunk;
    if (text.length > 1_000_000) throw new Error('too much');
  }
  return text;
}

// ---- the MCP server: one tool, one answer per request ----
const METADATA = '/.well-known/oauth-protected-resource/mcp';

async function whoIs(request) {
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  if (!token) return { why: 'missing' };
  try {
    const { payload } = await jwtVerify(token, publicKeys, { issuer: url, audience: resource });
    return { sub: payload.sub };
  } catch (error) {
    return { why: error.code ?? 'invalid' };
  }
}

async function mcp(request, response) {
  const { sub, why } = await whoIs(request);
  if (!sub) {
    ledger.refused[why] = (ledger.refused[why] ?? 0) + 1;
    const error = why === 'missing' ? '' : 'error="invalid_token", ';
    response.writeHead(401, { 'www-authenticate': `Bearer ${error}resource_metadata="${url}${METADATA}", scope="tools"` }).end();
    return;
  }
  if (request.method !== 'POST') {
    response.writeHead(405, { allow: 'POST' }).end();
    return;
  }
  const message = JSON.parse(await read(request));
  if (message.id === undefined) {
    response.writeHead(202).end();
    return;
  }
  const answer = answers(message, sub);
  response.writeHead(200, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ jsonrpc: '2.0', id: message.id, ...answer }));
}

function answers(message, sub) {
  switch (message.method) {
    case 'initialize':
      return { result: { protocolVersion: '2025-11-25', capabilities: { tools: {} }, serverInfo: { name: 'proof', version: '1' } } };
    case 'ping':
      return { result: {} };
    case 'tools/list':
      return { result: { tools: [{ name: 'whoami', inputSchema: { type: 'object' }, annotations: { readOnlyHint: false } }] } };
    case 'tools/call':
      ledger.calls += 1;
      return { result: { content: [{ type: 'text', text: sub }] } };
    default:
      return { error: { code: -32601, message: 'Method not found' } };
  }
}

// ---- all of it on one port ----
const oidc = provider.callback();
server.on('request', async (request, response) => {
  try {
    const path = new URL(request.url, url).pathname;
    if (path === '/ledger') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(ledger));
    } else if (path === METADATA) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ resource, authorization_servers: [url], scopes_supported: ['tools'] }));
    } else if (path === '/mcp') {
      await mcp(request, response);
    } else if (path.startsWith('/sign-in/')) {
      await provider.interactionFinished(request, response, await consent(request, response));
    } else {
      oidc(request, response);
    }
  } catch (error) {
    console.error(error);
    if (!response.headersSent) response.writeHead(500);
    response.end();
  }
});
process.on('SIGTERM', () => process.exit(0));
// Whoever started this is gone when its pipe closes.
process.stdin.on('end', () => process.exit(0)).resume();
console.log(JSON.stringify({ url }));
