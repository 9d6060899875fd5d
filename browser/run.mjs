// Runs the checks of the dashboard one after the other, each with a page of its own. `node run.mjs [WORD]`, started by
// `scripts/browser-test`; a word picks the checks that have it in their names.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CHECKS } from './checks.mjs';
import { Browser, Mainstay } from './world.mjs';

const { MAINSTAY_BIN: bin, CHROMIUM_BIN: chromium, BROWSER_RUN: run } = process.env;
const wanted = process.argv[2] || '';
const dir = mkdtempSync(join(tmpdir(), 'mainstay-browser-'));
mkdirSync(run, { recursive: true });

let failed = 0;
let passed = 0;
for (const [name, check] of CHECKS.filter(([name]) => name.includes(wanted))) {
  const place = mkdtempSync(join(dir, 'check-'));
  const mainstay = new Mainstay(bin, join(place, 'mainstay'));
  const browsers = [];
  const open = async (options) => {
    const browser = await Browser.open(chromium, mkdtempSync(join(place, 'profile-')), options);
    browsers.push(browser);
    return browser;
  };
  const began = Date.now();
  try {
    await check({ mainstay, open, dir: place });
    for (const { complaints, strangers } of browsers) {
      if (complaints.length) throw new Error(`the page complained: ${complaints.join('\n')}`);
      if (strangers.length) throw new Error(`the page asked others: ${strangers.join('\n')}`);
    }
    passed += 1;
    console.log(`ok      ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
    const picture = join(run, `${name.replaceAll(/[^a-z0-9]+/gi, '-')}.png`);
    await browsers.at(-1)?.page.screenshot({ path: picture }).then(() => console.log(`        picture: ${picture}`), () => {});
    for (const { complaints } of browsers) if (complaints.length) console.log(`        console: ${complaints.join('\n')}`);
  }
  for (const browser of browsers) await browser.close().catch(() => {});
  if (mainstay.child) await mainstay.stop();
}
rmSync(dir, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
if (!passed && !failed) console.log(`no check has \`${wanted}\` in its name`);
process.exit(failed || !passed ? 1 : 0);
