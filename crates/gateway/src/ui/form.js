// A form from a JSON schema: what the schema says becomes fields, what is beyond a form becomes a field for JSON.

let fieldNumber = 0;
const DEPTH_MAX = 6;
const JSON_ROWS = 4;

/** Follows local references; whatever does not lead anywhere is any JSON. */
function resolved(schema, root, depth = 0) {
  if (schema === true || schema === undefined || schema === null) return {};
  if (typeof schema !== 'object') return {};
  if (typeof schema.$ref !== 'string' || depth > 16) return schema;
  if (!schema.$ref.startsWith('#')) return {};
  let place = root;
  for (const part of schema.$ref.slice(1).split('/').filter(Boolean)) {
    place = place?.[decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')];
  }
  const { $ref, ...beside } = schema;
  return { ...resolved(place, root, depth + 1), ...beside };
}

/** The one thing that a choice is about, if it is only about whether it is there; the list, if it is a list of constants. */
function simplified(schema, root) {
  const choices = schema.oneOf || schema.anyOf;
  if (!Array.isArray(choices)) return schema;
  const real = choices.map((choice) => resolved(choice, root)).filter((choice) => choice.type !== 'null');
  const { oneOf, anyOf, ...beside } = schema;
  if (real.length === 1) return { ...real[0], ...beside };
  if (real.length > 1 && real.every((choice) => choice.const !== undefined)) {
    return { ...beside, enum: real.map((choice) => choice.const), labels: real.map((choice) => choice.title || String(choice.const)) };
  }
  return schema;
}

function typeOf(schema) {
  if (Array.isArray(schema.type)) {
    const real = schema.type.filter((type) => type !== 'null');
    return real.length === 1 ? real[0] : 'json';
  }
  if (schema.type) return schema.type;
  if (schema.properties) return 'object';
  return 'json';
}

/**
 * A control for one value. It has `element`, `read()` (the value, or undefined if it is left out), `filled()` (whether
 * somebody has entered something), `check()` (a list of controls that are wrong, each with its message shown) and `focus()`.
 */
function controlFor(given, root, { name, required, depth = 0, value }) {
  const schema = simplified(resolved(given, root), root);
  const preset = value !== undefined ? value : schema.default;
  const about = { schema, root, name, required, depth, preset, given: value !== undefined };
  if (schema.const !== undefined) return constControl(about);
  if (Array.isArray(schema.enum)) return choiceControl(about);
  if (schema.oneOf || schema.anyOf || schema.allOf || schema.not || schema.if || depth > DEPTH_MAX) return jsonControl(about);
  switch (typeOf(schema)) {
    case 'string': return textControl(about);
    case 'number':
    case 'integer': return numberControl(about);
    case 'boolean': return flagControl(about);
    case 'array': return schema.items && !Array.isArray(schema.items) ? listControl(about) : jsonControl(about);
    case 'object': return schema.properties && Object.keys(schema.properties).length ? objectControl(about) : jsonControl(about);
    default: return jsonControl(about);
  }
}

/** Label, description, control and message of one value. */
function framed(about, input, read, judge) {
  fieldNumber += 1;
  const id = `f${fieldNumber}`;
  input.id = id;
  const wrong = el('p', { class: 'wrong', id: `${id}-wrong` });
  const described = [];
  let help = null;
  if (about.schema.description) {
    help = el('p', { class: 'help', id: `${id}-help` }, String(about.schema.description));
    described.push(`${id}-help`);
  }
  described.push(`${id}-wrong`);
  input.setAttribute('aria-describedby', described.join(' '));
  if (about.required) input.setAttribute('aria-required', 'true');
  const limits = limitWords(about.schema);
  const initial = input.value;
  const element = el('div', { class: 'input' },
    el('label', { for: id }, el('span', { class: 'input-name' }, about.schema.title || about.name),
      about.required ? el('span', { class: 'must' }, ' required') : el('span', { class: 'may' }, ' optional'),
      limits ? el('span', { class: 'may' }, ` · ${limits}`) : null),
    help, input, wrong);
  const control = {
    element,
    read,
    filled: () => about.given || input.value !== initial,
    focus: () => input.focus(),
    label: about.schema.title || about.name,
    check() {
      const message = judge();
      setText(wrong, message || '');
      setAttribute(input, 'aria-invalid', message ? 'true' : null);
      return message ? [{ control, message }] : [];
    },
  };
  // While it is entered, and not when it is left: a message that goes away then would move the button under the mouse.
  input.addEventListener('input', () => {
    if (input.hasAttribute('aria-invalid')) control.check();
  });
  return control;
}

function limitWords(schema) {
  const said = [];
  if (schema.minimum !== undefined) said.push(`at least ${schema.minimum}`);
  if (schema.maximum !== undefined) said.push(`at most ${schema.maximum}`);
  if (schema.maxLength !== undefined) said.push(`at most ${schema.maxLength} characters`);
  if (schema.format && schema.type === 'string') said.push(schema.format);
  if (schema.pattern) said.push(`like ${schema.pattern}`);
  return said.join(', ');
}

const MISSING = 'This is required.';

function textControl(about) {
  const { schema, required } = about;
  const kind = { date: 'date', time: 'time', 'date-time': 'text', email: 'text', uri: 'text', password: 'password' }[schema.format] || 'text';
  const long = kind === 'text' && !schema.format && (schema.maxLength === undefined || schema.maxLength > 80);
  const input = long ? el('textarea', { rows: 1, class: 'grow' }) : el('input', { type: kind });
  input.setAttribute('autocomplete', 'off');
  input.setAttribute('spellcheck', 'false');
  input.value = about.preset === undefined || about.preset === null ? '' : String(about.preset);
  const read = () => (input.value === '' && !required ? undefined : input.value);
  return framed(about, input, read, () => {
    const text = input.value;
    // An empty text is a text; where it makes no sense the schema says so, or the server does.
    if (text === '') return required && (schema.minLength > 0 || schema.pattern || schema.format) ? MISSING : null;
    if (schema.minLength !== undefined && [...text].length < schema.minLength) return `At least ${schema.minLength} characters, please.`;
    if (schema.maxLength !== undefined && [...text].length > schema.maxLength) return `At most ${schema.maxLength} characters, please.`;
    if (schema.pattern) {
      try {
        if (!new RegExp(schema.pattern, 'u').test(text)) return `This does not look like ${schema.pattern}.`;
      } catch {
        return null;
      }
    }
    return null;
  });
}

function numberControl(about) {
  const { schema, required } = about;
  const isWhole = typeOf(schema) === 'integer';
  const input = el('input', { type: 'text', inputmode: isWhole ? 'numeric' : 'decimal', autocomplete: 'off' });
  input.value = about.preset === undefined || about.preset === null ? '' : String(about.preset);
  const read = () => (input.value.trim() === '' ? undefined : Number(input.value));
  return framed(about, input, read, () => {
    const text = input.value.trim();
    if (text === '') return required ? MISSING : null;
    const number = Number(text);
    if (!Number.isFinite(number)) return 'This is not a number.';
    if (isWhole && !Number.isInteger(number)) return 'This must be a whole number.';
    if (schema.minimum !== undefined && number < schema.minimum) return `At least ${schema.minimum}, please.`;
    if (schema.maximum !== undefined && number > schema.maximum) return `At most ${schema.maximum}, please.`;
    if (schema.exclusiveMinimum !== undefined && number <= schema.exclusiveMinimum) return `More than ${schema.exclusiveMinimum}, please.`;
    if (schema.exclusiveMaximum !== undefined && number >= schema.exclusiveMaximum) return `Less than ${schema.exclusiveMaximum}, please.`;
    if (schema.multipleOf && Math.abs(number / schema.multipleOf - Math.round(number / schema.multipleOf)) > 1e-9) return `A multiple of ${schema.multipleOf}, please.`;
    return null;
  });
}

function flagControl(about) {
  const options = [['true', 'true'], ['false', 'false']];
  if (!about.required && about.preset === undefined) options.unshift(['', 'not set']);
  const input = el('select', {}, options.map(([value, text]) => el('option', { value, '.selected': String(about.preset) === value }, text)));
  if (about.required && about.preset === undefined) input.value = 'false';
  return framed(about, input, () => (input.value === '' ? undefined : input.value === 'true'), () => null);
}

function choiceControl(about) {
  const values = about.schema.enum.filter((value) => value !== null);
  const labels = about.schema.labels || values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value)));
  const input = el('select', {},
    el('option', { value: '' }, about.required ? 'choose…' : 'not set'),
    values.map((value, index) => el('option', { value: String(index), '.selected': value === about.preset }, labels[index])));
  return framed(about, input, () => (input.value === '' ? undefined : values[Number(input.value)]), () => (about.required && input.value === '' ? MISSING : null));
}

