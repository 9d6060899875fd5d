// Calls and events as they happen.

const ROWS_MAX = 300;

const CALL_HEADS = [['Time', ''], ['Server', ''], ['What', ''], ['Client', 'c-client'], ['Outcome', ''], ['Queue', 'num c-queue'], ['Server time', 'num'], ['Size', 'num c-size']];

function headRow(heads) {
  return el('thead', {}, el('tr', {}, heads.map(([words, kind]) => el('th', { scope: 'col', class: kind || null }, words))));
}

function callTable(records, withServer) {
  return el('table', { class: 'calls' }, el('caption', { class: 'hidden' }, 'Calls, newest first'),
    headRow(CALL_HEADS.filter(([words]) => withServer || words !== 'Server')),
    el('tbody', {}, records.map((record) => callRow(record, withServer))));
}

function callRow(record, withServer) {
  const sub = (text) => (text ? el('span', { class: 'sub' }, text) : null);
  // A tool error has no other cause than itself.
  const cause = record.cause && record.cause.replaceAll('-', '').toLowerCase() !== record.outcome.toLowerCase() ? record.cause : '';
  return el('tr', {},
    el('td', { class: 'nowrap' }, when(record.atUnixMs)),
    withServer ? el('td', {}, el('a', { href: `#/servers/${encodeURIComponent(record.server)}` }, record.server)) : null,
    el('td', {}, el('span', { class: 'strong' }, record.tool || record.method), sub(record.traceId ? `trace ${record.traceId}` : ''),
      record.arguments !== undefined && record.arguments !== null ? el('span', { class: 'sub code' }, JSON.stringify(record.arguments)) : null),
    el('td', { class: 'c-client' }, record.client || '', sub(record.endpoint)),
    el('td', {}, outcomeChip(record.outcome), sub(cause), sub(record.attempts > 1 ? `${record.attempts} attempts` : '')),
    el('td', { class: 'num c-queue' }, span(record.queuedMs)),
    el('td', { class: 'num' }, span(record.servedMs)),
    el('td', { class: 'num c-size' }, bytes(record.resultBytes)));
}

/** A view of a stream: rows on top, a filter, a stop for reading. */
function streamView({ title, path, nothing, server, text, row, heads, past }) {
  return {
    title,
    filter: '',

    mount(main) {
      this.records = [];
      this.held = [];
      this.paused = false;
      this.body = el('tbody', {});
      this.none = el('div', {}, empty('Waiting…', nothing));
      this.pause = button('Pause', () => this.hold(!this.paused), { 'aria-pressed': 'false' });
      put(main, [
        el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, title)),
        el('div', { class: 'bar' }, field('Filter', searchBox(this.filter, 'Server, name, outcome', (words) => {
          this.filter = words;
          this.show();
        })), this.pause),
        el('div', { class: 'sheet' }, el('table', { class: 'calls' }, el('caption', { class: 'hidden' }, `${title}, newest first`),
          headRow(heads), this.body)),
        this.none,
      ]);
      this.start();
    },

    async start() {
      if (past) {
        try {
          this.records = (await past()).slice(-ROWS_MAX);
        } catch (error) {
          fill(this.none, empty(`${title} are not kept here`, words(error)));
          return;
        }
        if (!this.body.isConnected) return;
      }
      this.stream = new Stream(() => {
        if (!past) this.records = [];
        return path;
      }, (record) => this.told(record));
      this.show();
    },

    unmount() {
      this.stream?.end();
      this.stream = null;
    },

    told(record) {
      if (this.paused) {
        this.held.push(record);
        if (this.held.length > ROWS_MAX) this.held.shift();
        setText(this.pause, `Go on (${this.held.length} new)`);
        return;
      }
      this.records.push(record);
      if (this.records.length > ROWS_MAX) this.records.shift();
      // Many at once are drawn once.
      this.frame = this.frame || requestAnimationFrame(() => {
        this.frame = 0;
        this.show();
      });
    },

    hold(on) {
      this.paused = on;
      setAttribute(this.pause, 'aria-pressed', on ? 'true' : 'false');
      setText(this.pause, on ? 'Go on' : 'Pause');
      if (!on) {
        this.records = [...this.records, ...this.held].slice(-ROWS_MAX);
        this.held = [];
        this.show();
      }
    },

    show() {
      const words = this.filter.trim().toLowerCase();
      const shown = this.records.filter((record) => !words || text(record).toLowerCase().includes(words)).reverse();
      for (const record of shown) {
        if (!record.key) Object.defineProperty(record, 'key', { value: (this.serial = (this.serial || 0) + 1) });
      }
      keyed(this.body, shown, (record) => record.key, row);
      fill(this.none, shown.length ? [] : empty(this.records.length ? 'Nothing is like that' : 'Nothing yet', this.records.length ? 'Change the filter to see the others.' : nothing));
    },
  };
}

const callsView = streamView({
  title: 'Calls',
  path: '/api/v1/calls?follow=1',
  past: async () => (await api.get('/api/v1/calls?recent=200')).calls || [],
  nothing: 'Calls of clients show up here as they end.',
  heads: CALL_HEADS,
  text: (record) => `${record.server} ${record.tool || ''} ${record.method} ${record.client || ''} ${record.outcome} ${record.endpoint}`,
  row: (record) => callRow(record, true),
});

const eventsView = streamView({
  title: 'Events',
  path: '/api/v1/events?recent=300',
  nothing: 'What happens to servers shows up here.',
  heads: [['Time'], ['Server'], ['What']],
  text: (event) => `${event.server || ''} ${event.type} ${eventWords(event)}`,
  row: (event) => el('tr', {},
    el('td', { class: 'nowrap' }, event.atUnixMs ? when(event.atUnixMs) : ''),
    el('td', {}, event.server ? el('a', { href: `#/servers/${encodeURIComponent(event.server)}` }, event.server) : '', event.connection ? el('span', { class: 'sub' }, `connection ${event.connection}`) : null),
    el('td', {}, event.type === 'transition' ? [stateChip(event.to), ' '] : el('span', { class: 'tag', 'data-tone': 'dim' }, spaced(event.type)), ' ', el('span', { class: 'words' }, eventWords(event)))),
});
