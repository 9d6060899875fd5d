// Whether a sign-in outlives weeks: one grant of a real authorization server, used by several Mainstay processes that share
// a state directory, and by many callers of each, while its tokens live for seconds and its server has trouble.
//
//   node run.mjs --mainstay PROGRAM --folder DIR [--refreshes N] [--processes N] [--callers N]
//
// A token of an hour is refreshed 168 times in a week: so many refreshes are a week, however short they take. What counts is
// the ledger of the authorization server: no refresh token ever used twice, no token refreshed that had hardly been used, one
// sign-in, and every call answered.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: given } = parseArgs({
  options: {
    mainstay: { type: 'string' },
    folder: { type: 'string' },
    refreshes: { type: 'string', default: '24' },
    processes: { type: 'string', default: '4' },
    callers: { type: 'string', default: '100' },
    lifetime: { type: 'string', default: '2' },
  },
});
const [REFRESHES, PROCESSES, CALLERS, LIFETIME_S] = ['refreshes', 'processes', 'callers', 'lifetime'].map((name) => {
  const number = Number(given[name]);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${name} wants a whole number, at least 1`);
  return number;
});

// Faults make a refresh take some seconds; this is far beyond what is expected.
const DEADLINE_MS = 120_000 + REFRESHES * LIFETIME_S * 6_000;
// What a caller does between two calls.
const PAUSE_MS = 50;

const here = dirname(fileURLToPath(import.meta.url));
const runtime = mkdtempSync(join(tmpdir(), 'mainstay-proof-'));
mkdirSync(given.folder, { recursive: true });
const children = [];
const pause = (ms) => new Promise((over) => setTimeout(over, ms));

class Broken extends Error {}

function start(argv, name, env = {}) {
  const log = openSync(join(given.folder, `${name}.log`), 'w');
  const child = spawn(argv[0], argv.slice(1), { stdio: ['pipe', 'pipe', log], env: { ...process.env, ...env } });
  child.gone = new Promise((gone) => child.once('exit', gone));
  children.push(child);
  return child;
}

async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, fail) => { timer = setTimeout(() => fail(new Broken(`${what} took more than ${ms} ms`)), ms); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function until(ms, what, look) {
  const end = Date.now() + ms;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Broken(`not within ${ms} ms: ${what}`);
    await pause(100);
  }
}

const lines = (child) => createInterface({ input: child.stdout });
const firstLine = (child) => new Promise((line, fail) => {
  lines(child).once('line', line).once('close', () => fail(new Broken('it ended without a line')));
});

// ---- a person in front of a browser ----

// Follows redirects, keeps cookies, and ends at the address of whoever waits for the answer.
async function browse(url) {
  const cookies = new Map();
  let next = url;
  for (let hop = 0; hop < 20; hop += 1) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
    const response = await fetch(next, { redirect: 'manual', headers: cookie ? { cookie } : {} });
    for (const line of response.headers.getSetCookie()) {
      const [name, value] = line.split(';')[0].split(/=(.*)/s);
      cookies.set(name, value);
    }
    const location = response.headers.get('location');
    if (!location) {
      if (!response.ok) throw new Broken(`the browser was shown ${response.status} at ${new URL(next).pathname}`);
      return;
    }
    next = new URL(location, next).href;
  }
  throw new Broken('the browser was sent around in circles');
}

async function signIn(mainstay) {
  const argv = [given.mainstay, 'login', 'protected', '--no-browser', '--json', '--socket', mainstay.socket];
  const login = start(argv, 'login', mainstay.env);
  let visited = false;
  for await (const line of lines(login)) {
    const link = /https?:\/\/[^\s"]+/.exec(line)?.[0];
    if (link && !visited) {
      visited = true;
      await browse(link.replaceAll('\\u0026', '&'));
    }
  }
  const code = await within(30_000, 'mainstay login', login.gone);
  if (code !== 0) throw new Broken(`mainstay login ended with exit status ${code}; see login.log`);
}

// ---- Mainstay ----

async function mainstay(number, config) {
  const home = join(given.folder, 'home');
  const socket = join(runtime, `${number}.sock`);
  const env = { HOME: home, XDG_RUNTIME_DIR: runtime, XDG_STATE_HOME: join(home, 'state'), XDG_CONFIG_HOME: join(home, 'config') };
  const argv = [given.mainstay, 'serve', '--config', config, '--listen', '127.0.0.1:0', '--socket', socket, '--state-dir',
    join(given.folder, 'state'), '--log-format', 'json'];
  const child = start(argv, `mainstay-${number}`, env);
  lines(child).resume();
  const port = await until(30_000, `mainstay ${number} listens`, () => portOf(child.pid));
  return { child, socket, env, url: `http://127.0.0.1:${port}/servers/protected/mcp` };
}

// The port that a process listens on.
async function portOf(pid) {
  const { readdirSync, readlinkSync, readFileSync } = await import('node:fs');
  let sockets;
  try {
    sockets = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try { return /socket:\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? []; } catch { return []; }
    });
  } catch {
    throw new Broken('mainstay is gone; see its log');
  }
  for (const row of readFileSync(`/proc/${pid}/net/tcp`, 'utf8').split('\n').slice(1)) {
    const [, local, , state, , , , , , inode] = row.trim().split(/\s+/);
    if (state === '0A' && sockets.includes(inode)) return parseInt(local.split(':')[1], 16);
  }
  return undefined;
}

