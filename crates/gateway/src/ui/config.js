// The configuration: what is in force, what a reload would do, which tools wait for approval, which profiles there are.

function problemList(problems) {
  return el('ul', { class: 'problems' }, problems.map((problem) => {
    if (typeof problem === 'string') return el('li', {}, problem);
    const at = problem.origin || problem;
    const place = at.file ? `${at.file}:${at.line ?? ''}:${at.column ?? ''}${at.path ? ` (${at.path})` : ''}` : problem.server || '';
    return el('li', {}, el('span', { class: 'tag', 'data-tone': problem.severity === 'error' ? 'bad' : problem.severity === 'warning' ? 'warn' : 'dim' }, problem.severity || 'problem'), ' ',
      el('strong', {}, problem.message), place ? el('span', { class: 'sub code' }, place) : null, problem.remedy ? el('span', { class: 'sub' }, problem.remedy) : null);
  }));
}

const PLAN_WORDS = { add: ['will be added', 'good'], remove: ['will be removed', 'bad'], replace: ['will be replaced: its calls are drained first', 'warn'], patch: ['will be changed without touching its process', 'good'] };

function planView(plan) {
  const lines = Object.entries(PLAN_WORDS).flatMap(([kind, [words, tone]]) => (plan[kind] || []).map((name) => el('li', {},
    el('span', { class: 'tag', 'data-tone': tone }, kind), ' ', el('strong', {}, name), ` ${words}`,
    plan.changes?.[name]?.length ? el('span', { class: 'sub' }, `changed: ${plan.changes[name].join(', ')}`) : null)));
  for (const setting of plan.gateway || []) {
    lines.push(el('li', {}, el('span', { class: 'tag', 'data-tone': setting.applies === 'restart' ? 'warn' : 'good' }, 'setting'), ' ', el('code', {}, setting.key),
      setting.applies === 'restart' ? ' applies after the next restart of Mainstay' : ' applies at once'));
  }
  const same = (plan.same || []).length;
  return [
    lines.length ? el('ul', { class: 'problems' }, lines) : el('p', {}, 'Nothing would change.'),
    same ? el('p', { class: 'dim' }, `${plural(same, 'server')} untouched.`) : null,
    plan.text ? el('details', {}, el('summary', {}, 'The plan as text'), el('pre', { class: 'code' }, plan.text)) : null,
  ];
}

