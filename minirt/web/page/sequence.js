// A story as a sequence diagram: a lifeline for each who, an arrow for each step.
//
//   runtime      bridge     host-local     kernel
//      │ ADD eth0   │            │            │
//      ├───────────▶█ ADD eth0   │            │
//      │            ├───────────▶█            │
//      │            █ ip link add minirt0 …   │
//      │            ├────────────────────────▶│
//
// Names and labels stand in a monospaced font, whose characters are all equally wide, so that all is placed by counting.

import { calm, h, s } from './dom.js';

export const KERNEL = 'kernel';
const BESIDE = 'process 1';
const ADVANCE = 0.602; // of the font's size
const LABEL = 0.8; // of the root's font size: labels, and names
const ROW = 2.3; // and where fingers point:
const ROOMY = 2.6;
const BAR = 9;
const ENOUGH = 44; // characters of a label that say what it is about

export class Sequence {
  constructor(scroller, choose, unfold) {
    this.scroller = scroller;
    this.choose = choose;
    this.unfold = unfold;
    this.heads = h('div', { class: 'lanes', 'aria-hidden': 'true' });
    this.box = h('div', { class: 'lines' });
    scroller.replaceChildren(this.heads, this.box);
    this.rows = [];
    this.current = 0;
    new ResizeObserver(() => this.resized()).observe(scroller);
  }

  // `shown`: what has a row, [number, item] or [0, {fold: how many}].
  draw(shown, id, done) {
    Object.assign(this, { shown, id, done });
    this.layout();
  }

  resized() {
    if (this.shown && Math.abs(this.scroller.clientWidth - this.width) > 1) {
      this.layout();
      this.mark(this.current, true);
    }
  }

  layout() {
    this.rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.width = this.scroller.clientWidth;
    this.char = LABEL * this.rem * ADVANCE;
    this.row = Math.round((matchMedia('(pointer: coarse)').matches ? ROOMY : ROW) * this.rem);
    this.lanes = this.place(participants(this.shown));
    const height = this.shown.length * this.row + this.rem;
    const svg = s('svg', {
      width: this.wide, height, role: 'img', 'aria-label':
        `${this.shown.length} steps between ${[...this.lanes.keys()].join(', ')}`,
    });
    for (const x of this.lanes.values()) svg.append(s('path', { class: 'life', d: `M${x} 0V${height}` }));
    svg.append(...this.bars(height));
    this.rows = this.shown.map(([number, item], place) => this.draws(number, item, place * this.row));
    svg.append(...this.rows);
    this.box.replaceChildren(svg);
  }

  // The lifelines, and their names above: on two heights where they would meet.
  place(names) {
    const half = (name) => (name.length * this.char + this.rem) / 2;
    const [first, last] = [half(names[0]) + this.rem / 3, half(names.at(-1)) + this.rem / 3];
    const least = 2.6 * this.rem; // between two
    this.wide = Math.max(this.width, first + last + least * (names.length - 1));
    const gap = (this.wide - first - last) / Math.max(1, names.length - 1);
    const crowded = names.some((name, at) => at && half(name) + half(names[at - 1]) > gap);
    const lanes = new Map(names.map((name, at) => [name, Math.round(first + gap * at)]));
    this.heads.replaceChildren(...names.map((name, at) => {
      const head = h('span', { class: 'lane', 'data-who': kind(name) }, name);
      head.style.left = `${lanes.get(name)}px`;
      if (crowded && at % 2) head.classList.add('lower');
      return head;
    }));
    this.heads.classList.toggle('crowded', crowded);
    this.heads.style.width = `${this.wide}px`;
    return lanes;
  }

  // Where a plugin is at work: from the call to its answer.
  bars(height) {
    const open = [];
    const bars = [];
    const bar = ([who, from], to) => bars.push(s('rect', {
      class: 'work', x: this.lanes.get(who) - BAR / 2, y: from, width: BAR, height: Math.max(0, to - from), rx: 2,
    }));
    this.shown.forEach(([, item], place) => {
      const y = this.base(place);
      if (item.kind === 'call') open.push([item.to, y]);
      const at = item.kind === 'answer' || item.kind === 'problem' ? open.findLastIndex(([who]) => who === item.who) : -1;
      if (at >= 0) bar(open.splice(at, 1)[0], y);
    });
    for (const one of open) bar(one, this.done ? this.base(this.shown.length - 1) : height);
    return bars;
  }

