// What the dashboard must do, in a real browser against a real Mainstay. No check sleeps: each waits until something is so.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { authority } from './authority.mjs';
import { HOSTILE } from './hostile.mjs';
import { ownServer, until } from './world.mjs';

const AXE = readFileSync(fileURLToPath(new URL('./node_modules/axe-core/axe.min.js', import.meta.url)), 'utf8');

const VIEWS = ['servers', 'servers/one', 'catalog', 'catalog/tools/one__order', 'calls', 'events', 'held-back', 'config', 'endpoints'];

async function start(mainstay, servers, more = {}) {
  mainstay.write({ mcpServers: servers, ...more });
  await mainstay.start();
}

const row = (page, name) => page.locator('table.servers tbody tr', { has: page.getByRole('link', { name, exact: true }) });

/** Waits until a view has what it shows after its questions were answered. */
async function settled(page) {
  await page.locator('#main h1').waitFor();
  await page.waitForFunction(() => live.status !== null && document.querySelector('#main').textContent.length > 40);
}

/** What sticks out of the page, by name; empty if the page cannot be scrolled sideways. */
const sticksOut = (page) => page.evaluate(() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return [];
  const out = [...document.querySelectorAll('body *')].filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1);
  return [`${root.scrollWidth} wide`, ...out.map((one) => `${one.tagName}.${one.className}`).slice(0, 5)];
});

async function statesChange({ mainstay, open, dir }) {
  const hold = join(dir, 'hold');
  await start(mainstay, { one: ownServer('--hold', hold), two: ownServer() });
  await mainstay.connected('one', 'two');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay);
  await row(page, 'one').getByText('Connected', { exact: true }).waitFor();
  await page.locator('#link[data-link="live"]').waitFor();
  const before = await mainstay.server('one');
  // Killed for real, and kept from coming back: the page says so in words.
  writeFileSync(hold, '');
  process.kill(before.pid, 'SIGKILL');
  await row(page, 'one').getByText(/^(Connecting|Backoff)$/).waitFor();
  assert.equal(await row(page, 'two').locator('.chip-word').textContent(), 'Connected');
  await page.waitForFunction(() => /one is (connecting|backoff|draining)/.test(document.getElementById('say').textContent));
  rmSync(hold);
  await row(page, 'one').getByText('Connected', { exact: true }).waitFor();
  const after = await mainstay.server('one');
  assert.ok(after.generation > before.generation && after.pid !== before.pid);
  // Its own page tells the story, newest first.
  await page.getByRole('link', { name: 'one', exact: true }).click();
  await page.locator('.history li').nth(2).waitFor();
  assert.equal(await page.locator('.history .chip-word').first().textContent(), 'Connected');
  await page.locator('.log').getByText(`server ${after.pid} is starting`).waitFor();
}

async function filters({ mainstay, open }) {
  await start(mainstay, { one: ownServer(), two: { command: 'there-is-no-such-program' } });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay);
  await row(page, 'two').getByText('Parked', { exact: true }).waitFor();
  assert.equal(await page.locator('table.servers tbody .name').first().textContent(), 'two', 'trouble comes first');
  await page.getByRole('combobox', { name: 'State' }).selectOption('connected');
  await row(page, 'two').waitFor({ state: 'detached' });
  await page.getByRole('combobox', { name: 'State' }).selectOption('');
  await page.getByLabel('Filter').fill('no-such-program');
  await row(page, 'one').waitFor({ state: 'detached' });
  await row(page, 'two').waitFor();
  await page.getByLabel('Filter').fill('nothing is like this');
  await page.getByText('No server is like that').waitFor();
}