const configView = {
  title: 'Configuration',

  mount(main) {
    this.box = el('div', {});
    this.outcome = el('div', { 'aria-live': 'polite' });
    this.dry = button('Show the plan', () => this.reload(true));
    this.apply = button('Reload now', () => this.reload(false), { class: 'main-button' });
    put(main, [
      el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, 'Configuration'), el('div', { class: 'row' }, this.dry, this.apply)),
      this.outcome, this.box,
    ]);
    this.load();
  },

  /** The file may have been read again without us. */
  status() {
    const config = live.status?.config;
    const seen = config ? `${config.loadedAtUnixMs} ${config.lastReload?.atUnixMs}` : '';
    if (this.seen !== undefined && this.seen !== seen) this.load();
    this.seen = seen;
  },

  async load() {
    try {
      const config = await api.get('/api/v1/config');
      this.showConfig(config);
    } catch (error) {
      const known = error.status === 404;
      this.dry.disabled = this.apply.disabled = known;
      fill(this.box, empty(known ? 'This Mainstay does not show its configuration' : 'The configuration could not be read', words(error)), this.serverProblems());
    }
  },

  serverProblems() {
    const servers = (live.status?.servers || []).filter((server) => server.problems?.length);
    return servers.length ? el('section', { class: 'card', 'aria-label': 'Problems of entries' }, el('h2', {}, 'Problems of entries'),
      servers.map((server) => [el('h3', {}, server.name), problemList(server.problems)])) : null;
  },

  showConfig(config) {
    const last = config.lastReload;
    fill(this.box,
      el('div', { class: 'cards' },
        el('section', { class: 'card', 'aria-label': 'In force' }, el('h2', {}, 'In force'),
          el('p', {}, el('code', {}, config.path || 'no file')),
          config.loadedAtUnixMs ? el('p', { class: 'dim' }, 'since ', when(config.loadedAtUnixMs), config.watched ? ', watched for changes' : '') : null,
          el('ul', { class: 'plain' }, (config.servers || []).map((server) => el('li', {}, el('a', { href: `#/servers/${encodeURIComponent(server.name)}` }, server.name), ' ',
            el('span', { class: 'dim' }, typeof server.origin === 'string' ? server.origin : server.origin ? `line ${server.origin.line}${server.origin.file === config.path ? '' : ` of ${server.origin.file}`}` : ''))))),
        el('section', { class: 'card', 'aria-label': 'Last reload' }, el('h2', {}, 'Last reload'),
          last ? [el('p', {}, el('span', { class: 'tag', 'data-tone': last.ok ? 'good' : 'bad' }, last.ok ? 'in force' : 'refused'), ' ', when(last.atUnixMs)),
            last.ok ? null : el('p', { class: 'hint' }, 'Nothing was changed: what ran goes on.'),
            last.problems?.length ? problemList(last.problems) : null,
            last.plan ? planView(last.plan) : null] : el('p', { class: 'dim' }, 'None since Mainstay started.')),
        config.pending ? el('section', { class: 'card', 'aria-label': 'Not in force yet' }, el('h2', {}, 'Not in force yet'), planView(config.pending)) : null),
      this.serverProblems());
  },

  async reload(dryRun) {
    if (!dryRun && !(await confirmed('Reload the configuration?', 'Only what changed is touched. If the file is invalid, nothing changes.', 'Reload'))) return;
    this.dry.disabled = this.apply.disabled = true;
    try {
      const answer = await api.post('/api/v1/reload', { dryRun });
      this.showOutcome(answer, dryRun);
    } catch (error) {
      if (error.status === 422 && error.body?.problems) this.showOutcome(error.body, dryRun);
      else note(words(error), 'bad');
    }
    this.dry.disabled = this.apply.disabled = false;
    if (!dryRun) this.load();
    refreshSoon(0);
  },

  showOutcome(answer, dryRun) {
    fill(this.outcome, el('section', { class: 'card', 'aria-label': 'Plan' },
      el('h2', {}, answer.ok === false ? 'Refused: nothing was changed' : dryRun ? 'What a reload would do' : 'Reloaded'),
      answer.problems?.length ? problemList(answer.problems) : null,
      answer.plan ? planView(answer.plan) : null));
  },
};

const changesView = {
  title: 'Held back',

  mount(main) {
    this.box = el('div', {});
    put(main, [el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, 'Tools held back')),
      el('p', { class: 'lead' }, 'Tools of servers with “pin” whose definition changed. Clients get the approved one, or none, until you approve.'), this.box]);
    this.load();
  },

  status() {
    const pending = (live.status?.servers || []).reduce((sum, server) => sum + (server.pendingTools || 0), 0);
    if (this.pending !== undefined && this.pending !== pending) this.load();
    this.pending = pending;
  },

  async load() {
    let changes;
    try {
      changes = (await api.get('/api/v1/tools/changes')).changes || [];
    } catch (error) {
      fill(this.box, empty(error.status === 404 ? 'This Mainstay does not pin tools' : 'The changes could not be read', error.status === 404 ? '' : words(error)));
      return;
    }
    if (!changes.length) {
      fill(this.box, empty('Nothing is held back', 'Every pinned tool is what was approved.'));
      return;
    }
    const servers = [...new Set(changes.map((change) => change.server))].sort();
    fill(this.box, servers.map((server) => {
      const own = changes.filter((change) => change.server === server);
      return el('section', { class: 'card', 'aria-label': server }, el('div', { class: 'row spread' }, el('h2', {}, server),
        button(own.length === 1 ? 'Approve' : `Approve all ${own.length}`, () => this.approve(server, null, own.length), { class: 'main-button' })),
      own.map((change) => el('details', { open: own.length <= 5 },
        el('summary', {}, el('span', { class: 'tag', 'data-tone': change.kind === 'removed' ? 'bad' : 'warn' }, change.kind), ' ', el('strong', {}, change.tool), ' ', change.seenAtUnixMs ? el('span', { class: 'dim' }, 'seen ', when(change.seenAtUnixMs)) : null),
        change.damaged ? el('p', { class: 'hint' }, change.damaged) : null,
        diffView(change),
        own.length > 1 ? button(`Approve ${change.tool}`, () => this.approve(server, [change.tool], 1), {}) : null)));
    }));
  },

  async approve(server, tools, number) {
    if (!(await confirmed(tools ? `Approve ${tools[0]} of ${server}?` : `Approve ${plural(number, 'change')} of ${server}?`, 'Clients see the new definition at once. Read the difference first: a description can carry instructions.', 'Approve'))) return;
    try {
      const answer = await api.post(api.server(server, '/approve'), tools ? { tools } : {});
      note(`${server}: ${plural((answer.approved || []).length, 'tool')} approved`, 'good');
    } catch (error) {
      note(words(error), 'bad');
    }
    await this.load();
    refreshSoon(0);
    document.querySelector('#main h1')?.focus();
  },
};

