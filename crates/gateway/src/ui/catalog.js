// What all servers offer: search over tools, prompts and resources, and a form to try a tool.

const PAGE_ITEMS = 200;
const KINDS = [['tools', 'Tools'], ['prompts', 'Prompts'], ['resources', 'Resources']];

/** What was listed, kept until the publication changes. */
const listed = { version: null, tools: null, prompts: [], resources: [], hidden: [], pending: null };

function loadListed() {
  const version = live.status?.publication?.version ?? 0;
  if (listed.tools && listed.version === version) return Promise.resolve();
  listed.pending = listed.pending || (async () => {
    try {
      const [tools, rest] = await Promise.all([
        api.get('/api/v1/tools'),
        api.get('/api/v1/catalog').catch((error) => {
          if (error.status === 404) return {};
          throw error;
        }),
      ]);
      const entry = (kind) => (item) => {
        const inner = item.tool || item.item || {};
        const title = inner.title || inner.annotations?.title || '';
        return { ...item, kind, inner, title, text: `${item.exposed} ${item.name} ${title} ${inner.description || ''} ${inner.uri || ''}`.toLowerCase() };
      };
      listed.version = tools.version;
      listed.tools = tools.tools.map(entry('tools'));
      listed.hidden = tools.hidden || [];
      listed.prompts = (rest.prompts || []).map(entry('prompts'));
      listed.resources = [...(rest.resources || []), ...(rest.templates || [])].map(entry('resources'));
    } finally {
      listed.pending = null;
    }
  })();
  return listed.pending;
}

const catalogView = {
  title: 'Catalog',

  mount(main, [exposed], query) {
    this.main = main;
    this.kind = query.get('kind') || 'tools';
    this.server = query.get('server') || '';
    this.text = this.text && !query.has('server') ? this.text : '';
    this.shown = PAGE_ITEMS;
    this.chosen = null;
    this.kinds = el('div', { class: 'tabs', role: 'group', 'aria-label': 'Kind' });
    this.search = searchBox(this.text, 'Name or description', (text) => {
      this.text = text;
      this.shown = PAGE_ITEMS;
      this.show();
    });
    this.search.id = 'catalog-search';
    this.servers = el('select', { on: { change: () => {
      this.server = this.servers.value;
      this.shown = PAGE_ITEMS;
      this.show();
    } } });
    this.found = el('p', { class: 'dim', role: 'status' });
    this.list = el('ul', { class: 'items' });
    this.more = button('Show more', () => {
      this.shown += PAGE_ITEMS;
      this.show();
    }, { class: 'quiet' });
    this.hidden = el('details', { class: 'unshown', hidden: true }, el('summary', {}), el('ul', { class: 'plain' }));
    this.side = el('div', { class: 'detail' });
    this.split = el('div', { class: 'split' }, el('div', { class: 'finder' }, this.list, this.more, this.hidden), this.side);
    put(main, [
      el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, 'Catalog'), this.kinds),
      el('div', { class: 'bar' }, field('Search', this.search), field('Server', this.servers), this.found),
      this.split,
    ]);
    this.open(exposed);
  },

  async open(exposed) {
    this.wanted = exposed;
    try {
      await loadListed();
    } catch (error) {
      fill(this.list, el('li', {}, empty('The catalog could not be read', words(error))));
      return;
    }
    this.show();
    if (this.wanted) {
      const [kind, ...rest] = this.wanted.split('/');
      const item = (listed[kind] || []).find((one) => one.exposed === rest.join('/'));
      if (item) {
        this.kind = kind;
        this.show();
        this.choose(item, true);
      } else {
        fill(this.side, empty('That is not published', 'Its server may be away or may not offer it any more.'));
      }
    } else {
      fill(this.side, empty('Choose a tool', 'Its description and a form to try it are shown here.'));
    }
  },

  status() {
    const version = live.status?.publication?.version;
    if (listed.tools && version !== listed.version) loadListed().then(() => this.show(), () => {});
  },

  show() {
    if (!listed.tools || !this.list.isConnected) return;
    keyed(this.kinds, KINDS, ([kind]) => kind, ([kind, word]) => button(word, () => {
      this.kind = kind;
      this.shown = PAGE_ITEMS;
      this.show();
    }, { class: 'tab' }), (tab, [kind, word]) => {
      setText(tab, `${word} ${count(listed[kind].length)}`);
      setAttribute(tab, 'aria-pressed', kind === this.kind ? 'true' : 'false');
    });
    const items = listed[this.kind];
    const servers = [...new Set(items.map((item) => item.server))].sort();
    if (this.server && !servers.includes(this.server)) servers.unshift(this.server);
    keyed(this.servers, ['', ...servers], (name) => name, (name) => el('option', { value: name }, name || 'All'));
    this.servers.value = this.server;
    const words = this.text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = items.filter((item) => (!this.server || item.server === this.server) && words.every((word) => item.text.includes(word)));
    // A name that begins with what is looked for comes before one that only mentions it.
    if (words.length) {
      const rank = (item) => (item.name.toLowerCase().startsWith(words[0]) ? 0 : item.exposed.toLowerCase().includes(words[0]) ? 1 : 2);
      found.sort((a, b) => rank(a) - rank(b));
    }
    setText(this.found, `${count(found.length)} of ${count(items.length)}`);
    keyed(this.list, found.slice(0, this.shown), (item) => `${item.kind} ${item.server} ${item.exposed}`, itemRow, (row, item) => {
      setAttribute(row.firstElementChild, 'aria-current', this.chosen === item ? 'true' : null);
    });
    const unshown = this.kind === 'tools' ? listed.hidden.filter((item) => !this.server || item.server === this.server) : [];
    this.hidden.hidden = unshown.length === 0;
    setText(this.hidden.firstElementChild, `${plural(unshown.length, 'tool')} not shown to clients`);
    keyed(this.hidden.lastElementChild, unshown.slice(0, PAGE_ITEMS), (item) => `${item.server} ${item.name} ${item.reason}`,
      (item) => el('li', {}, el('code', {}, item.name), ' of ', item.server, el('span', { class: 'sub' }, item.reason)));
    this.more.hidden = found.length <= this.shown;
    setText(this.more, `Show ${count(Math.min(PAGE_ITEMS, found.length - this.shown))} more of ${count(found.length - this.shown)}`);
  },

  choose(item, focus) {
    this.chosen = item;
    this.show();
    fill(this.side, item.kind === 'tools' ? toolPanel(item) : plainPanel(item));
    this.split.classList.add('open');
    if (focus) this.side.querySelector('h2').focus({ preventScroll: true });
    // Where the list is above, the detail would be out of sight.
    if (matchMedia('(max-width: 62rem)').matches) this.side.scrollIntoView({ block: 'start' });
  },
};

