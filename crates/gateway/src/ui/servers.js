// All servers at one glance: what is wrong comes first.

/** How much a state wants to be looked at. */
const URGENCY = { parked: 0, backoff: 1, draining: 2, connecting: 3, connected: 5, idle: 6, disabled: 7 };

function failuresOf(server) {
  const failures = server.failures || {};
  const counts = server.counts || {};
  return {
    toolError: failures.toolError || 0,
    refused: failures.refused ?? counts.refused ?? 0,
    rejected: failures.rejected ?? counts.rejected ?? 0,
    unknown: failures.unknown ?? counts.unknown ?? 0,
  };
}

function callsOf(server) {
  return server.calls?.total ?? server.counts?.answered ?? 0;
}

/** Why a server is not well, in one line; empty if it is. */
function whyOf(server) {
  if (server.state === 'connected') return server.word === 'connected' ? '' : server.word;
  const word = server.word.replace(/^(parked: |disabled$)/, '');
  return server.progress?.line ? `${word}: ${server.progress.line}` : word;
}

function nextOf(server) {
  if (server.nextAttemptInMs === undefined || server.nextAttemptInMs === null) return '';
  return server.nextAttemptInMs === 0 ? 'next attempt now' : `next attempt in ${span(server.nextAttemptInMs)}`;
}

/** A small line of how many calls were answered lately, drawn from polls of the status. */
function sparkline() {
  return shape('svg', { class: 'spark', viewBox: '0 0 60 16', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    shape('polyline', { points: '' }));
}

function drawSpark(svg, values) {
  svg.toggleAttribute('hidden', !values.some((value) => value > 0));
  const top = Math.max(1, ...values);
  const points = values.map((value, index) => `${(60 * index) / Math.max(1, values.length - 1)},${15 - (14 * value) / top}`);
  setAttribute(svg.firstElementChild, 'points', points.join(' '));
}

const COLUMNS = [
  ['name', 'Server', (a, b) => a.name.localeCompare(b.name)],
  ['state', 'State', (a, b) => (URGENCY[a.state] ?? 4) - (URGENCY[b.state] ?? 4)],
  ['tools', 'Tools', (a, b) => b.tools - a.tools],
  ['calls', 'Calls', (a, b) => callsOf(b) - callsOf(a)],
  ['time', 'p50 / p95', (a, b) => (b.calls?.p95Ms || 0) - (a.calls?.p95Ms || 0)],
  ['failures', 'Failures', (a, b) => sumOf(failuresOf(b)) - sumOf(failuresOf(a))],
  ['restarts', 'Restarts', (a, b) => restartsOf(b) - restartsOf(a)],
  ['memory', 'Memory', (a, b) => (b.process?.rssBytes || 0) - (a.process?.rssBytes || 0)],
  ['since', 'Since', (a, b) => a.sinceMs - b.sinceMs],
];

function sumOf(counts) {
  return Object.values(counts).reduce((sum, value) => sum + value, 0);
}

function restartsOf(server) {
  return server.restarts ?? Math.max(0, (server.counts?.opens || 0) - 1);
}

const serversView = {
  title: 'Servers',
  filter: '',
  state: '',
  order: 'state',

  mount(main) {
    this.tally = el('ul', { class: 'tally', 'aria-label': 'Servers by state' });
    this.problems = el('div', {});
    this.rows = el('tbody', {});
    this.none = el('div', {});
    this.heads = new Map();
    const head = el('tr', {}, COLUMNS.map(([key, words]) => {
      const cell = el('th', { scope: 'col', class: `c-${key}` }, button(words, () => this.sort(key), { class: 'sorter' }));
      this.heads.set(key, cell);
      return cell;
    }));
    const search = searchBox(this.filter, 'Name, label or trouble', (text) => {
      this.filter = text;
      this.show();
    });
    search.id = 'server-filter';
    this.search = search;
    put(main, [
      el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, 'Servers'), this.tally),
      this.problems,
      el('div', { class: 'bar' }, field('Filter', search),
        field('State', select([['', 'All'], ...Object.entries(STATES).map(([key, [word]]) => [key, word])], this.state, (state) => {
          this.state = state;
          this.show();
        }))),
      el('div', { class: 'sheet' },
        el('table', { class: 'servers' }, el('caption', { class: 'hidden' }, 'All servers with their states'), el('thead', {}, head), this.rows)),
      this.none,
    ]);
    this.show();
  },

  sort(key) {
    this.order = key;
    say(`Sorted by ${COLUMNS.find(([name]) => name === key)[1]}.`);
    this.show();
  },

  status() {
    this.show();
  },

  show() {
    const status = live.status;
    if (!status) {
      fill(this.none, empty('Looking for servers…'));
      return;
    }
    const all = status.servers;
    const compare = COLUMNS.find(([key]) => key === this.order)[2];
    const wanted = this.filter.trim().toLowerCase();
    const shown = all
      .filter((server) => !this.state || server.state === this.state)
      .filter((server) => !wanted || `${server.name} ${server.label || ''} ${server.word}`.toLowerCase().includes(wanted))
      .sort((a, b) => compare(a, b) || a.name.localeCompare(b.name));
    for (const [key, cell] of this.heads) setAttribute(cell, 'aria-sort', key === this.order ? 'other' : null);
    this.showTally(all);
    this.showProblems(status);
    keyed(this.rows, shown, (server) => server.name, serverRow, updateRow);
    fill(this.none, shown.length ? [] : all.length
      ? empty('No server is like that', 'Change the filter to see the others.')
      : empty('No servers are configured', 'Add one with: mainstay add NAME -- COMMAND'));
  },

  showTally(all) {
    const counts = new Map();
    for (const server of all) counts.set(server.state, (counts.get(server.state) || 0) + 1);
    const states = [...counts.keys()].sort((a, b) => (URGENCY[a] ?? 4) - (URGENCY[b] ?? 4));
    keyed(this.tally, states, (state) => state, (state) => el('li', {}, el('span', { class: 'number' }), stateChip(state)), (item, state) => {
      setText(item.firstElementChild, counts.get(state));
      setText(item.lastElementChild.lastElementChild, stateWord(state).toLowerCase());
    });
  },

  showProblems(status) {
    const failed = status.config?.lastReload && status.config.lastReload.ok === false ? status.config.lastReload : null;
    const text = failed ? JSON.stringify(failed) : '';
    if (this.problems.dataset.text === text) return;
    this.problems.dataset.text = text;
    fill(this.problems, failed ? el('div', { class: 'banner', role: 'alert' },
      el('strong', {}, 'The last change of the configuration was refused.'), ' What ran goes on. ',
      el('a', { href: '#/config' }, 'See why')) : []);
  },
};