function constControl(about) {
  const input = el('input', { type: 'text', readonly: true, '.value': JSON.stringify(about.schema.const) });
  return framed(about, input, () => about.schema.const, () => null);
}

function jsonControl(about) {
  const input = el('textarea', { rows: JSON_ROWS, class: 'code', spellcheck: 'false', placeholder: 'JSON' });
  input.value = about.preset === undefined ? '' : JSON.stringify(about.preset, null, 2);
  const read = () => {
    try {
      return input.value.trim() === '' ? undefined : JSON.parse(input.value);
    } catch {
      return undefined;
    }
  };
  return framed(about, input, read, () => {
    if (input.value.trim() === '') return about.required ? MISSING : null;
    try {
      JSON.parse(input.value);
    } catch (error) {
      return `This is no JSON: ${error.message}.`;
    }
    const type = typeOf(about.schema);
    const value = read();
    const is = Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value;
    return (type === 'array' || type === 'object') && is !== type ? `This must be an ${type}.` : null;
  });
}

function group(about, ...inner) {
  return el('fieldset', { class: 'group' },
    el('legend', {}, el('span', { class: 'input-name' }, about.schema.title || about.name),
      about.required ? el('span', { class: 'must' }, ' required') : el('span', { class: 'may' }, ' optional')),
    about.schema.description ? el('p', { class: 'help' }, String(about.schema.description)) : null, inner);
}

