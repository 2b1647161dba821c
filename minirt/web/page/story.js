// A story, step by step: the diagram, the step, the whole account, and the buttons. Step 0 is the story as a whole.

import { badges } from './overview.js';
import { $, calm, clock, copier, count, duration, h, say, whole as words } from './dom.js';
import { Sequence, folds, kind, KERNEL, withVariable } from './sequence.js';

const PACE = 1700; // ms a step, when it plays by itself

export class Story {
  constructor(move) {
    this.move = move; // tells the address what is looked at
    this.id = '';
    this.items = [];
    this.step = 0;
    this.unfolded = false;
    this.timer = 0;
    this.sequence = new Sequence($('sequence'), (step) => this.go(step), () => this.fold(true));
    $('first').addEventListener('click', () => this.go(this.steps[0]));
    $('back').addEventListener('click', () => this.by(-1));
    $('next').addEventListener('click', () => this.by(1));
    $('last').addEventListener('click', () => this.go(this.steps.at(-1)));
    $('play').addEventListener('click', () => this.play());
    $('slider').addEventListener('input', () => this.go(this.steps[$('slider').value - 1] ?? 0));
    $('fold').querySelector('input').addEventListener('change', (event) => this.fold(event.target.checked));
    new ResizeObserver(() => this.reveal(true)).observe($('account'));
    this.buttons();
  }

  // Look at step `step` of the story `id`.
  async open(id, step) {
    if (id === this.id) {
      if (step !== this.step && this.items.length) this.go(step, false);
      return;
    }
    Object.assign(this, { id, items: [], told: undefined, step, unfolded: false, lost: false });
    this.stop();
    await this.load();
    if (id !== this.id) return;
    $('account').scrollTop = $('sequence').scrollTop = 0;
    this.go(step, false);
  }

  close() {
    this.stop();
    this.id = '';
    this.items = [];
  }

  async load() {
    const id = this.id;
    try {
      const answer = await fetch(`stories/${encodeURIComponent(id)}`);
      if (id !== this.id) return;
      if (answer.ok) {
        const { items, ...told } = await answer.json();
        Object.assign(this, { items, told, lost: false });
      } else {
        this.lost = true;
      }
    } catch {
      return; // the connection says so, and `load` comes again with the next one
    }
    this.draw();
  }

  // What the list of stories says of this one.
  listed(stories) {
    const found = stories.find((story) => story.id === this.id);
    if (!this.id || !found) return;
    const { count: _, ...told } = found;
    Object.assign(this, { told: { ...this.told, ...told } });
    this.head();
  }

  grown(news) {
    if (news.story !== this.id || !this.told) return;
    if (news.from > this.items.length) {
      this.load();
      return;
    }
    const atEnd = this.step > 0 && this.step === this.steps.at(-1);
    this.items.splice(news.from, this.items.length - news.from, ...news.items);
    this.told.done = news.done;
    this.draw();
    if (atEnd && news.items.length) this.go(this.steps.at(-1));
    else if (!this.step) this.sequence.toEnd();
  }

  // --- what is shown -------------------------------------------------------------------------------------------------

  // The long id, which the account calls $ID.
  get container() {
    const call = this.items.find((item) => item.details?.environment?.CNI_CONTAINERID);
    return call?.details.environment.CNI_CONTAINERID ?? this.told?.container_ids?.[0] ?? '';
  }

  get steps() {
    return this.items.map((_, at) => at + 1).filter((step) => this.unfolded || !folds(this.items[step - 1]));
  }

  // Numbers and items; those of process 1 are one row, unless they are asked for.
  get shown() {
    const rows = [];
    this.items.forEach((item, at) => {
      if (this.unfolded || !folds(item)) rows.push([at + 1, item]);
      else if (rows.at(-1)?.[1].fold) rows.at(-1)[1].fold += 1;
      else rows.push([0, { fold: 1 }]);
    });
    return rows;
  }

  fold(unfolded) {
    this.unfolded = unfolded;
    if (!unfolded && this.step && folds(this.items[this.step - 1])) this.step = this.steps.findLast((one) => one < this.step) ?? 0;
    this.draw();
    this.go(this.step);
  }

  draw() {
    this.head();
    this.sequence.draw(this.shown, this.container, this.told?.done);
    this.account();
    this.mark(true);
  }