async function triesACall({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay, '#/catalog');
  await page.getByLabel('Search').fill('order');
  await page.locator('.items').getByRole('link', { name: /^order/ }).click();
  const form = page.getByRole('form', { name: 'Try order' });
  const send = form.getByRole('button', { name: 'Call', exact: true });
  // Refused by the form: what is wrong is said, and the first wrong field has the focus.
  await form.getByLabel('title').fill('ab');
  await form.getByLabel('amount').fill('eleven');
  await send.click();
  await form.getByRole('alert').getByText('fields are not right yet').waitFor();
  await form.getByText('At least 3 characters, please.', { exact: true }).waitFor();
  await form.getByText('This is not a number.', { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.labels[0].textContent.startsWith('title')), true);
  assert.equal((await mainstay.server('one')).counts.answered, 0, 'nothing was sent');
  await form.getByLabel('title').fill('Tea');
  await form.getByLabel('amount').fill('7');
  await form.getByLabel('price').fill('2.5');
  await form.getByLabel('urgent').selectOption('true');
  await form.getByLabel('size').selectOption({ label: 'middle' });
  const tags = form.getByRole('group', { name: /^tags/ });
  await tags.getByRole('button', { name: 'Add item' }).click();
  await page.keyboard.type('green');
  await tags.getByRole('button', { name: 'Add item' }).click();
  await page.keyboard.type('loose');
  await form.getByLabel('city').fill('Ulm');
  await form.getByLabel('code').fill('8907');
  await form.getByLabel('extra').fill('{"gift": true');
  await form.getByLabel('kind').selectOption({ label: 'A gift' });
  await send.click();
  await form.getByText(/This is no JSON/).first().waitFor();
  await form.getByText('This does not look like', { exact: false }).first().waitFor();
  await form.getByLabel('code').fill('89073');
  await form.getByLabel('extra').fill('{"gift": true}');
  await send.click();
  await page.locator('.result .tag', { hasText: 'Answered' }).waitFor();
  const understood = JSON.parse(await page.locator('.result pre.text').textContent());
  assert.deepEqual(understood, {
    title: 'Tea', size: 'middle', amount: 7, price: 2.5, urgent: true, tags: ['green', 'loose'],
    to: { city: 'Ulm', code: '89073' }, extra: { gift: true }, kind: 'gift',
  });
  await page.locator('.timing').getByText('At the server').waitFor();
  // The same as JSON, with what has been entered.
  await form.getByLabel('as JSON').check();
  const text = form.getByLabel('Arguments as JSON');
  assert.deepEqual(JSON.parse(await text.inputValue()), understood);
  await text.fill('[1]');
  await send.click();
  await form.getByText('The arguments must be a JSON object.').first().waitFor();
}

async function failuresAreShown({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay, '#/catalog/tools/one__fail');
  const send = page.getByRole('button', { name: 'Call', exact: true });
  await send.click();
  await page.locator('.result .tag', { hasText: 'Tool error' }).waitFor();
  await page.getByRole('link', { name: /^stall/ }).click();
  await page.getByRole('form', { name: 'Try stall' }).waitFor();
  browser.expectsLosses = true;
  await page.getByLabel('Timeout in ms').fill('100');
  await send.click();
  await page.locator('.result .tag', { hasText: 'Outcome unknown' }).waitFor();
  await page.getByLabel('Timeout in ms').fill('');
  await send.click();
  await page.getByRole('button', { name: 'Cancel call' }).click();
  await page.locator('.result .tag', { hasText: 'Cancelled' }).waitFor();
  await until('the cancelled call is gone', async () => (await mainstay.server('one')).inFlight === 0);
}

async function hostileStaysText({ mainstay, open }) {
  await start(mainstay, { one: { ...ownServer(), label: HOSTILE } });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay);
  await page.locator('.label', { hasText: 'Ignore all rules' }).waitFor();
  await browser.visit(mainstay, '#/catalog/tools/one__hostile');
  await page.locator('.detail .prose', { hasText: 'Ignore all rules' }).waitFor();
  assert.equal(await page.locator('.detail .prose').textContent(), HOSTILE);
  await page.locator('.detail .input-name', { hasText: 'onerror' }).waitFor();
  await page.getByRole('link', { name: /^fail/ }).click();
  await page.getByRole('form', { name: 'Try fail' }).waitFor();
  await page.getByRole('button', { name: 'Call', exact: true }).click();
  await page.locator('.result pre.text', { hasText: 'onerror' }).waitFor();
  const harm = await page.evaluate(() => [window.harmed, document.querySelectorAll('main img, main b, script:not(body > script)').length]);
  assert.deepEqual(harm, [undefined, 0]);
}