function listControl(about) {
  const items = [];
  const list = el('div', { class: 'list' });
  const wrong = el('p', { class: 'wrong', role: 'alert' });
  const itemName = `${about.schema.title || about.name} item`;
  const add = (value, focus) => {
    const control = controlFor(about.schema.items, about.root, { name: itemName, required: true, depth: about.depth + 1, value });
    const row = el('div', { class: 'list-item' }, control.element, button('Remove', () => {
      items.splice(items.indexOf(entry), 1);
      row.remove();
      more.focus();
    }, { class: 'quiet small', 'aria-label': `Remove this ${itemName}` }));
    const entry = { control, row };
    items.push(entry);
    list.append(row);
    if (focus) control.focus();
  };
  const more = button('Add item', () => add(undefined, true), { class: 'quiet small' });
  for (const value of Array.isArray(about.preset) ? about.preset : []) add(value, false);
  return {
    element: group(about, list, more, wrong),
    label: about.name,
    focus: () => more.focus(),
    filled: () => items.length > 0,
    read() {
      if (!items.length && !about.required) return undefined;
      return items.map(({ control }) => control.read() ?? null);
    },
    check() {
      const found = items.flatMap(({ control }) => control.check());
      const { minItems, maxItems } = about.schema;
      let message = '';
      if (minItems !== undefined && items.length < minItems && (about.required || items.length)) message = `At least ${plural(minItems, 'item')}, please.`;
      if (maxItems !== undefined && items.length > maxItems) message = `At most ${plural(maxItems, 'item')}, please.`;
      setText(wrong, message);
      if (message) found.push({ control: this, message });
      return found;
    },
  };
}