function itemRow(item) {
  const description = item.inner.description || '';
  return el('li', {}, el('a', { class: 'item', href: `#/catalog/${item.kind}/${encodeURIComponent(item.exposed)}` },
    el('span', { class: 'item-name' }, item.name),
    el('span', { class: 'item-server' }, item.server),
    el('span', { class: 'item-about' }, item.title && item.title !== item.name ? `${item.title}. ${description}` : description)));
}

function panelHead(item) {
  return [
    el('h2', { tabindex: '-1' }, item.title || item.name),
    el('p', { class: 'row' }, el('code', {}, item.exposed), ' ', el('a', { href: `#/servers/${encodeURIComponent(item.server)}` }, item.server)),
  ];
}

function plainPanel(item) {
  return [panelHead(item), el('p', { class: 'prose' }, item.inner.description || ''), el('details', { open: true }, el('summary', {}, 'Definition'), el('pre', { class: 'code' }, pretty(item.inner)))];
}

const HINTS = { readOnlyHint: ['only reads', 'may change things'], destructiveHint: ['may destroy', 'destroys nothing'], idempotentHint: ['may be repeated', null], openWorldHint: ['reaches out', 'stays within'] };

function toolPanel(item) {
  const tool = item.inner;
  const hints = Object.entries(HINTS).map(([name, [yes, no]]) => {
    const value = tool.annotations?.[name];
    return value === true ? yes : value === false ? no : null;
  }).filter(Boolean);
  const form = argumentsForm(tool.inputSchema);
  const summary = el('div', { class: 'banner', role: 'alert', hidden: true });
  const result = el('div', { class: 'result', 'aria-live': 'polite' });
  const timeout = el('input', { type: 'text', inputmode: 'numeric', class: 'short', placeholder: 'server’s own', autocomplete: 'off' });
  const asJson = el('input', { type: 'checkbox', on: { change: () => form.asJson(asJson.checked) } });
  const send = el('button', { type: 'submit', class: 'main-button' }, 'Call');
  let running = null;
  const stop = button('Cancel call', () => running?.abort(), { hidden: true });
  const submit = async (event) => {
    event.preventDefault();
    if (running) return;
    const { value, wrong } = form.read();
    summary.hidden = !wrong;
    if (wrong) {
      fill(summary, el('strong', {}, wrong.length === 1 ? 'One field is not right yet.' : `${wrong.length} fields are not right yet.`), el('ul', {}, wrong.map((text) => el('li', {}, text))));
      return;
    }
    const timeoutMs = Number.parseInt(timeout.value, 10);
    running = new AbortController();
    send.disabled = true;
    stop.hidden = false;
    fill(result, el('p', { class: 'dim' }, 'Running…'));
    const began = performance.now();
    let shown;
    try {
      const answer = await api.post(api.server(item.server, '/call'), { tool: item.name, arguments: value, ...(timeoutMs > 0 ? { timeoutMs } : {}) }, running.signal);
      shown = answerPanel(answer, performance.now() - began);
    } catch (error) {
      shown = failurePanel(error, performance.now() - began);
    }
    running = null;
    send.disabled = false;
    stop.hidden = true;
    fill(result, shown);
  };
  return [
    panelHead(item),
    hints.length ? el('p', { class: 'dim' }, `It says that it ${hints.join(', ')}.`) : null,
    el('p', { class: 'prose' }, tool.description || 'It does not describe itself.'),
    el('form', { class: 'try', novalidate: true, autocomplete: 'off', on: { submit }, 'aria-label': `Try ${item.name}` },
      el('div', { class: 'row spread' }, el('h3', {}, 'Try it'), el('label', { class: 'check' }, asJson, ' as JSON')),
      summary, form.element,
      el('div', { class: 'row' }, send, stop, el('label', { class: 'field inline' }, el('span', { class: 'field-label' }, 'Timeout in ms'), timeout))),
    result,
    el('details', {}, el('summary', {}, 'Definition'), el('pre', { class: 'code' }, pretty(tool))),
  ];
}