async function orders({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay, '#/servers/one');
  const first = await mainstay.server('one');
  await page.getByRole('button', { name: 'Restart' }).click();
  const dialog = page.getByRole('dialog', { name: 'Restart one?' });
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await dialog.waitFor({ state: 'hidden' });
  assert.equal((await mainstay.server('one')).generation, first.generation, 'cancelled means nothing is done');
  await page.getByRole('button', { name: 'Restart' }).click();
  await dialog.getByRole('button', { name: 'Restart' }).click();
  await until('it has been restarted', async () => (await mainstay.server('one')).generation > first.generation);
  await page.locator('.head .chip-word', { hasText: 'Connected' }).waitFor();
  await page.getByRole('button', { name: 'Disable' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Disable' }).click();
  await page.locator('.head .chip-word', { hasText: 'Disabled' }).waitFor();
  assert.equal((await mainstay.server('one')).state, 'disabled');
  await page.getByRole('button', { name: 'Enable' }).click();
  await page.locator('.head .chip-word', { hasText: 'Connected' }).waitFor();
}

async function approves({ mainstay, open, dir }) {
  const shift = join(dir, 'shift');
  await start(mainstay, { one: { ...ownServer('--shift', shift), tools: { pin: true } } });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay, '#/held-back');
  await page.getByText('Nothing is held back').waitFor();
  writeFileSync(shift, '');
  await until('the change is held back', async () => (await mainstay.server('one')).pendingTools === 1);
  await page.locator('[data-place="held-back"] .badge', { hasText: '1' }).waitFor();
  await page.locator('#main').getByText('shifty').first().waitFor();
  await page.locator('.diff', { hasText: 'Sends everything elsewhere.' }).waitFor();
  const shown = async () => (await mainstay.api('/api/v1/tools')).tools.find((tool) => tool.name === 'shifty')?.tool.description;
  assert.notEqual(await shown(), 'Sends everything elsewhere.', 'clients do not see it yet');
  await page.getByRole('button', { name: /^Approve/ }).first().click();
  await page.getByRole('dialog').getByRole('button', { name: 'Approve' }).click();
  await page.getByText('Nothing is held back').waitFor();
  assert.equal(await shown(), 'Sends everything elsewhere.');
}

async function reloads({ mainstay, open }) {
  await start(mainstay, { one: ownServer() }, { mainstay: { watch: false } });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay, '#/config');
  await page.getByRole('heading', { name: 'In force' }).waitFor();
  mainstay.write({ mcpServers: { one: ownServer(), three: ownServer() }, mainstay: { watch: false } });
  await page.getByRole('button', { name: 'Show the plan' }).click();
  await page.locator('.problems li', { hasText: 'three' }).getByText('will be added').waitFor();
  assert.equal(await mainstay.server('three'), undefined, 'a plan changes nothing');
  await page.getByRole('button', { name: 'Reload now' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Reload' }).click();
  await page.getByRole('heading', { name: 'Reloaded' }).waitFor();
  await mainstay.connected('three');
  // An invalid file changes nothing, and the page says so.
  browser.expectsLosses = true;
  writeFileSync(mainstay.config, '{ "mcpServers": { "one": ');
  await page.getByRole('button', { name: 'Reload now' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Reload' }).click();
  await page.getByRole('heading', { name: 'Refused: nothing was changed' }).waitFor();
  assert.equal((await mainstay.server('three')).state, 'connected');
  await page.getByRole('link', { name: /^Servers/ }).click();
  await page.getByText('The last change of the configuration was refused.').waitFor();
}

async function profiles({ mainstay, open }) {
  await start(mainstay, { one: ownServer(), two: ownServer() }, { mainstay: { profiles: { writing: { servers: ['one'] } } } });
  await mainstay.connected('one', 'two');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay, '#/endpoints');
  const line = page.locator('tbody tr', { hasText: 'writing' });
  await line.getByText('/profiles/writing/mcp', { exact: true }).waitFor();
  assert.match(await line.textContent(), /one/);
  assert.doesNotMatch(await line.textContent(), /two/);
}

async function callsAndEvents({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  const call = (tool) => fetch(`${mainstay.origin}/api/v1/servers/one/call`, {
    method: 'POST', headers: { 'mainstay-request': '1' }, body: JSON.stringify({ tool, arguments: {} }),
  });
  await call('fail');
  await browser.visit(mainstay, '#/calls');
  await page.locator('.calls tbody tr', { hasText: 'fail' }).getByText('Tool error').waitFor();
  await call('shifty');
  await page.locator('.calls tbody tr', { hasText: 'shifty' }).getByText('Answered').waitFor();
  assert.match(await page.locator('.calls tbody tr').first().textContent(), /shifty/, 'newest first');
  await page.getByRole('button', { name: 'Pause' }).click();
  await call('order');
  await page.getByRole('button', { name: 'Go on (1 new)' }).click();
  await page.locator('.calls tbody tr', { hasText: 'order' }).waitFor();
  await page.getByRole('link', { name: 'Events' }).click();
  await page.locator('.calls tbody tr', { hasText: 'Connecting → Connected' }).first().waitFor();
  process.kill((await mainstay.server('one')).pid, 'SIGKILL');
  await until('the death is told', async () => (await page.locator('.calls tbody tr', { hasText: 'Connecting → Connected' }).count()) > 1);
}

async function keyboardOnly({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay);
  await row(page, 'one').waitFor();
  const focused = () => page.evaluate(() => {
    const one = document.activeElement;
    return (one.getAttribute('aria-label') || one.labels?.[0]?.textContent || one.textContent || one.tagName).trim();
  });
  const tabTo = async (wanted, key = 'Tab') => {
    for (let steps = 0; steps < 60; steps += 1) {
      await page.keyboard.press(key);
      const at = await focused();
      const ring = await page.evaluate(() => document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none');
      assert.ok(ring, `the focus is not to be seen on ${at}`);
      if (wanted.test(at)) return;
    }
    assert.fail(`the keyboard does not reach ${wanted}; it is at ${await focused()}`);
  };
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to the content');
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
  await tabTo(/^Filter/);
  await page.keyboard.type('on');
  await tabTo(/^one$/);
  await page.keyboard.press('Enter');
  await page.locator('h1', { hasText: 'one' }).waitFor();
  assert.equal(await focused(), 'one', 'the heading of the new view has the focus');
  await tabTo(/^Disable$/);
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  assert.equal(await focused(), 'Cancel', 'the harmless answer first');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'hidden' });
  assert.equal(await focused(), 'Disable', 'the focus is where it was');
  await tabTo(/^Catalog/, 'Shift+Tab');
  await page.keyboard.press('Enter');
  await page.locator('.items li').first().waitFor();
  await page.keyboard.press('/');
  assert.match(await focused(), /^Search/);
  await page.keyboard.type('order');
  await page.waitForFunction(() => document.querySelectorAll('.items li').length === 1);
  await tabTo(/^order/);
  await page.keyboard.press('Enter');
  await page.getByRole('form', { name: 'Try order' }).waitFor();
  await tabTo(/^title/);
  await page.keyboard.type('Coffee');
  await tabTo(/^size/);
  await page.keyboard.press('ArrowDown');
  await tabTo(/^Call$/);
  await page.keyboard.press('Enter');
  await page.locator('.result .tag', { hasText: 'Answered' }).waitFor();
}

async function accessible({ mainstay, open }) {
  await start(mainstay, { one: ownServer(), two: { command: 'there-is-no-such-program' }, three: { ...ownServer(), enabled: false }, four: { ...ownServer(), startup: 'lazy' } });
  await mainstay.connected('one');
  for (const colorScheme of ['light', 'dark']) {
    const browser = await open({ colorScheme, bypassCSP: true });
    const { page } = browser;
    browser.expectsLosses = true;
    for (const view of VIEWS) {
      await browser.visit(mainstay, `#/${view}`);
      await settled(page);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ['violations'] }));
      const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
      assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`)]), [], `${view}, ${colorScheme}`);
    }
  }
}

async function narrowAndWide({ mainstay, open }) {
  const long = 'a-name-without-any-place-to-break-it-that-goes-on-and-on-and-on-until-it-is-too-long';
  await start(mainstay, { one: ownServer(), [long]: { command: `${long}${long}` } });
  await mainstay.connected('one');
  for (const width of [360, 1600]) {
    const browser = await open({ viewport: { width, height: 800 } });
    browser.expectsLosses = true;
    for (const view of [...VIEWS, `servers/${long}`]) {
      await browser.visit(mainstay, `#/${view}`);
      await settled(browser.page);
      assert.deepEqual(await sticksOut(browser.page), [], `${view} at ${width}`);
    }
  }
}