function objectControl(about) {
  const must = new Set(about.schema.required || []);
  const names = Object.keys(about.schema.properties);
  // What is required comes first; else the schema's own order.
  names.sort((a, b) => Number(must.has(b)) - Number(must.has(a)));
  const controls = names.map((name) => [name, controlFor(about.schema.properties[name], about.root, {
    name,
    required: must.has(name),
    depth: about.depth + 1,
    value: about.preset?.[name],
  })]);
  const inner = controls.map(([, control]) => control.element);
  const filled = () => controls.some(([, control]) => control.filled());
  // An optional object in which nobody entered anything is left out, and nothing in it is asked for.
  const isLeftOut = () => !about.required && about.depth > 0 && !filled();
  return {
    element: about.depth === 0 ? el('div', { class: 'fields' }, inner) : group(about, inner),
    label: about.name,
    focus: () => controls[0]?.[1].focus(),
    filled,
    read() {
      if (isLeftOut()) return undefined;
      return Object.fromEntries(controls.map(([name, control]) => [name, control.read()]).filter(([, value]) => value !== undefined));
    },
    check() {
      return isLeftOut() ? [] : controls.flatMap(([, control]) => control.check());
    },
  };
}

/** The form of a whole tool: the fields, and the same as JSON for whoever prefers that. */
function argumentsForm(schema) {
  const root = schema && typeof schema === 'object' ? schema : {};
  const plainObject = { ...root, type: 'object' };
  const asked = Object.keys(root.properties || {}).length > 0;
  let control = asked
    ? controlFor(plainObject, root, { name: 'arguments', required: true })
    : null;
  const isForm = () => !box.firstElementChild?.classList.contains('raw');
  const raw = el('textarea', { class: 'code', rows: 8, spellcheck: 'false', 'aria-label': 'Arguments as JSON', 'aria-describedby': 'raw-wrong' });
  const rawWrong = el('p', { class: 'wrong', id: 'raw-wrong' });
  const rawBox = el('div', { class: 'raw' }, raw, rawWrong);
  const nothing = el('p', { class: 'dim' }, 'This tool takes no arguments.');
  const box = el('div', {}, control ? control.element : nothing);
  const rawValue = () => {
    try {
      const value = JSON.parse(raw.value.trim() || '{}');
      if (value === null || typeof value !== 'object' || Array.isArray(value)) return [null, 'The arguments must be a JSON object.'];
      return [value, ''];
    } catch (error) {
      return [null, `This is no JSON: ${error.message}.`];
    }
  };
  return {
    element: box,
    /** Changes between fields and JSON, taking along what has been entered. */
    asJson(on) {
      if (on === !isForm()) return;
      if (on) {
        raw.value = JSON.stringify(control ? control.read() : {}, null, 2);
        fill(box, rawBox);
        raw.focus();
      } else {
        const [value] = rawValue();
        if (control && value) control = controlFor(plainObject, root, { name: 'arguments', required: true, value });
        fill(box, control ? control.element : nothing);
      }
    },
    /** The arguments, or what is wrong with them: then the first wrong field has the focus. */
    read() {
      if (!isForm()) {
        const [value, message] = rawValue();
        setText(rawWrong, message);
        setAttribute(raw, 'aria-invalid', message ? 'true' : null);
        if (message) raw.focus();
        return message ? { wrong: [message] } : { value };
      }
      if (!control) return { value: {} };
      const wrong = control.check();
      if (wrong.length) {
        wrong[0].control.focus();
        return { wrong: wrong.map(({ control: at, message }) => `${at.label}: ${message}`) };
      }
      return { value: control.read() };
    },
  };
}