function diffView(change) {
  const lines = change.diff?.length ? change.diff : [change.approved !== undefined ? `- ${pretty(change.approved)}` : '', change.current !== undefined ? `+ ${pretty(change.current)}` : ''].filter(Boolean);
  const kinds = { '+': ['ins', 'added: '], '-': ['del', 'removed: '] };
  return el('pre', { class: 'diff', tabindex: '0', 'aria-label': `Difference of ${change.tool}` }, lines.map((line) => {
    const [tag, spoken] = kinds[line[0]] || ['span', ''];
    return el(tag, {}, spoken ? el('span', { class: 'hidden' }, spoken) : null, `${line}\n`);
  }));
}

const profilesView = {
  title: 'Profiles',

  mount(main) {
    this.box = el('div', {});
    put(main, [el('div', { class: 'head' }, el('h1', { tabindex: '-1' }, 'Endpoints and profiles')), this.box]);
    this.load();
  },

  async load() {
    let profiles = [];
    let why = '';
    try {
      profiles = (await api.get('/api/v1/profiles')).profiles || [];
    } catch (error) {
      why = error.status === 404 ? '' : words(error);
    }
    const at = (path) => new URL(path, location.origin).href;
    const all = [
      { name: 'All servers', endpoint: '/mcp', tools: live.status?.publication?.tools },
      ...profiles.map((profile) => ({ ...profile, endpoint: profile.endpoint || `/profiles/${encodeURIComponent(profile.name)}/mcp` })),
      ...(live.status?.servers || []).map((server) => ({ name: server.name, endpoint: `/servers/${encodeURIComponent(server.name)}/mcp`, tools: server.tools, single: true })),
    ];
    fill(this.box, why ? el('p', { class: 'hint' }, why) : null,
      profiles.length ? null : el('p', { class: 'lead' }, 'No profiles are configured: with mainstay.profiles an app gets the servers and tools that it needs.'),
      el('div', { class: 'sheet' }, el('table', {}, el('caption', { class: 'hidden' }, 'Endpoints for clients'),
        el('thead', {}, el('tr', {}, [['Name'], ['Endpoint'], ['Tools', 'num'], ['Discovery'], ['']].map(([head, kind]) => el('th', { scope: 'col', class: kind || null }, head || el('span', { class: 'hidden' }, 'Copy'))))),
        el('tbody', {}, all.map((one) => el('tr', {},
          el('th', { scope: 'row' }, one.name, el('span', { class: 'sub' }, one.single ? 'one server, names untouched' : one.servers ? one.servers.join(', ') : '')),
          el('td', {}, el('code', {}, one.endpoint)), el('td', { class: 'num' }, count(one.tools)), el('td', {}, one.discovery || ''),
          el('td', {}, button('Copy', () => copy(at(one.endpoint), 'Address'), { class: 'quiet small', 'aria-label': `Copy the address of ${one.name}` }))))))));
  },
};