  base(place) {
    return place * this.row + this.row - 0.55 * this.rem;
  }

  draws(number, item, y) {
    if (item.fold) return this.folded(item, y);
    const line = y + this.row - 0.55 * this.rem;
    const start = this.lanes.get(item.who);
    const end = item.kind === 'fact' ? undefined : this.lanes.get(item.to || KERNEL);
    const group = s('g', { class: `row ${item.kind}`, 'data-step': number });
    group.addEventListener('click', () => this.choose(number));
    group.append(
      s('title', {}, `${number}: ${item.who}${item.to ? ` → ${item.to}` : ''}: ${item.text}`),
      s('rect', { class: 'hit', x: 0, y: y + 2, width: this.wide, height: this.row - 2, rx: 6 }),
      ...(end === undefined ? [s('circle', { class: 'spot', cx: start, cy: line, r: 5 })] : arrow(start, end, line)),
      this.label(brief(item, this.id), Math.min(start, end ?? start), y));
    return group;
  }

  // What is written stands above its arrow, from where that begins; from the left edge when it has no room there.
  label(text, left, y) {
    const margin = 0.5 * this.rem;
    const room = (x) => Math.floor((this.wide - x - margin) / this.char);
    const own = left + BAR / 2 + 5;
    const x = room(own) >= Math.min(text.length, ENOUGH) ? own : margin;
    const most = room(x);
    const said = text.length > most ? shortened(text, most) : text;
    return s('text', { x: Math.round(x), y: y + 1.1 * this.rem }, said);
  }

  folded(item, y) {
    const group = s('g', { class: 'row folded' });
    group.addEventListener('click', () => this.unfold());
    group.append(
      s('rect', { class: 'hit', x: 0, y: y + 2, width: this.wide, height: this.row - 2, rx: 6 }),
      this.label(`${BESIDE} prepares the container: show its ${item.fold} steps`, this.rem / 2, y + 4));
    return group;
  }

  // The current step stands out, what is to come is faint; with 0 all are as they are.
  mark(number, quick = false) {
    this.current = number;
    this.scroller.classList.toggle('stepping', number > 0);
    let here;
    for (const row of this.rows) {
      const step = Number(row.dataset.step ?? 0);
      row.classList.toggle('current', number > 0 && step === number);
      row.classList.toggle('past', step > 0 && step < number);
      if (number > 0 && step === number) here = row;
    }
    if (here) this.reveal(this.rows.indexOf(here) * this.row, quick);
  }

  reveal(y, quick) {
    const head = this.heads.offsetHeight;
    const room = this.scroller.clientHeight - head;
    const top = Math.max(0, y - room * 0.4);
    const far = Math.abs(top - this.scroller.scrollTop) > room;
    this.scroller.scrollTo({ top, behavior: quick || far || calm() ? 'auto' : 'smooth' });
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}

// What is too long is cut in its middle: of many sysctls in a row the ends tell which is which.
function shortened(text, most) {
  const end = Math.floor((most - 1) / 2);
  return `${text.slice(0, most - 1 - end)}…${text.slice(text.length - end)}`;
}

function participants(shown) {
  const found = new Set(['runtime']);
  for (const [, item] of shown) {
    if (item.fold) continue;
    found.add(item.who);
    if (item.to) found.add(item.to);
  }
  found.delete(KERNEL);
  return [...found, KERNEL];
}

export function kind(who) {
  return { runtime: 'runtime', [KERNEL]: 'kernel', [BESIDE]: 'beside' }[who] ?? 'plugin';
}

function arrow(start, end, y) {
  const ahead = end > start ? 1 : -1;
  const [from, to] = [start + (ahead * BAR) / 2, end - (ahead * BAR) / 2];
  return [
    s('path', { class: 'arrow', d: `M${from} ${y}H${to - ahead * 4}` }),
    s('path', { class: 'tip', d: `M${to} ${y}l${-ahead * 10} -5v10z` }),
  ];
}

// A step in a line. The container's long id is called as the account calls it.
export function brief(item, id) {
  const text = withVariable(item.text, id).split('\n');
  const sign = item.kind === 'undo' ? 'undo: ' : '';
  return sign + text[0] + (text.length > 1 ? ' …' : '');
}

export function withVariable(text, id) {
  return id && id.length > 32 ? text.replaceAll(id, '$ID') : text;
}

export const folds = (item) => item.who === BESIDE;