function serverRow(server) {
  const cell = (name, ...inner) => el('td', { class: `c-${name}` }, inner);
  const row = el('tr', {},
    el('th', { scope: 'row', class: 'c-name' },
      el('a', { class: 'name', href: `#/servers/${encodeURIComponent(server.name)}` }, server.name),
      el('span', { class: 'label' }), el('span', { class: 'marks' })),
    cell('state', stateChip(server.state), el('span', { class: 'why' }), el('a', { class: 'sign-in', href: `#/servers/${encodeURIComponent(server.name)}`, hidden: true }, 'Sign in', el('span', { class: 'hidden' }, ` to ${server.name}`))),
    cell('tools'), cell('calls', el('span', {}), sparkline()), cell('time'), cell('failures'), cell('restarts'), cell('memory'), cell('since'));
  row.parts = {
    label: row.querySelector('.label'),
    marks: row.querySelector('.marks'),
    chip: row.querySelector('.chip'),
    why: row.querySelector('.why'),
    signIn: row.querySelector('.sign-in'),
    spark: row.querySelector('.spark'),
  };
  for (const name of ['tools', 'calls', 'time', 'failures', 'restarts', 'memory', 'since']) row.parts[name] = row.querySelector(`.c-${name}`);
  return row;
}

function updateRow(row, server) {
  const parts = row.parts;
  setAttribute(row, 'data-state', server.state);
  setText(parts.label, server.label || '');
  const marks = [server.transport, server.protocol];
  if (server.pendingTools) marks.push(`${plural(server.pendingTools, 'tool')} held back`);
  if (server.problems?.length) marks.push('config problem');
  setText(parts.marks, marks.filter(Boolean).join(' · '));
  setState(parts.chip, server.state);
  setText(parts.why, [whyOf(server), nextOf(server)].filter(Boolean).join(' · '));
  parts.signIn.hidden = !needsSignIn(server);
  setText(parts.tools, count(server.tools));
  setText(parts.calls.firstElementChild, count(callsOf(server)) + (server.inFlight ? ` (${server.inFlight} now)` : ''));
  drawSpark(parts.spark, live.pulse.get(server.name) || []);
  const calls = server.calls || {};
  setText(parts.time, !callsOf(server) || calls.p50Ms === undefined || calls.p50Ms === null ? '–' : `${span(calls.p50Ms)} / ${span(calls.p95Ms)}`);
  const failures = sumOf(failuresOf(server));
  setText(parts.failures, count(failures));
  setAttribute(parts.failures, 'data-some', failures > 0 ? 'yes' : null);
  setText(parts.restarts, count(restartsOf(server)));
  setText(parts.memory, server.process ? bytes(server.process.rssBytes) : '–');
  setText(parts.since, span(server.sinceMs));
}