  head() {
    const told = this.told;
    document.title = told ? `${told.command} ${told.container}, minirt` : 'minirt';
    $('story-title').replaceChildren(...(told
      ? [told.command, ' ', h('span', {}, told.container), ' ', badges(told.verbs)]
      : [this.lost ? 'A story that is not kept any more' : 'A story']));
    const end = this.items.at(-1)?.at;
    const busy = atWork(this.items);
    const over = end - busy > 1 ? `, over ${duration(end)}` : '';
    $('story-meta').replaceChildren(...(told ? [
      told.done ? '' : h('span', { class: 'badge', 'data-verb': 'live' }, told.runs ? 'runs' : 'live'),
      [count(this.items.length, 'step'), told.done && end ? `in ${duration(busy)}${over}` : '', `at ${clock(told.time)}`]
        .filter(Boolean).join(' '),
    ] : [this.lost ? 'The oldest go when there are many, and all when minirt serve ends.' : '']).filter(Boolean));
    const beside = this.items.filter(folds).length;
    $('fold').hidden = !beside;
    $('fold').querySelector('input').checked = this.unfolded;
    $('fold').querySelector('span').textContent = `with process 1 (${beside})`;
    this.problem();
  }

  problem() {
    const at = this.items.findIndex((item) => item.kind === 'problem');
    const line = $('story-problem');
    line.hidden = at < 0 && !this.told?.failed;
    if (line.hidden) return;
    const item = this.items[at];
    line.replaceChildren(h('strong', {}, item ? `${item.who} failed: ` : 'It failed.'), item ? short(withVariable(item.text, this.container)) : '', ' ',
      item ? h('a', { href: `#/story/${encodeURIComponent(this.id)}/${at + 1}` }, 'See the step') : '');
  }

  account() {
    const list = $('account');
    list.replaceChildren(...this.shown.map(([number, item]) => {
      if (item.fold) return h('li', { class: 'quiet' }, `process 1: ${count(item.fold, 'step')}, not shown`);
      const line = h('li', { class: item.kind, 'data-step': number }, h('pre', {}, printed(item.lines ?? [item.text])));
      line.addEventListener('click', () => { if (getSelection().isCollapsed) this.go(number); });
      return line;
    }));
  }

  mark(quick = false) {
    const { step, steps, items } = this;
    const place = steps.indexOf(step) + 1;
    this.sequence.mark(step, quick);
    $('step').replaceChildren(...(step ? card(items[step - 1], place, steps.length, this.container) : whole(this)));
    for (const line of $('account').children) {
      const is = step > 0 && Number(line.dataset.step) === step;
      line.classList.toggle('current', is);
      if (is) line.setAttribute('aria-current', 'step');
      else line.removeAttribute('aria-current');
    }
    $('account').classList.toggle('stepping', step > 0);
    this.reveal(quick);
    Object.assign($('slider'), { max: steps.length, value: place });
    $('slider').setAttribute('aria-valuetext', step ? `${place} of ${steps.length}: ${items[step - 1].text}` : 'the whole story');
    $('place').textContent = `${place} / ${steps.length}`;
    for (const name of ['first', 'back']) $(name).disabled = place <= 1;
    for (const name of ['next', 'last']) $(name).disabled = !steps.length || place === steps.length;
    $('play').disabled = !steps.length;
  }

  // The account is scrolled to the step, and the page stays where it is.
  reveal(quick) {
    const list = $('account');
    const line = list.querySelector('.current');
    if (!line) return;
    const top = line.offsetTop - list.offsetTop - list.clientHeight * 0.3;
    list.scrollTo({ top, behavior: quick || calm() ? 'auto' : 'smooth' });
  }

  // --- moving --------------------------------------------------------------------------------------------------------

  go(step, told = true) {
    const most = this.items.length;
    const wanted = Math.max(0, Math.min(Number(step) || 0, most));
    if (wanted && folds(this.items[wanted - 1]) && !this.unfolded) {
      this.unfolded = true;
      this.step = wanted;
      this.draw();
    }
    const jumped = Math.abs(wanted - this.step) > 8;
    this.step = wanted;
    this.mark(jumped);
    if (told) this.move(this.id, wanted);
    if (wanted && !this.timer) say(`step ${wanted}: ${this.items[wanted - 1].who}: ${this.items[wanted - 1].text}`.slice(0, 200));
  }

  by(offset) {
    const { steps } = this;
    const place = steps.indexOf(this.step) + offset;
    if (steps.length) this.go(steps[Math.max(0, Math.min(place, steps.length - 1))]);
  }

  play() {
    if (this.timer) {
      this.stop();
      return;
    }
    if (this.step === this.steps.at(-1)) this.go(this.steps[0]);
    else if (!this.step) this.by(1);
    this.timer = setInterval(() => {
      if (this.step === this.steps.at(-1) && this.told?.done) this.stop();
      else if (this.step !== this.steps.at(-1)) this.by(1);
    }, PACE);
    this.buttons();
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.buttons();
  }