let ids = 0;

async function call(url) {
  ids += 1;
  const body = {
    jsonrpc: '2.0', id: ids, method: 'tools/call',
    params: {
      name: 'whoami', arguments: {},
      _meta: {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28', 'io.modelcontextprotocol/clientCapabilities': {},
        'io.modelcontextprotocol/clientInfo': { name: 'proof', version: '1' },
      },
    },
  };
  const response = await fetch(url, {
    method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(60_000),
    headers: {
      'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-protocol-version': '2026-07-28',
      'mcp-method': 'tools/call', 'mcp-name': 'whoami',
    },
  });
  const text = await response.text();
  const json = text.startsWith('{') ? text : text.split('\n').filter((line) => line.startsWith('data:')).at(-1)?.slice(5) ?? '';
  const answer = JSON.parse(json || 'null');
  if (answer?.result?.content?.[0]?.text !== 'ann') throw new Broken(`${response.status} ${text.slice(0, 400)}`);
}

// ---- the proof ----

const failures = [];
let answered = 0;
let slowest = 0;
let over = false;

async function caller(url) {
  while (!over) {
    const began = Date.now();
    try {
      await call(url);
      answered += 1;
      slowest = Math.max(slowest, Date.now() - began);
    } catch (error) {
      failures.push(String(error));
      if (failures.length > 20) over = true;
    }
    await pause(PAUSE_MS);
  }
}

function judge(ledger) {
  const wrong = [];
  const want = (holds, words) => { if (!holds) wrong.push(words); };
  want(failures.length === 0, `${failures.length} calls failed, the first: ${failures[0]}`);
  want(ledger.rotations >= REFRESHES, `${ledger.rotations} refreshes instead of ${REFRESHES}`);
  want(ledger.reused === 0, `${ledger.reused} refresh tokens were used twice`);
  want(ledger.early === 0, `${ledger.early} tokens were refreshed that had hardly been used`);
  want(ledger.revoked === 0, `${ledger.revoked} grants were ended`);
  want(ledger.grants === 1, `${ledger.grants} sign-ins instead of one`);
  want(!ledger.errors.invalid_grant, `${ledger.errors.invalid_grant} times invalid_grant`);
  want(Object.values(ledger.faults).every((count) => count > 0), `not every fault happened: ${JSON.stringify(ledger.faults)}`);
  return wrong;
}

async function run() {
  const authority = start(['node', join(here, 'authority.mjs'), '--lifetime', String(LIFETIME_S)], 'authority');
  const { url } = JSON.parse(await within(20_000, 'the authorization server', firstLine(authority)));
  const config = join(given.folder, 'mcp.json');
  writeFileSync(config, JSON.stringify({ mcpServers: { protected: { url: `${url}/mcp` } } }));
  const all = [];
  for (let number = 0; number < PROCESSES; number += 1) all.push(await mainstay(number, config));
  await signIn(all[0]);
  const ledger = async () => (await fetch(`${url}/ledger`)).json();
  // The others find what the first one was given.
  for (const one of all) await until(60_000, 'every process has the sign-in', () => call(one.url).then(() => true, () => false));
  console.log(`signed in once; ${PROCESSES} processes and ${CALLERS} callers until ${REFRESHES} refreshes of a ${LIFETIME_S} s token`);
  const began = Date.now();
  const callers = Array.from({ length: CALLERS }, (_, number) => caller(all[number % PROCESSES].url));
  let told = 0;
  await until(DEADLINE_MS, `${REFRESHES} refreshes`, async () => {
    const now = (await ledger()).rotations;
    if (now >= told + 24) {
      told = now;
      console.log(`  ${now} refreshes, ${answered} calls answered, ${failures.length} failed, ${Math.round((Date.now() - began) / 1000)} s`);
    }
    return over || now >= REFRESHES;
  });
  over = true;
  await Promise.all(callers);
  const seen = await ledger();
  console.log(JSON.stringify({ answered, failed: failures.length, slowestMs: slowest, ...seen }));
  const wrong = judge(seen);
  for (const words of wrong) console.error(`proof: ${words}`);
  return wrong.length === 0 ? 0 : 1;
}

let code = 1;
const told = new Promise((_, fail) => {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => fail(new Broken(`ended by ${signal}`)));
});
try {
  code = await Promise.race([run(), told]);
} catch (error) {
  console.error(`proof: ${error instanceof Broken ? error.message : error.stack}; logs are in ${given.folder}`);
} finally {
  for (const child of children) child.kill('SIGTERM');
  await Promise.race([Promise.all(children.map((child) => child.gone)), pause(20_000)]);
  for (const child of children) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  rmSync(runtime, { recursive: true, force: true });
}
process.exit(code);
