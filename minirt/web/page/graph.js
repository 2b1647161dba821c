// The picture of the network, as the server draws it: an SVG in a shadow tree, so that its styles and ours do not meet.
// Cards and wires bear keys; what is new or has changed is marked for a moment, and what goes fades first.

import { $, calm, h } from './dom.js';

const KNOWN = new Set(['svg', 'g', 'style', 'title', 'desc', 'rect', 'path', 'circle', 'text']);
const MARKED = 4000; // ms
const FADES = 450;
const STYLE = `
  :host { display: block; }
  svg { display: block; width: 100%; height: auto; }
  .container { cursor: pointer; }
  .container:focus { outline: none; }
  .container:focus-visible .card, .container:hover .card { stroke-width: 3.5; }
  .container[aria-current] .card { stroke-width: 4; }
  .mark { fill: none; stroke: var(--mark); stroke-width: 5; opacity: 0; animation: mark 4s ease-out; }
  path.new { stroke: var(--mark); stroke-width: 5; animation: draw 1s ease-out; }
  .going { opacity: .15; transition: opacity .4s; }
  @keyframes mark { 0%, 60% { opacity: .9; } 100% { opacity: 0; } }
  @keyframes draw { from { opacity: 0; } to { opacity: 1; } }
  @media (prefers-reduced-motion: reduce) {
    .mark { animation: none; opacity: .9; } path.new { animation: none; } .going { transition: none; }
  }`;

const box = $('picture');
const root = h('div');
root.attachShadow({ mode: 'open' });
box.append(root);

let shown = new Map();
let selected = '';
let waiting = 0;

export function draw(source, choose) {
  const next = read(source);
  if (!next) return;
  const keys = keysOf(next);
  const gone = [...shown].filter(([key]) => !keys.has(key));
  for (const [, element] of gone) element.classList.add('going');
  clearTimeout(waiting);
  const before = new Map([...shown].map(([key, element]) => [key, element.textContent]));
  if (gone.length && !calm()) waiting = setTimeout(() => place(next, keys, before, choose), FADES);
  else place(next, keys, before, choose);
}

export function select(id) {
  const before = selected;
  selected = id;
  const cards = [...shown.values()].filter((element) => element.dataset.id);
  for (const card of cards) card.toggleAttribute('aria-current', card.dataset.id === id);
  if (selected !== before) bring(cards.find((card) => card.dataset.id === id));
}

// Where the picture is wider than the screen, what is looked at is brought into sight.
function bring(element) {
  if (!element) return;
  const [card, sight] = [element.getBoundingClientRect(), box.getBoundingClientRect()];
  if (card.left >= sight.left && card.right <= sight.right) return;
  const left = box.scrollLeft + card.left - sight.left - Math.max(0, sight.width - card.width) / 2;
  box.scrollTo({ left, behavior: calm() ? 'auto' : 'smooth' });
}

// Its right edge fades as long as there is more of it.
function more() {
  box.classList.toggle('more', box.scrollWidth - box.clientWidth - box.scrollLeft > 4);
}

function place(svg, keys, before, choose) {
  const first = shown.size === 0;
  shown = keys;
  root.shadowRoot.replaceChildren(h('style', {}, STYLE), svg);
  root.style.setProperty('--wide', svg.viewBox.baseVal.width);
  root.style.setProperty('--tall', svg.viewBox.baseVal.height);
  for (const [key, element] of keys) {
    if (element.dataset.id) door(element, element.dataset.id, choose);
    if (!first && before.get(key) !== element.textContent) mark(element);
  }
  select(selected);
  more();
}

function door(element, id, choose) {
  element.setAttribute('tabindex', '0');
  element.setAttribute('role', 'link');
  element.setAttribute('aria-label', `container ${element.querySelector('.title')?.textContent ?? id}`);
  element.addEventListener('click', () => choose(id));
  element.addEventListener('keydown', (event) => { if (event.key === 'Enter') choose(id); });
}

function mark(element) {
  const card = element.querySelector('.card');
  const marks = card ? [card.cloneNode()] : element.querySelectorAll('path');
  for (const item of marks) item.setAttribute('class', card ? 'mark' : `${item.getAttribute('class')} new`);
  if (card) element.append(...marks);
  setTimeout(() => {
    for (const item of marks) card ? item.remove() : item.classList.remove('new');
  }, MARKED);
}

function keysOf(svg) {
  return new Map([...svg.querySelectorAll('[data-key]')].map((element) => [element.dataset.key, element]));
}

// The server has escaped all names; that nothing but a drawing comes of it is seen to here as well.
function read(source) {
  const svg = new DOMParser().parseFromString(source, 'image/svg+xml').documentElement;
  if (svg.localName !== 'svg') return undefined;
  for (const element of [svg, ...svg.querySelectorAll('*')]) {
    if (!KNOWN.has(element.localName)) element.remove();
    for (const { name } of [...element.attributes]) if (/^on|href/i.test(name)) element.removeAttribute(name);
  }
  return document.importNode(svg, true);
}

const fit = $('fit');
fit.addEventListener('click', () => {
  const whole = box.classList.toggle('fits');
  fit.setAttribute('aria-pressed', whole);
});
box.addEventListener('scroll', more, { passive: true });
new ResizeObserver(more).observe(box);
new ResizeObserver(more).observe(root);
