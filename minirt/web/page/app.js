// The page: what is heard from the server, and the address that says what is looked at.
//
//   #/   #/container/ID   #/story/ID   #/story/ID/STEP

import { connect } from './connection.js';
import { $, clock, say } from './dom.js';
import { draw, select } from './graph.js';
import * as overview from './overview.js';
import { Story } from './story.js';

const FRESH = 30000; // ms that a story counts as the latest
const TOLD = { connecting: 'connecting', live: 'live', reconnecting: 'reconnecting', stopped: 'stopped', ended: 'ended' };

let picture;
let stories = [];
let looked = { view: 'overview' };
let known; // the stories that were there when the page came
let fresh = 0;
let heard = '';
let written = 0;
let changed = 0;

const story = new Story((id, step) => {
  looked = { view: 'story', id, step };
  const from = location.hash; // whoever follows a link meanwhile has another, before the page hears of it
  clearTimeout(written); // browsers refuse an address that changes many times a second
  written = setTimeout(() => {
    if (looked.view === 'story' && location.hash === from) history.replaceState(null, '', address(looked));
  }, 120);
});

function address({ id, step }) {
  return `#/story/${encodeURIComponent(id)}${step ? `/${step}` : ''}`;
}

function read() {
  const [view, id = '', step = ''] = location.hash.replace(/^#\/?/, '').split('/').map(decode);
  if (view === 'container' && id) return { view: 'overview', container: id };
  if (view === 'story' && id) return { view: 'story', id, step: Number(step) || 0 };
  return { view: 'overview' };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show() {
  clearTimeout(written);
  const before = looked;
  looked = read();
  $('overview').hidden = looked.view !== 'overview';
  $('story').hidden = looked.view !== 'story';
  document.body.dataset.view = looked.view;
  if (looked.view === 'story') {
    story.open(looked.id, looked.step);
    if (before.view !== 'story' || before.id !== looked.id) {
      scrollTo(0, 0);
      $('story-title').focus({ preventScroll: true });
    }
  } else {
    story.close();
    document.title = picture ? `minirt on ${picture.host}` : 'minirt';
    lists();
    if (looked.container !== before.container) reveal();
  }
}

// Once for each container that is looked at, as soon as there is something to see of it.
function reveal() {
  const panel = $('facts');
  if (!looked.container || panel.hidden) return;
  panel.scrollIntoView({ block: 'nearest' });
  panel.querySelector('h2')?.focus({ preventScroll: true });
}

function lists() {
  const list = picture?.containers ?? [];
  const id = looked.container ?? '';
  overview.stories(stories);
  if (!picture) return;
  overview.containers(list, id);
  overview.networks(picture.networks ?? []);
  overview.facts(list.find((item) => item.id === id), id, stories);
  select(id);
}

const hear = {
  picture(news) {
    const first = !picture;
    if (picture) differences(picture.containers, news.containers);
    if (picture?.svg !== news.svg) draw(news.svg, (id) => { location.hash = `#/container/${id}`; });
    picture = news;
    $('host').textContent = news.host;
    $('text').textContent = news.text;
    if (looked.view === 'overview') document.title = `minirt on ${news.host}`;
    lists();
    if (first) reveal();
  },

  stories(news) {
    stories = news;
    known ??= new Set(news.map((one) => one.id));
    lists();
    latest();
    story.listed(news);
  },

  items(news) {
    story.grown(news);
  },
};

// The newest story that came while the page was there: a line above the graph, until it is old.
function latest() {
  const newest = stories.find((one) => !one.done && !one.runs) ?? stories[0];
  const is = newest && !known.has(newest.id) ? newest : undefined;
  clearTimeout(fresh);
  overview.now(is);
  if (is?.done) fresh = setTimeout(() => { known.add(is.id); overview.now(); }, FRESH);
}

function differences(before, after) {
  const names = (list) => new Map(list.map((item) => [item.id, item.name]));
  const [was, is] = [names(before), names(after)];
  const come = [...is].filter(([id]) => !was.has(id)).map(([, name]) => `container ${name} has come`);
  const gone = [...was].filter(([id]) => !is.has(id)).map(([, name]) => `container ${name} has gone`);
  if (come.length + gone.length) {
    say([...come, ...gone].join(', '));
    $('changed').textContent = [...come, ...gone].join(', ');
    clearTimeout(changed);
    changed = setTimeout(() => { $('changed').textContent = ''; }, 6000);
  }
}

function connection(state) {
  const pill = $('connection');
  if (state === 'live' && story.id && heard && heard !== 'live') story.load();
  if (state === 'reconnecting' || state === 'ended') $('since').textContent = `at ${clock(new Date().toISOString())}`;
  if (heard && heard !== state && heard !== 'connecting') say(`connection: ${TOLD[state]}`);
  heard = state;
  pill.dataset.state = state;
  pill.querySelector('span').textContent = TOLD[state];
  document.body.dataset.connection = state;
  $('stopped').hidden = state !== 'stopped' && state !== 'ended';
  $('why').textContent = state === 'ended' ? 'minirt serve has ended.' : 'minirt serve does not answer.';
}

addEventListener('hashchange', show);
addEventListener('keydown', (event) => {
  if (looked.view === 'story') story.key(event);
  if (event.key === 'Escape' && location.hash.length > 2) location.hash = '#/';
});
show();
connect((name, news) => hear[name](news), connection);