function timing(parts) {
  return el('dl', { class: 'timing' }, parts.filter(([, value]) => value !== undefined).map(([key, value]) => el('div', {}, el('dt', {}, key), el('dd', {}, value))));
}

function answerPanel(answer, ms) {
  const failed = answer.error !== undefined || answer.result?.isError === true;
  const outcome = answer.error !== undefined ? 'serverError' : failed ? 'toolError' : 'answered';
  const blocks = Array.isArray(answer.result?.content) ? answer.result.content.map(contentBlock) : [];
  return [
    el('div', { class: 'row' }, el('h3', {}, 'Result'), outcomeChip(outcome)),
    timing([['In all', span(ms)], ['In queue', span(answer.queuedMs)], ['At the server', span(answer.servedMs)], ['Sent', answer.attempts === 1 ? 'once' : `${answer.attempts} times`], ['Generation', answer.generation]]),
    answer.error !== undefined ? el('pre', { class: 'code bad' }, pretty(answer.error)) : null,
    blocks,
    answer.result?.structuredContent !== undefined ? [el('h4', {}, 'Structured'), el('pre', { class: 'code' }, pretty(answer.result.structuredContent))] : null,
    answer.result !== undefined ? el('details', {}, el('summary', {}, 'As it came'), el('pre', { class: 'code' }, pretty(answer.result))) : null,
  ];
}

function contentBlock(block) {
  if (block?.type === 'text') return el('pre', { class: 'text' }, String(block.text));
  if (block?.type === 'image' && /^image\/(png|jpeg|gif|webp)$/.test(block.mimeType) && typeof block.data === 'string') {
    return el('img', { alt: 'Image of the result', src: `data:${block.mimeType};base64,${block.data}` });
  }
  return el('pre', { class: 'code' }, pretty(block));
}

function failurePanel(error, ms) {
  if (error.name === 'AbortError') return [el('div', { class: 'row' }, el('h3', {}, 'Result'), outcomeChip('cancelled')), timing([['In all', span(ms)]])];
  const outcome = error.body?.outcome || 'refused';
  const data = error.body?.error?.data;
  return [
    el('div', { class: 'row' }, el('h3', {}, 'Result'), outcomeChip(outcome)),
    el('p', { class: 'lead' }, error instanceof Trouble ? error.message : words(error)),
    error.hint ? el('p', { class: 'hint' }, error.hint) : null,
    timing([['In all', span(ms)]]),
    data ? el('details', {}, el('summary', {}, 'Details'), el('pre', { class: 'code' }, pretty(data))) : null,
  ];
}
