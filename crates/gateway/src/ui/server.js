// One server: what it is doing, why, what it did before, and the orders that it can be given.

const LOG_LINES_MAX = 2000;

const serverView = {
  mount(main, [name]) {
    this.name = name;
    this.detail = null;
    this.chip = stateChip('');
    this.why = el('p', { class: 'lead' });
    this.hint = el('p', { class: 'hint' });
    this.orders = el('div', { class: 'row' });
    this.facts = el('dl', { class: 'facts' });
    this.timeline = el('div', { class: 'timeline', 'aria-hidden': 'true' });
    this.history = el('ol', { class: 'history' });
    this.connections = el('div', {});
    this.calls = el('div', {});
    this.catalog = el('div', {});
    this.log = el('pre', { class: 'log', tabindex: '0', role: 'log', 'aria-live': 'off', 'aria-label': `Log of ${name}` });
    this.logEnd = el('label', { class: 'check' }, el('input', { type: 'checkbox', '.checked': true }), ' follow');
    this.logCount = 0;
    this.restart = button('Restart', () => this.order('restart', `Restart ${name}?`, 'Calls that are running get the drain time to end. Clients keep their tools and wait.', 'Restart'));
    this.toggle = button('Disable', () => this.switch());
    this.signIn = new SignInDesk(name);
    put(this.orders, [this.signIn.buttons, this.restart, this.toggle]);
    const card = (title, ...inner) => el('section', { class: { Status: 'card tall', 'Recent calls': 'card wide' }[title] || 'card', 'aria-label': title }, el('h2', {}, title), inner);
    put(main, [
      el('nav', { class: 'crumbs', 'aria-label': 'Where you are' }, el('a', { href: '#/servers' }, 'Servers'), ' / ', name),
      el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, name), this.chip, this.orders),
      this.why, this.hint, this.signIn.card,
      el('div', { class: 'cards' },
        card('Status', this.facts),
        card('Timeline', this.timeline, this.history),
        card('What it offers', this.catalog),
        card('Connections', this.connections),
        card('Recent calls', this.calls)),
      el('section', { class: 'card', 'aria-label': 'Log' }, el('div', { class: 'row spread' }, el('h2', {}, 'Log (stderr)'), this.logEnd), this.log),
    ]);
    this.stream = new Stream(() => {
      fill(this.log);
      this.logCount = 0;
      return api.server(name, '/logs?lines=200&follow=1');
    }, (record) => this.line(record.line));
    this.status();
    this.load();
  },

  unmount() {
    this.stream.end();
    this.signIn.end();
    clearTimeout(this.timer);
    this.gone = true;
    this.name = null;
  },

  /** The server's own record from the status of all; the detail follows when something happened. */
  status() {
    if (!this.name) return;
    const server = live.servers.get(this.name);
    if (!server) {
      if (live.status) {
        setText(this.why, 'No server of this name is configured (any more).');
        setState(this.chip, 'unknown');
        this.restart.disabled = this.toggle.disabled = true;
      }
      return;
    }
    this.restart.disabled = false;
    this.toggle.disabled = false;
    setState(this.chip, server.state);
    setText(this.why, [whyOf(server), nextOf(server)].filter(Boolean).join(' · '));
    setText(this.hint, server.hint || (server.state === 'connected' ? '' : server.lastFailure?.hint) || '');
    this.signIn.status(server);
    setText(this.toggle, server.state === 'disabled' ? 'Enable' : 'Disable');
    this.showFacts(server);
    this.showConnections(server);
  },

  event(event) {
    if (event.server !== this.name) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), 200);
  },

  async load() {
    const name = this.name;
    if (!name) return;
    try {
      const detail = await api.get(api.server(name));
      if (this.name !== name) return;
      this.detail = detail;
      this.showHistory(detail);
      this.showCalls(detail.calls);
      this.showCatalog(detail.catalog);
    } catch (error) {
      if (this.name === name && error instanceof Trouble) setText(this.why, words(error));
    }
  },

  async switch() {
    const server = live.servers.get(this.name);
    if (server?.state === 'disabled') return this.order('enable');
    return this.order('disable', `Disable ${this.name}?`, 'It is stopped at once and its tools disappear from all clients until it is enabled again.', 'Disable');
  },

  async order(order, title, text, yes) {
    const name = this.name;
    if (title && !(await confirmed(title, text, yes))) return;
    try {
      await api.post(api.server(name, `/${order}`));
      note(`${name}: ${order} is in force`, 'good');
    } catch (error) {
      note(`${name}: ${words(error)}`, 'bad');
    }
    refreshSoon(0);
  },

  showFacts(server) {
    const failures = failuresOf(server);
    const failed = Object.entries(failures).filter(([, value]) => value > 0).map(([kind, value]) => `${value} ${spaced(kind)}`);
    const calls = server.calls || {};
    const facts = [
      ['Since', span(server.sinceMs)],
      ['Transport', [server.transport, server.era, server.protocol].filter(Boolean).join(' · ')],
      ['Generation', `${server.generation}${server.proven ? ', proven healthy' : ''}`],
      ['Signed in', signInWords(server)],
      ['Process', server.process ? `${server.process.pid ?? server.pid ?? '–'}: ${server.process.processes > 1 ? `${server.process.processes} processes` : 'one process'}, ${bytes(server.process.rssBytes)}, ${Number(server.process.cpuPercent || 0).toFixed(0)} % CPU` : server.pid ? String(server.pid) : '–'],
      ['Calls', `${count(callsOf(server))}${calls.perMinute !== undefined ? `, ${count(Math.round(calls.perMinute))} per minute` : ''}${server.inFlight ? `, ${server.inFlight} in flight` : ''}${server.waiting ? `, ${server.waiting} waiting` : ''}`],
      ['Time', !callsOf(server) || calls.p50Ms === undefined || calls.p50Ms === null ? '–' : `p50 ${span(calls.p50Ms)}, p95 ${span(calls.p95Ms)}, in queue ${span(calls.p50QueueMs)}`],
      ['Data', calls.bytesIn === undefined ? null : `${bytes(calls.bytesIn)} in, ${bytes(calls.bytesOut)} out`],
      ['Failures', failed.length ? failed.join(', ') : 'none'],
      ['Restarts', count(restartsOf(server))],
      ['Charges', `${server.charges} since the last proof of health`],
      ['Push stream', server.push],
      ['Last sign of life', server.lifeAgeMs === undefined ? null : `${span(server.lifeAgeMs)} ago`],
      ['Next', server.next ? `${spaced(server.next.why)} in ${span(server.next.inMs)}` : null],
      ['Last failure', server.lastFailure ? `${span(server.lastFailure.agoMs)} ago: ${server.lastFailure.detail}` : null],
      ['Sandbox', server.sandbox],
      ['Suspicious', server.suspicious?.length ? server.suspicious.map((one) => `${one.where}: ${one.text}`).join('\n') : null],
      ['User interfaces', server.uiResources ? `${count(server.uiResources)} resources (ui://) that clients may show and run` : null],
      ['Config problems', server.problems?.length ? server.problems.join('\n') : null],
      ['Last words', server.stderrTail?.length ? server.stderrTail.join('\n') : null],
    ].filter(([, value]) => value !== null && value !== undefined && value !== '');
    keyed(this.facts, facts, ([key]) => key, ([key]) => el('div', {}, el('dt', {}, key), el('dd', {})), (item, [, value]) => setText(item.lastElementChild, value));
  },

  showHistory(detail) {
    const steps = (detail.timeline?.length ? detail.timeline : (detail.events || []).filter((event) => event.type === 'transition' && !event.connection)).slice(-40);
    keyed(this.history, [...steps].reverse(), (step) => `${step.atUnixMs} ${step.from} ${step.to}`, (step) => el('li', {},
      when(step.atUnixMs), ' ', stateChip(step.to), ' ', el('span', { class: 'dim' }, step.detail || step.cause || '')));
    if (!steps.length) fill(this.history, el('li', { class: 'dim', 'data-key': '' }, 'Nothing has happened yet.'));
    const now = Date.now();
    const begin = steps.length ? Math.max(steps[0].atUnixMs, now - 3600000) : now;
    const bars = steps.map((step, index) => {
      const from = Math.max(step.atUnixMs, begin);
      const until = Math.max(from, index + 1 < steps.length ? steps[index + 1].atUnixMs : now);
      return barOf(step.to, until - from);
    });
    fill(this.timeline, bars);
  },

  showCalls(records) {
    if (!records) {
      fill(this.calls, el('p', { class: 'dim' }, `${count(callsOf(live.servers.get(this.name) || {}))} answered. Single calls are not kept here.`));
      return;
    }
    fill(this.calls, records.length ? el('div', { class: 'sheet recent', tabindex: '0', role: 'region', 'aria-label': 'Recent calls' }, callTable([...records].reverse(), false)) : el('p', { class: 'dim' }, 'No calls yet.'));
  },

  showCatalog(catalog) {
    if (!catalog) {
      fill(this.catalog, el('p', { class: 'dim' }, 'It has not listed anything yet.'));
      return;
    }
    const info = catalog.serverInfo && typeof catalog.serverInfo === 'object' ? catalog.serverInfo : {};
    const kinds = [['tools', catalog.tools], ['prompts', catalog.prompts], ['resources', catalog.resources], ['templates', catalog.templates]];
    fill(this.catalog,
      el('p', {}, [info.title || info.name, info.version].filter(Boolean).join(' '), el('span', { class: 'dim' }, ` · ${catalog.protocol}, listed ${clock(catalog.listedAtUnixMs)}${catalog.remembered ? ', remembered from before' : ''}`)),
      el('ul', { class: 'plain' }, kinds.filter(([, names]) => names?.length).map(([kind, names]) => el('li', {},
        el('a', { href: `#/catalog?server=${encodeURIComponent(this.name)}&kind=${kind === 'templates' ? 'resources' : kind}` }, plural(names.length, kind.slice(0, -1))),
        el('span', { class: 'dim' }, `: ${names.slice(0, 8).join(', ')}${names.length > 8 ? ', …' : ''}`)))),
      catalog.hidden?.length ? el('details', {}, el('summary', {}, `${plural(catalog.hidden.length, 'item')} not shown`),
        el('ul', { class: 'plain' }, catalog.hidden.map((item) => el('li', {}, el('code', {}, item.name), ` ${item.reason}`)))) : null);
  },

  showConnections(server) {
    const all = server.connections || [];
    const text = JSON.stringify(all.map(({ idleMs, ...rest }) => rest));
    if (this.connections.dataset.text === text) return;
    this.connections.dataset.text = text;
    fill(this.connections, all.length ? el('div', { class: 'sheet' }, el('table', {},
      el('thead', {}, el('tr', {}, ['No.', 'State', 'For', 'Calls'].map((name) => el('th', { scope: 'col' }, name)))),
      el('tbody', {}, all.map((one) => el('tr', {}, el('td', {}, String(one.number)), el('td', {}, stateChip(one.state)),
        el('td', {}, `${one.session ? 'one session' : 'clients'} with ${one.capabilities.join(', ') || 'no capabilities'}`),
        el('td', {}, `${one.inFlight} in flight, ${one.waiting} waiting`))))))
      : el('p', { class: 'dim' }, 'Only the shared one.'));
  },

  line(text) {
    const end = this.logEnd.firstElementChild.checked;
    this.log.append(el('span', {}, `${text}\n`));
    this.logCount += 1;
    if (this.logCount > LOG_LINES_MAX) {
      this.log.firstElementChild.remove();
      this.logCount -= 1;
    }
    if (end) this.log.scrollTop = this.log.scrollHeight;
  },
};

function barOf(state, ms) {
  const bar = el('span', { class: 'bar-part', 'data-state': state, title: stateWord(state) });
  bar.style.flexGrow = String(Math.max(1, ms));
  return bar;
}