async function themes({ mainstay, open }) {
  await start(mainstay, {});
  const browser = await open({ colorScheme: 'light' });
  const { page } = browser;
  await browser.visit(mainstay);
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await back();
  await page.getByRole('combobox', { name: 'Colours' }).selectOption('dark');
  const dark = await back();
  assert.notEqual(dark, light);
  await page.reload();
  assert.equal(await back(), dark, 'remembered');
  await page.getByRole('combobox', { name: 'Colours' }).selectOption('');
  assert.equal(await back(), light, 'the system says so');
  await page.emulateMedia({ colorScheme: 'dark' });
  assert.equal(await back(), dark);
}

async function manyOfAll({ mainstay, open }) {
  const servers = { big: ownServer('--tools', 2000) };
  for (let number = 1; number < 50; number += 1) servers[`server-${String(number).padStart(2, '0')}`] = { command: 'there-is-no-such-program' };
  await start(mainstay, servers);
  await mainstay.connected('big');
  const browser = await open();
  const { page } = browser;
  await page.addInitScript(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({ type: 'longtask', buffered: true });
  });
  await browser.visit(mainstay);
  await page.waitForFunction(() => document.querySelectorAll('table.servers tbody tr').length === 50);
  await page.getByRole('link', { name: 'Catalog' }).click();
  await page.getByText('2,005 of 2,005').waitFor();
  await page.getByLabel('Search').fill('number 1999');
  await page.getByText('1 of 2,005').waitFor();
  await page.getByLabel('Search').fill('');
  await page.getByText('2,005 of 2,005').waitFor();
  await page.getByRole('button', { name: /^Show 200 more/ }).click();
  await page.waitForFunction(() => document.querySelectorAll('.items li').length === 400);
  // Generous, because the machine may be busy with other things: a page that draws everything at once takes far longer.
  assert.ok((await page.evaluate(() => window.longest)) < 3000, 'the page was frozen');
}

