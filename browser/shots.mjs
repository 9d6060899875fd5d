// Pictures of the dashboard: every view, both themes, wide and narrow. `node shots.mjs DIR`, started by
// `scripts/browser-test --shots DIR`.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Browser, Mainstay, ownServer, until } from './world.mjs';

const out = process.argv[2];
mkdirSync(out, { recursive: true });
const dir = mkdtempSync(join(tmpdir(), 'mainstay-shots-'));
const shift = join(dir, 'shift');
const mainstay = new Mainstay(process.env.MAINSTAY_BIN, join(dir, 'mainstay'));
mainstay.write({
  mcpServers: {
    files: { ...ownServer('--tools', 14), label: 'project files' },
    search: { ...ownServer('--tools', 40) },
    orders: { ...ownServer('--shift', shift), tools: { pin: true } },
    tickets: { command: 'sh', args: ['-c', 'echo "cannot reach the tracker" >&2; exit 1'], label: 'issue tracker' },
    calendar: { command: 'calendar-mcp-that-is-not-there' },
    database: { command: 'sh', args: ['-c', 'echo "loading 3 of 9 schemas" >&2; exec cat >/dev/null'] },
    notes: { ...ownServer(), enabled: false },
    mail: { ...ownServer('--tools', 9), startup: 'lazy' },
  },
});
await mainstay.start();
await mainstay.connected('files', 'search', 'orders');
const post = (path, body) => fetch(`${mainstay.origin}${path}`, { method: 'POST', headers: { 'mainstay-request': '1' }, body: JSON.stringify(body) });
for (let round = 0; round < 25; round += 1) {
  await post('/api/v1/servers/files/call', { tool: `tool_${round % 9}`, arguments: { text: 'x'.repeat(round * 40) } });
  if (round % 4 === 0) await post('/api/v1/servers/search/call', { tool: 'fail' });
}
writeFileSync(shift, '');
await until('tickets is parked or waits', async () => ['parked', 'backoff'].includes((await mainstay.server('tickets')).state));
const widths = (process.argv[3] || '1600,1100,360').split(',').map(Number);
for (const theme of ['light', 'dark']) {
  for (const width of widths) {
    const profile = mkdtempSync(join(dir, 'profile-'));
    const browser = await Browser.open(process.env.CHROMIUM_BIN, profile, { viewport: { width, height: width < 500 ? 780 : 960 }, colorScheme: theme });
    const { page } = browser;
    const shot = async (name, view, ready) => {
      await browser.visit(mainstay, view);
      await page.locator(ready).first().waitFor();
      await page.locator('#link[data-link="live"]').waitFor();
      await page.screenshot({ path: join(out, `${name}-${theme}-${width}.png`) });
    };
    await shot('servers', '#/servers', 'table.servers tbody tr');
    await shot('server', '#/servers/files', '.facts div');
    await shot('parked', '#/servers/tickets', '.facts div');
    await shot('catalog', `#/catalog/tools/${encodeURIComponent('orders__order')}`, '.try .fields');
    await page.locator('.try .fields textarea, .try .fields input').first().fill('Tea');
    await page.getByLabel('size').selectOption({ label: 'middle' });
    await page.getByRole('button', { name: 'Call', exact: true }).click();
    await page.locator('.result .tag').waitFor();
    await page.screenshot({ path: join(out, `result-${theme}-${width}.png`), fullPage: true });
    await shot('calls', '#/calls', '#main h1');
    await shot('events', '#/events', '#main tbody tr');
    await shot('config', '#/config', '#main h1');
    await shot('held', '#/held-back', '#main h1');
    await shot('endpoints', '#/endpoints', '#main tbody tr');
    if (browser.complaints.length) console.error(`${theme} ${width}: ${browser.complaints.join('\n')}`);
    await browser.close();
  }
}
await mainstay.stop();
rmSync(dir, { recursive: true, force: true });
console.log(`pictures are in ${out}`);
