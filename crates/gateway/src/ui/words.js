// How things are said: times, sizes, states. A state always has its word; its colour and its sign only repeat it.

const STATES = {
  connected: ['Connected', '●'],
  connecting: ['Connecting', '◐'],
  idle: ['Idle', '○'],
  draining: ['Draining', '◒'],
  backoff: ['Backoff', '◌'],
  parked: ['Parked', '■'],
  disabled: ['Disabled', '–'],
};

function stateWord(state) {
  return (STATES[state] || [state || 'unknown'])[0];
}

/** A state as people see it: sign and word. */
function stateChip(state) {
  const chip = el('span', { class: 'chip' }, el('span', { class: 'sign', 'aria-hidden': 'true' }), el('span', { class: 'chip-word' }));
  setState(chip, state);
  return chip;
}

function setState(chip, state) {
  setAttribute(chip, 'data-state', state);
  setText(chip.firstElementChild, (STATES[state] || ['', '?'])[1]);
  setText(chip.lastElementChild, stateWord(state));
}

const OUTCOMES = {
  answered: ['Answered', 'good'],
  toolError: ['Tool error', 'warn'],
  serverError: ['Server error', 'warn'],
  refused: ['Refused', 'bad'],
  rejected: ['Rejected', 'bad'],
  unknown: ['Outcome unknown', 'bad'],
  cancelled: ['Cancelled', 'dim'],
};

function outcomeChip(outcome) {
  const [word, tone] = OUTCOMES[outcome] || [outcome || 'unknown', 'dim'];
  return el('span', { class: 'tag', 'data-tone': tone }, word);
}

/** Milliseconds as people say them. */
function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return '–';
  if (ms < 1) return '0 ms';
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const m = s / 60;
  if (m < 60) return `${Math.floor(m)} min`;
  const hours = m / 60;
  if (hours < 48) return `${Math.floor(hours)} h ${Math.floor(m % 60)} min`;
  return `${Math.floor(hours / 24)} d ${Math.floor(hours % 24)} h`;
}

function bytes(count) {
  if (count === null || count === undefined) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB'];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

const whole = new Intl.NumberFormat('en');
function count(value) {
  return value === null || value === undefined ? '–' : whole.format(value);
}

function plural(value, word) {
  return `${count(value)} ${word}${value === 1 ? '' : 's'}`;
}

/** A moment as a time of day, with the date if it was not today. */
function clock(unixMs) {
  const at = new Date(unixMs);
  const time = at.toLocaleTimeString('en-GB');
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString('en-GB')} ${time}`;
}

function when(unixMs) {
  const at = new Date(unixMs);
  return el('time', { datetime: Number.isNaN(at.getTime()) ? null : at.toISOString() }, clock(unixMs));
}

function pretty(value) {
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2);
}

/** camelCase as words. */
function spaced(word) {
  return String(word).replace(/([a-z0-9])([A-Z])/g, (_, a, b) => `${a} ${b.toLowerCase()}`);
}

/** What an event says, in one line. */
function eventWords(event) {
  switch (event.type) {
    case 'transition': {
      const why = event.detail || event.cause;
      return `${stateWord(event.from)} → ${stateWord(event.to)}${why ? `: ${why}` : ''}`;
    }
    case 'published':
      return `published with ${plural(event.tools, 'tool')}, ${plural(event.prompts, 'prompt')}, ${plural(event.resources, 'resource')} (version ${event.version})`;
    case 'lagged':
      return `${plural(event.missed, 'event')} missed: this page was too slow`;
    default: {
      const known = new Set(['type', 'server', 'atUnixMs', 'generation', 'connection', 'detail']);
      const rest = Object.entries(event)
        .filter(([name, value]) => !known.has(name) && value !== null && !(Array.isArray(value) && value.length === 0))
        .map(([name, value]) => `${spaced(name)} ${Array.isArray(value) ? value.join(', ') : typeof value === 'object' ? JSON.stringify(value) : value}`);
      if (event.detail) rest.unshift(event.detail);
      return `${spaced(event.type)}${rest.length ? `: ${rest.join('; ')}` : ''}`;
    }
  }
}