  buttons() {
    $('play').dataset.playing = Boolean(this.timer);
    $('play').setAttribute('aria-label', this.timer ? 'Pause' : 'Play');
  }

  key(event) {
    const inRange = event.target.matches?.('input[type=range]');
    const keys = { ArrowLeft: () => this.by(-1), ArrowRight: () => this.by(1), Home: () => this.go(this.steps[0]),
      End: () => this.go(this.steps.at(-1)), ' ': () => this.play() };
    if (!keys[event.key] || event.ctrlKey || event.altKey || event.metaKey || (inRange && event.key !== ' ')) return;
    if (event.key === ' ' && event.target.closest?.('button, summary, a, input[type=checkbox]')) return;
    event.preventDefault();
    keys[event.key]();
  }
}

// The seconds that the command was at work: not those in which it waited for a process of the container's to end.
function atWork(items) {
  let [sum, before, waits] = [0, 0, false];
  for (const item of items) {
    if (!waits) sum += item.at - before;
    waits = item.waits || (waits && folds(item));
    before = item.at;
  }
  return sum;
}

// What is said of a failure names others' ids: their beginning will do.
const short = (text) => text.replace(/\b[0-9a-f]{64}\b/g, (id) => id.slice(0, 12));

// Lines as they are printed; one that has no room goes on below, a little further in.
function printed(lines) {
  return lines.map((line, at) => {
    const span = h('span', {}, words(line), at < lines.length - 1 ? '\n' : '');
    span.style.setProperty('--in', Math.min(line.length - line.trimStart().length, 14) + 2);
    return span;
  });
}

// --- the step ----------------------------------------------------------------------------------------------------------

function whole(story) {
  const { items, told } = story;
  if (!told) return [];
  const calls = items.filter((item) => item.kind === 'call').length;
  const commands = items.filter((item) => item.kind === 'command').length;
  return [
    h('p', { class: 'who' }, 'The whole story'),
    h('p', { class: 'what' }, `${count(calls, 'call')} of plugins, ${count(commands, 'change')} of the kernel's state.`),
    h('p', { class: 'why' }, 'Step through it with the arrow keys, or let it play with the space bar.'),
  ];
}

function card(item, place, most, id) {
  const command = item.kind === 'command' || item.kind === 'undo';
  const to = item.to || (command ? KERNEL : '');
  return [
    h('p', { class: 'who' },
      party(item.who), to ? h('span', { class: 'to' }, ' → ') : '', to ? party(to) : '',
      h('span', { class: 'of' }, `step ${place} of ${most}`,
        item.at !== undefined ? ` · +${duration(item.at)}` : '')),
    h('div', { class: `what ${item.kind}${item.text.length > 140 ? ' long' : ''}` },
      h(command ? 'code' : 'span', {}, item.kind === 'undo' ? 'undo: ' : '', words(withVariable(item.text, id))),
      command ? copier(item.text) : ''),
    item.why ? h('p', { class: 'why' }, item.why) : '',
    item.seconds ? h('p', { class: 'why' }, `It took ${duration(item.seconds)}.`) : '',
    ...details(item.details ?? {}),
  ].filter(Boolean);
}

const party = (name) => h('b', { class: 'party', 'data-who': kind(name) }, name);

const NAMES = { environment: 'Environment', configuration: 'Configuration', result: 'Result', log: 'Log', exit: 'Exit code',
  stderr: 'Standard error' };

const SAID = ['program', 'found', 'list', 'id', 'name', 'waits']; // in a sentence, or by the story itself

function* details(all) {
  if (all.list) yield h('p', { class: 'why' }, 'Its network is listed in ', h('code', {}, all.list), '.');
  if (all.program) yield h('p', { class: 'why' }, 'The program ', h('code', {}, all.program), all.found ? `: ${all.found}` : '', '.');
  if (all.id) yield h('p', { class: 'why' }, 'Its id is ', h('code', {}, String(all.id)), '.');
  for (const [name, value] of Object.entries(all)) {
    if (!SAID.includes(name)) yield detail(name, value);
  }
}

function detail(name, value) {
  const body = name === 'environment'
    ? h('dl', { class: 'env' }, Object.entries(value).map(([key, text]) => [h('dt', {}, key), h('dd', {}, text)]))
    : h('pre', {}, typeof value === 'string' ? value : JSON.stringify(value, null, 2));
  const box = h('details', { class: 'detail', open: opened.has(name) }, h('summary', {}, NAMES[name] ?? name), body);
  box.addEventListener('toggle', () => (box.open ? opened.add(name) : opened.delete(name)));
  return box;
}

const opened = new Set(); // what was opened stays open from step to step
