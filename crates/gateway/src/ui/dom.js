// Elements from data. Text only ever becomes text: nothing here, and nothing that uses it, makes markup of a string.

const byId = (id) => document.getElementById(id);
const vectorSpace = document.querySelector('svg').namespaceURI;

/** An element. `attributes` may hold `on` (listeners) and properties that begin with a dot; children may be strings. */
function el(tag, attributes, ...children) {
  return dress(document.createElement(tag), attributes, children);
}

/** The same for a part of a drawing. */
function shape(tag, attributes, ...children) {
  return dress(document.createElementNS(vectorSpace, tag), attributes, children);
}

function dress(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name.startsWith('.')) {
      element[name.slice(1)] = value;
    } else {
      element.setAttribute(name, value === true ? '' : String(value));
    }
  }
  put(element, children);
  return element;
}

/** Adds children: elements, strings, numbers, lists of them; nothing for null. */
function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Replaces what an element holds. */
function fill(element, ...children) {
  element.replaceChildren();
  return put(element, children);
}

/** Sets a text only if it differs, so that screen readers and selections are left alone. */
function setText(element, text) {
  const wanted = text === null || text === undefined ? '' : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/** Keeps the children of `parent` in step with `items`, each known by a key, without touching what stays. */
function keyed(parent, items, keyOf, make, update) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  const there = new Map();
  for (const child of [...parent.children]) {
    if (wanted.has(child.dataset.key)) there.set(child.dataset.key, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = there.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (update) update(child, item);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  // What was moved has lost the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

function button(words, action, attributes) {
  return el('button', { type: 'button', on: { click: action }, ...attributes }, words);
}

/** What somebody should know now, in passing; also said aloud. */
function note(text, kind) {
  const notes = byId('notes');
  const line = el('div', { class: `note ${kind || ''}`, role: kind === 'bad' ? 'alert' : 'status' },
    el('span', {}, text),
    button('Close', () => line.remove(), { class: 'quiet small', 'aria-label': 'Close this note' }));
  notes.append(line);
  while (notes.children.length > 4) notes.firstElementChild.remove();
  setTimeout(() => line.remove(), kind === 'bad' ? 20000 : 6000);
}

let saidLast = 0;
let toSay = [];
/** Says something to screen readers: at most one sentence per second, many at once become a number. */
function say(text) {
  toSay.push(text);
  if (toSay.length > 1) return;
  setTimeout(() => {
    const texts = toSay;
    toSay = [];
    saidLast = Date.now();
    byId('say').textContent = texts.length > 3 ? `${texts.length} changes. ${texts.at(-1)}` : texts.join(' ');
  }, Math.max(120, 1000 - (Date.now() - saidLast)));
}

/** Asks before something is done. Resolves to whether it is to be. */
function confirmed(title, text, yes) {
  const dialog = byId('ask');
  setText(byId('ask-title'), title);
  setText(byId('ask-text'), text);
  setText(byId('ask-yes'), yes);
  return new Promise((resolve) => {
    const done = (answer) => {
      dialog.onclose = null;
      if (dialog.open) dialog.close();
      resolve(answer);
    };
    byId('ask-yes').onclick = () => done(true);
    byId('ask-no').onclick = () => done(false);
    dialog.onclose = () => done(false);
    dialog.showModal();
    byId('ask-no').focus();
  });
}

/** A labelled field of a filter bar. */
function field(label, control) {
  return el('label', { class: 'field' }, el('span', { class: 'field-label' }, label), control);
}

function select(options, value, changed) {
  const control = el('select', { on: { change: () => changed(control.value) } },
    options.map(([word, text]) => el('option', { value: word, '.selected': word === value }, text)));
  return control;
}

function searchBox(value, placeholder, changed) {
  let timer = 0;
  const control = el('input', { type: 'search', placeholder, '.value': value, autocomplete: 'off', spellcheck: 'false' });
  control.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(() => changed(control.value), 80);
  });
  return control;
}

function empty(title, text) {
  return el('div', { class: 'empty' }, el('p', { class: 'empty-title' }, title), text ? el('p', {}, text) : null);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    note(`${what} copied`);
  } catch {
    note(`The browser did not allow copying. It is: ${text}`, 'bad');
  }
}