async function comesBack({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay);
  await page.locator('#link[data-link="live"]').waitFor();
  browser.expectsLosses = true;
  await mainstay.stop();
  await page.locator('#link', { hasText: 'Mainstay does not answer; trying again' }).waitFor();
  await page.waitForFunction(() => document.getElementById('say').textContent.includes('Mainstay does not answer.'));
  mainstay.write({ mcpServers: { one: ownServer(), later: ownServer() } });
  await mainstay.start();
  await page.locator('#link[data-link="live"]').waitFor();
  await row(page, 'later').getByText('Connected', { exact: true }).waitFor();
  // The events flow again, too.
  process.kill((await mainstay.server('later')).pid, 'SIGKILL');
  await page.getByRole('link', { name: 'Events' }).click();
  await page.locator('tbody tr', { hasText: 'later' }).first().waitFor();
}

async function otherPagesGetNothing({ mainstay, open }) {
  await start(mainstay, { one: ownServer() });
  await mainstay.connected('one');
  const browser = await open();
  const { page } = browser;
  browser.expectsLosses = true;
  // Another port of the same machine is another origin: the page of some other program.
  const form = `<form method="post" action="${mainstay.origin}/api/v1/servers/one/disable"><button>go</button></form>`;
  const other = createServer((_, response) => response.setHeader('content-type', 'text/html').end(`<title>other</title><iframe src="${mainstay.origin}/"></iframe>${form}`));
  await new Promise((resolve) => other.listen(0, '127.0.0.1', resolve));
  await page.goto(`http://127.0.0.1:${other.address().port}/`);
  const before = (await mainstay.server('one')).generation;
  const told = await page.evaluate(async (origin) => {
    const attempt = async (path, options) => {
      try {
        return (await fetch(`${origin}${path}`, options)).status;
      } catch {
        return 'kept from it';
      }
    };
    return [
      await attempt('/api/v1/status'),
      await attempt('/api/v1/servers/one/restart', { method: 'POST', headers: { 'mainstay-request': '1' } }),
      await attempt('/api/v1/servers/one/restart', { method: 'POST' }),
      await attempt('/api/v1/servers/one/restart', { method: 'POST', mode: 'no-cors' }),
    ];
  }, mainstay.origin);
  assert.deepEqual(told, ['kept from it', 'kept from it', 'kept from it', 'kept from it']);
  const framed = page.frames().find((frame) => frame !== page.mainFrame());
  assert.equal(await framed.locator('#places').count(), 0, 'the dashboard is not to be framed');
  await page.getByRole('button', { name: 'go' }).click();
  await page.waitForURL(`${mainstay.origin}/**`);
  other.closeAllConnections();
  other.close();
  const server = await mainstay.server('one');
  assert.deepEqual([server.generation, server.state], [before, 'connected']);
  browser.strangers.length = 0;
  browser.complaints.length = 0;
}

