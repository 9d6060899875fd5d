// The admin API: questions, orders and streams. Members that an older Mainstay does not have are simply absent.

/** What is wrong, in words, with the remedy if there is one. */
class Trouble extends Error {
  constructor(status, body) {
    const error = (body && body.error) || {};
    super(typeof error === 'string' ? error : error.message || `Mainstay answered ${status}`);
    this.status = status;
    this.hint = error.hint;
    this.body = body;
  }
}

const api = {
  /** Asks; throws Trouble for a refusal, and whatever fetch throws if nobody is there. */
  async get(path, signal) {
    return answerOf(await fetch(path, { headers: { accept: 'application/json' }, signal, cache: 'no-store' }));
  },
  /** Orders. */
  async post(path, body, signal) {
    return answerOf(await fetch(path, {
      method: 'POST',
      headers: { 'mainstay-request': '1', 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
    }));
  },
  server: (name, rest) => `/api/v1/servers/${encodeURIComponent(name)}${rest || ''}`,
};

async function answerOf(response) {
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = { error: { message: text } };
  }
  if (!response.ok) throw new Trouble(response.status, body);
  return body;
}

function words(error) {
  if (error instanceof Trouble) return error.hint ? `${error.message} (${error.hint})` : error.message;
  return 'Mainstay does not answer.';
}

/**
 * A stream of events that comes back by itself, however it ended, and rests while nobody looks at the page.
 * `told` gets each event; `state` hears 'open' or 'lost'.
 */
class Stream {
  constructor(path, told, state) {
    this.path = path;
    this.told = told;
    this.state = state || (() => {});
    this.wait = 500;
    this.ended = false;
    this.visible = () => (document.hidden ? this.rest() : this.open());
    document.addEventListener('visibilitychange', this.visible);
    this.open();
  }

  open() {
    if (this.ended || this.source || document.hidden) return;
    const source = new EventSource(typeof this.path === 'function' ? this.path() : this.path);
    this.source = source;
    source.onopen = () => {
      this.wait = 500;
      this.state('open');
    };
    source.onmessage = (event) => {
      let record;
      try {
        record = JSON.parse(event.data);
      } catch {
        return;
      }
      this.told(record);
    };
    source.onerror = () => {
      if (this.source !== source) return;
      this.rest();
      this.state('lost');
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, 4000);
    };
  }

  rest() {
    clearTimeout(this.timer);
    if (this.source) this.source.close();
    this.source = null;
  }

  end() {
    this.ended = true;
    this.rest();
    document.removeEventListener('visibilitychange', this.visible);
  }
}
