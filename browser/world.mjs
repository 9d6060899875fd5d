// A real Mainstay with real servers, and a real browser that looks at it.
import { spawn } from 'node:child_process';
import { mkdirSync, openSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

export const PATIENCE_MS = 60_000;
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const SERVER = fileURLToPath(new URL('./server.mjs', import.meta.url));

/** A config entry for the test's own server. */
export function ownServer(...flags) {
  return { command: process.execPath, args: [SERVER, ...flags.map(String)] };
}

/** Asks again and again until the answer is true; a level, so that nothing that happens in between is missed. */
export async function until(what, is) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    let last;
    try {
      const found = await is();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`waited in vain: ${what}${last ? ` (${last.message})` : ''}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

async function freePort() {
  const probe = createServer();
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** One running `mainstay serve` with its own config, socket and state. */
export class Mainstay {
  constructor(bin, dir) {
    this.bin = bin;
    this.dir = dir;
    this.config = join(dir, 'mcp.json');
    mkdirSync(dir, { recursive: true });
  }

  write(config) {
    writeFileSync(this.config, JSON.stringify(config, null, 2));
  }

  /** Starts it; on the port that it had before, if it ran before. */
  async start() {
    // Asked for by number, because a restarted one must be found at the same address.
    this.port = this.port || (await freePort());
    const log = openSync(join(this.dir, 'mainstay.log'), 'a');
    this.child = spawn(this.bin, ['serve', '--config', this.config, '--listen', `127.0.0.1:${this.port}`, '--socket', join(this.dir, 's.sock'), '--state-dir', join(this.dir, 'state')],
      { stdio: ['ignore', log, log] });
    this.ended = new Promise((resolve) => this.child.once('exit', resolve));
    await until('Mainstay answers', async () => {
      if (this.child.exitCode !== null) throw new Error(`Mainstay ended with ${this.child.exitCode}; see ${this.dir}/mainstay.log`);
      return (await fetch(`${this.origin}/healthz`)).ok;
    });
  }

  get origin() {
    return `http://127.0.0.1:${this.port}`;
  }

  async api(path) {
    const response = await fetch(`${this.origin}${path}`);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    return response.json();
  }

  async server(name) {
    return (await this.api('/api/v1/status')).servers.find((server) => server.name === name);
  }

  async connected(...names) {
    for (const name of names) await until(`${name} is connected`, async () => (await this.server(name)).state === 'connected');
  }

  async stop() {
    if (this.child.exitCode === null) this.child.kill('SIGTERM');
    await this.ended;
  }
}

/** A browser of its own, without anything from before, that writes down whatever a page should not do. */
export class Browser {
  static async open(executable, profile, options = {}) {
    const browser = new Browser();
    browser.context = await chromium.launchPersistentContext(profile, {
      executablePath: executable,
      headless: true,
      args: FLAGS,
      viewport: { width: 1280, height: 860 },
      ...options,
    });
    browser.context.setDefaultTimeout(PATIENCE_MS);
    browser.page = browser.context.pages()[0] || (await browser.context.newPage());
    browser.complaints = [];
    browser.strangers = [];
    browser.expectsLosses = false;
    browser.page.on('console', (message) => {
      if (message.type() !== 'error') return;
      // A refused request is told as an error by the browser itself; whether it was right is for the checks to say.
      const network = /Failed to load resource|net::ERR_/.test(message.text());
      if (!network || !browser.expectsLosses) browser.complaints.push(message.text());
    });
    browser.page.on('pageerror', (error) => browser.complaints.push(String(error.stack || error)));
    browser.page.on('request', (request) => {
      const url = new URL(request.url());
      if (url.protocol !== 'data:' && url.origin !== browser.origin) browser.strangers.push(request.url());
    });
    return browser;
  }

  async visit(mainstay, path = '') {
    this.origin = mainstay.origin;
    await this.page.goto(`${mainstay.origin}/${path}`);
  }

  close() {
    return this.context.close();
  }
}
