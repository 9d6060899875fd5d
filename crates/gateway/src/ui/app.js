// The page: what is known of Mainstay, which view is open, and the link to it all.

const POLL_MS = 2000;
const PULSE_MAX = 40;

/** What is known at the moment. */
const live = { status: null, servers: new Map(), pulse: new Map(), answered: new Map(), stream: 'lost', at: 0, version: null };

const VIEWS = [
  ['servers', serversView], ['catalog', catalogView], ['calls', callsView], ['events', eventsView],
  ['held-back', changesView], ['config', configView], ['endpoints', profilesView],
];

let view = null;
let refreshTimer = 0;
let refreshing = false;
let again = false;

/** Asks for the status soon: now, or when the running question is answered. */
function refreshSoon(ms) {
  clearTimeout(refreshTimer);
  refreshTimer = setTimeout(refresh, ms);
}

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  clearTimeout(refreshTimer);
  const patience = new AbortController();
  const deadline = setTimeout(() => patience.abort(), 8000);
  try {
    took(await api.get('/api/v1/status', patience.signal));
  } catch (error) {
    lost(error);
  } finally {
    clearTimeout(deadline);
    refreshing = false;
    refreshSoon(again ? 0 : document.hidden ? POLL_MS * 5 : POLL_MS);
    again = false;
  }
}

function took(status) {
  const before = live.servers;
  live.servers = new Map(status.servers.map((server) => [server.name, server]));
  if (live.version && live.version !== status.version) note('Mainstay is another version now: reload this page.', 'bad');
  live.version = status.version;
  live.status = status;
  live.at = Date.now();
  for (const server of status.servers) {
    const total = callsOf(server);
    const last = live.answered.get(server.name);
    const pulse = live.pulse.get(server.name) || [];
    pulse.push(last === undefined ? 0 : Math.max(0, total - last));
    if (pulse.length > PULSE_MAX) pulse.shift();
    live.pulse.set(server.name, pulse);
    live.answered.set(server.name, total);
    const old = before.get(server.name);
    if (old && old.state !== server.state) say(`${server.name} is ${stateWord(server.state).toLowerCase()} now.`);
  }
  setText(byId('about'), `Version ${status.version} · up ${span(status.uptimeMs)}`);
  showLink();
  showBadges(status);
  view?.status?.();
}

function lost(error) {
  if (error instanceof Trouble && error.status === 401) {
    showLink('locked', 'This page needs the token again');
    return;
  }
  showLink('gone', 'Mainstay does not answer; trying again');
}

function showLink(kind, text) {
  const link = byId('link');
  const was = link.dataset.link;
  const now = kind || (live.stream === 'open' ? 'live' : 'poll');
  setAttribute(link, 'data-link', now);
  setText(byId('link-words'), text || (now === 'live' ? 'Live' : 'Polling'));
  if (was !== now && (now === 'gone' || was === 'gone')) say(now === 'gone' ? 'Mainstay does not answer.' : 'Mainstay answers again.');
  document.body.classList.toggle('stale', now === 'gone');
}

function showBadges(status) {
  const trouble = status.servers.filter((server) => server.state === 'parked' || server.state === 'backoff').length;
  const held = status.servers.reduce((sum, server) => sum + (server.pendingTools || 0), 0);
  const failed = status.config?.lastReload?.ok === false ? 1 : 0;
  badge('servers', trouble, 'in trouble');
  badge('held-back', held, 'held back');
  badge('config', failed, 'refused');
  document.title = trouble ? `(${trouble}) Mainstay` : 'Mainstay';
}

function badge(place, number, what) {
  const spot = document.querySelector(`[data-place="${place}"] .badge`);
  setText(spot.firstElementChild, number ? String(number) : '');
  setText(spot.lastElementChild, number ? ` ${what}` : '');
  spot.hidden = !number;
}

/** Something happened to a server: the status follows. */
function happened(event) {
  view?.event?.(event);
  refreshSoon(60);
}

function route() {
  const [path, query] = (location.hash.replace(/^#\/?/, '') || 'servers').split('?');
  const [place, ...rest] = path.split('/').map((part) => decodeURIComponent(part));
  const entry = VIEWS.find(([name]) => name === place) || VIEWS[0];
  const next = entry[0] === 'servers' && rest[0] ? serverView : entry[1];
  const inner = entry[0] === 'catalog' && rest.length ? [rest.join('/')] : rest;
  const first = view === null;
  if (view === catalogView && next === catalogView && inner[0]) {
    // Within the catalog only the detail changes: the list keeps its place.
    catalogView.open(inner[0]);
    return;
  }
  view?.unmount?.();
  const main = byId('main');
  fill(main);
  view = next;
  next.mount(main, inner, new URLSearchParams(query || ''));
  for (const link of byId('places').querySelectorAll('a')) {
    const here = link.parentElement.dataset.place === entry[0];
    setAttribute(link, 'aria-current', here ? 'page' : null);
    if (here) link.scrollIntoView({ block: 'nearest', inline: 'center' });
  }
  window.scrollTo(0, 0);
  // Whoever moved by keyboard is told where they are now; on the first page the browser says it itself.
  if (!first) main.querySelector('h1')?.focus({ preventScroll: true });
}

function themeSwitch() {
  const control = byId('theme');
  const remembered = (() => {
    try {
      return localStorage.getItem('mainstay-theme') || '';
    } catch {
      return '';
    }
  })();
  const wear = (theme) => setAttribute(document.documentElement, 'data-theme', theme || null);
  control.value = remembered;
  wear(remembered);
  control.addEventListener('change', () => {
    wear(control.value);
    try {
      localStorage.setItem('mainstay-theme', control.value);
    } catch {
      // Not remembered, then.
    }
  });
}

/** `/` looks for something: the search field of the view. */
function keys(event) {
  const typing = event.target.closest?.('input, textarea, select, dialog');
  if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.querySelector('#main input[type="search"]');
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  }
}

put(byId('places'), VIEWS.map(([place, { title }]) => el('li', { 'data-place': place },
  el('a', { href: `#/${place}` }, title, el('span', { class: 'badge', hidden: true }, el('span', {}), el('span', { class: 'hidden' }))))));
themeSwitch();
// The fragment is the view's name, so the way past the navigation must not change it.
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  byId('main').focus();
});
addEventListener('hashchange', route);
addEventListener('keydown', keys);
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) refreshSoon(0);
});
route();
refresh();
new Stream('/api/v1/events', happened, (state) => {
  live.stream = state;
  if (byId('link').dataset.link !== 'gone') showLink();
  refreshSoon(0);
});