/** Law 11: the page asks, the person opens; a tab of its own comes back signed in. */
async function signsIn({ mainstay, open }) {
  const world = await authority();
  await start(mainstay, { one: { url: world.url } });
  await until('one needs a login', async () => (await mainstay.server('one')).signIn?.state === 'needed');
  const browser = await open();
  const { page } = browser;
  await browser.visit(mainstay);
  await row(page, 'one').getByRole('link', { name: 'Sign in to one' }).click();
  const signIn = page.getByRole('button', { name: 'Sign in', exact: true });
  await signIn.focus();
  await page.keyboard.press('Enter');
  const card = page.getByRole('region', { name: 'Sign in' });
  const link = card.getByRole('link', { name: 'Open the sign-in page' });
  await link.waitFor();
  assert.equal(world.visits, 0, 'nothing is opened before the person does');
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Open the sign-in page', 'the focus is on the way on');
  await card.getByRole('status').getByText('Waiting until you have signed in').waitFor();
  assert.equal(await link.getAttribute('rel'), 'noopener noreferrer');
  const [tab] = await Promise.all([page.context().waitForEvent('page'), page.keyboard.press('Enter')]);
  await tab.getByRole('link', { name: 'Allow' }).click();
  await tab.getByRole('heading', { name: 'Signed in to one' }).waitFor();
  assert.equal(await tab.evaluate(() => window.opener), null);
  assert.equal(await tab.evaluate(() => document.scripts.length), 0);
  await page.getByText('Signed in to one').waitFor();
  await page.locator('.head .chip-word', { hasText: 'Connected' }).waitFor();
  await card.waitFor({ state: 'hidden' });
  assert.equal(world.visits, 1);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('Signed out of one').waitFor();
  await signIn.waitFor();
  // A code on another device is offered, and what is wrong with it is said.
  await signIn.click();
  await card.getByText('It ended at a page that does not load', { exact: false }).click();
  await card.getByLabel('Address at which the browser ended').fill('http://127.0.0.1:1/?state=x');
  browser.expectsLosses = true;
  await card.getByRole('button', { name: 'Finish' }).click();
  await page.getByRole('alert').getByText('does not belong to this sign-in', { exact: false }).waitFor();
  await card.getByRole('button', { name: 'Give up' }).click();
  await card.waitFor({ state: 'hidden' });
  world.close();
}

export const CHECKS = [
  ['states change on the page when a server is killed and recovers', statesChange],
  ['trouble comes first, and filters filter', filters],
  ['a tool is tried through the form that its schema makes', triesACall],
  ['failed calls are shown as what they are', failuresAreShown],
  ['a hostile description stays text', hostileStaysText],
  ['restart, disable and enable, each asked for first', orders],
  ['a held back tool is shown and approved', approves],
  ['the configuration is planned, reloaded and refused', reloads],
  ['profiles are shown with their endpoints', profiles],
  ['calls and events are live', callsAndEvents],
  ['everything with the keyboard alone', keyboardOnly],
  ['accessible in both themes', accessible],
  ['narrow and wide without scrolling sideways', narrowAndWide],
  ['dark and light, by the system and by choice', themes],
  ['fifty servers and two thousand tools', manyOfAll],
  ['the page comes back after Mainstay did', comesBack],
  ['pages of others get nothing', otherPagesGetNothing],
  ['signing in and out, by whoever sits there', signsIn],
];
