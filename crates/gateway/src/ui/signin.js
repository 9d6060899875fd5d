// Signing in to a server: only ever on a click, in a tab of its own that the person opens; this page waits for the outcome.

const LOGIN_POLL_MS = 1000;
const WEB = ['http:', 'https:'];

/** Whether a sign-in would help. */
function needsSignIn(server) {
  return ['needed', 'expired'].includes(server?.signIn?.state);
}

function isSignedIn(server) {
  return ['signedIn', 'refreshing'].includes(server?.signIn?.state);
}

/** What is known of a sign-in, in one line; null where there is none. */
function signInWords(server) {
  const known = server.signIn;
  if (!known || known.state === 'none') return null;
  if (known.state === 'needed') return 'needed';
  if (known.state === 'expired') return 'has ended: sign in again';
  const left = known.expiresAtUnixMs ? known.expiresAtUnixMs - Date.now() : null;
  const until = left === null ? null : left > 0 ? `the token lasts another ${span(left)}` : 'the token is being renewed';
  return [known.issuer ? `at ${known.issuer}` : 'yes', known.scopes?.length ? `for ${known.scopes.join(', ')}` : null, until].filter(Boolean).join(', ');
}

/** A link that was looked at: web pages only, without a way back to this one. Null for everything else. */
function webLink(address, words) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return null;
  }
  if (!WEB.includes(url.protocol)) return null;
  return el('a', { class: 'main-button', href: url.href, target: '_blank', rel: 'noopener noreferrer' }, words);
}

/** The part of a server's page that signs in and out. */
class SignInDesk {
  constructor(name) {
    this.name = name;
    this.login = null;
    this.in = button('Sign in', () => this.begin('browser'), { class: 'main-button', hidden: true });
    this.out = button('Sign out', () => this.leave(), { hidden: true });
    this.buttons = [this.in, this.out];
    this.state = el('p', { role: 'status' });
    this.ways = el('div', {});
    this.card = el('section', { class: 'card', 'aria-label': 'Sign in', hidden: true }, el('h2', {}, `Sign in to ${name}`), this.ways, this.state);
  }

  status(server) {
    this.in.hidden = !needsSignIn(server);
    this.out.hidden = !isSignedIn(server);
  }

  async begin(how) {
    this.in.disabled = true;
    const before = this.login;
    this.login = null;
    try {
      if (before) await api.post(`/api/v1/logins/${before.id}/cancel`).catch(() => {});
      const login = await api.post(api.server(this.name, '/login'), { how });
      if (this.gone) return;
      this.login = login;
      this.show(login);
      this.poll();
    } catch (error) {
      note(`${this.name}: ${words(error)}`, 'bad');
    } finally {
      this.in.disabled = false;
    }
  }

  show(login) {
    const device = Boolean(login.userCode);
    const address = login.url || login.verificationUrl;
    const link = webLink(address, device ? 'Open the page for the code' : 'Open the sign-in page');
    const pasted = el('input', { type: 'text', autocomplete: 'off', spellcheck: 'false', id: 'pasted' });
    const send = async (event) => {
      event.preventDefault();
      if (!pasted.value.trim()) return;
      try {
        await api.post(`/api/v1/logins/${login.id}/finish`, { url: pasted.value.trim() });
        pasted.value = '';
        this.look();
      } catch (error) {
        note(`${this.name}: ${words(error)}`, 'bad');
      }
    };
    fill(this.ways,
      link ? el('p', {}, link, ' ', button('Copy the link', () => copy(address, 'Link'), { class: 'quiet' })) : el('p', { class: 'hint' }, 'The authorization server gave an address that is no web page.'),
      device ? el('p', {}, 'Enter this code there: ', el('strong', { class: 'code' }, login.userCode), ' ', button('Copy the code', () => copy(login.userCode, 'Code'), { class: 'quiet' })) : null,
      device ? null : el('details', {}, el('summary', {}, 'It ended at a page that does not load, or I have no browser here'),
        el('form', { class: 'bar', on: { submit: send } }, field('Address at which the browser ended', pasted), el('button', { type: 'submit' }, 'Finish')),
        el('p', {}, button('Sign in with a code on another device', () => this.begin('device'), { class: 'quiet' }))),
      el('p', {}, button('Give up', () => this.cancel(), { class: 'quiet' })));
    this.card.hidden = false;
    setText(this.state, 'Waiting until you have signed in…');
    link?.focus();
  }

  poll() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.look(), LOGIN_POLL_MS);
  }

  async look() {
    const login = this.login;
    if (!login || this.gone) return;
    clearTimeout(this.timer);
    try {
      const now = await api.get(`/api/v1/logins/${login.id}`);
      if (this.login !== login) return;
      if (now.state === 'done') return this.done();
      if (now.state === 'failed') return this.failed(now.problem, now.hint);
    } catch (error) {
      if (this.login !== login) return;
      if (error instanceof Trouble) return this.failed(words(error));
    }
    this.poll();
  }

  done() {
    this.close();
    note(`Signed in to ${this.name}`, 'good');
    refreshSoon(0);
  }

  failed(problem, hint) {
    this.login = null;
    fill(this.ways, el('p', {}, button('Try again', () => this.begin('browser'))));
    setText(this.state, [problem || 'The sign-in did not come about.', hint].filter(Boolean).join(' '));
  }

  async cancel() {
    const login = this.login;
    this.close();
    if (login) await api.post(`/api/v1/logins/${login.id}/cancel`).catch(() => {});
  }

  close() {
    const inside = this.card.contains(document.activeElement);
    this.login = null;
    clearTimeout(this.timer);
    this.card.hidden = true;
    fill(this.ways);
    setText(this.state, '');
    if (inside) byId('main').querySelector('h1')?.focus({ preventScroll: true });
  }

  async leave() {
    if (!(await confirmed(`Sign out of ${this.name}?`, 'Its tools stay listed; calls are refused until somebody signs in again.', 'Sign out'))) return;
    try {
      await api.post(api.server(this.name, '/logout'), {});
      note(`Signed out of ${this.name}`, 'good');
    } catch (error) {
      note(`${this.name}: ${words(error)}`, 'bad');
    }
    refreshSoon(0);
  }

  end() {
    this.gone = true;
    clearTimeout(this.timer);
  }
}
