// Elements made by hand. Text is text here: nothing that comes from outside is ever read as HTML.

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== ''));
  return element;
}

// What is in `parent` becomes `children`. What stays as it is, is let be: it may be under a finger, or selected. Whoever
// had the focus there has it again, if it is there again.
export function put(parent, ...children) {
  const had = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  become(parent, children);
  if (had) parent.querySelector(`[data-key="${CSS.escape(had)}"]`)?.focus();
}

function become(parent, next) {
  const old = [...parent.childNodes];
  next.forEach((node, at) => {
    if (!old[at]) parent.append(node);
    else if (!old[at].isEqualNode(node)) change(old[at], node);
  });
  for (const node of old.slice(next.length)) node.remove();
}

function change(old, node) {
  if (old.nodeType !== Node.ELEMENT_NODE || old.localName !== node.localName) {
    old.replaceWith(node);
    return;
  }
  for (const name of old.getAttributeNames()) if (!node.hasAttribute(name)) old.removeAttribute(name);
  for (const name of node.getAttributeNames()) old.setAttribute(name, node.getAttribute(name));
  become(old, [...node.childNodes]);
}

export function say(text) {
  $('said').textContent = text;
}

export function copier(text, what = 'Copy') {
  const button = h('button', { type: 'button', class: 'copy', 'data-copies': text }, what);
  button.addEventListener('click', async () => {
    button.textContent = (await copied(button.dataset.copies)) ? 'Copied' : 'Not copied';
    say(button.textContent);
    setTimeout(() => { button.textContent = what; }, 1600);
  });
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', { class: 'hidden' });
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

// A line of words: no flag is torn apart behind its hyphens, and what is very long goes on below, wherever that may be.
export function whole(line) {
  const word = (text) => h('span', { class: text.length < 40 ? 'flag' : 'tight' }, text);
  return line.split(/(?<= |^)(-\S+|\S{40,})/).map((part, at) => (at % 2 ? word(part) : part));
}

// A line to be typed.
export const typed = (line) => h('div', { class: 'typed' }, h('code', {}, whole(line)), copier(line));

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export function clock(iso) {
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? String(iso ?? '') : time.toLocaleTimeString([], { hour12: false });
}

export function duration(seconds) {
  const ms = seconds * 1000;
  return ms >= 1000 ? `${seconds.toFixed(1)} s` : `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;
