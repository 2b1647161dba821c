// What there is: containers, stories, networks, and the facts of the container that is looked at.

import { $, clock, copier, count, h, put, typed } from './dom.js';

const link = (hash, key, ...children) => h('a', { href: hash, class: 'row', 'data-key': key }, ...children);
const words = (list, kind) => list.map((word) => h('span', { class: kind }, word));

export function containers(list, selected) {
  document.body.toggleAttribute('data-empty', !list.length);
  $('containers-count').textContent = list.length || '';
  put($('containers'), list.length ? h('ul', { class: 'rows' }, list.map((item) => row(item, selected))) : nobody());
}

function row(item, selected) {
  const addresses = item.interfaces.flatMap((one) => one.addresses.map((address) => address.split('/')[0]));
  const current = item.id === selected ? 'true' : undefined;
  const anchor = link(`#/container/${item.id}`, item.id,
    h('i', { class: 'dot', 'data-state': item.state, 'aria-hidden': 'true' }),
    h('b', {}, item.name),
    h('span', { class: 'end' }, item.state),
    h('span', { class: 'under mono' }, addresses.join('  ') || 'no network but lo'));
  if (current) anchor.setAttribute('aria-current', 'true');
  return h('li', {}, anchor);
}

function nobody() {
  return h('div', { class: 'empty' },
    h('p', {}, 'No container is attached. Start one in a terminal, and see it come:'),
    typed('minirt run -d --name web -p 8080:80 host sleep 600'),
    h('p', {}, 'Or give it a network of its own:'),
    typed('minirt network create shop'),
    typed('minirt run -d --name db --network shop host sleep 600'));
}

export function stories(list) {
  $('stories-count').textContent = list.length || '';
  put($('stories'), list.length
    ? h('ul', { class: 'rows' }, list.map(told))
    : h('div', { class: 'empty' },
      h('p', {}, 'Nothing has been watched yet. What attaches or detaches a container from now on is told here, step ' +
        'by step:'),
      typed('minirt run --rm --network minirt host ip addr')));
}

function told(story) {
  const state = story.failed ? 'failed' : story.done ? count(story.count, 'step') : story.runs ? 'runs' : 'live';
  return h('li', {}, link(`#/story/${encodeURIComponent(story.id)}`, `story ${story.id}`,
    badges(story.verbs),
    h('b', {}, story.command, h('span', { class: 'name' }, ` ${story.container}`)),
    h('span', { class: 'end', 'data-state': state }, state),
    h('span', { class: 'under' }, clock(story.time), story.failed ? ` · ${count(story.count, 'step')}` : '')));
}

export const badges = (verbs) => h('span', { class: 'badges' }, verbs.map((verb) =>
  h('span', { class: 'badge', 'data-verb': verb }, verb)));

export function networks(list) {
  $('networks-count').textContent = list.length || '';
  put($('networks'), list.length
    ? h('ul', { class: 'rows' }, list.map(network))
    : h('div', { class: 'empty' }, h('p', {}, 'No network. This makes one:'), typed('minirt network create shop')));
}

function network(item) {
  const notes = [...item.subnets, ...(item.masquerade ? ['masquerade'] : [])];
  return h('li', { class: 'row' },
    h('b', {}, item.name),
    h('span', { class: 'chain' }, words(item.types, 'link')),
    h('span', { class: 'under mono' }, notes.join('  ')));
}

// The latest story, while it happens and a moment after.
export function now(story) {
  const banner = $('now');
  banner.hidden = !story;
  if (!story) return;
  banner.href = `#/story/${encodeURIComponent(story.id)}${story.done ? '/1' : ''}`;
  banner.dataset.state = story.failed ? 'failed' : story.done ? 'done' : story.runs ? 'runs' : 'live';
  const verbs = story.verbs.join(' and ') || 'nothing';
  const told = `told in ${count(story.count, 'step')}`;
  const what = story.failed ? 'failed' : story.done ? told : story.runs ? `${told}; it runs` : 'happening now';
  banner.querySelector('span').textContent = `${story.command} ${story.container}: ${verbs}, ${what}`;
}

// The container that is looked at, with all that is known of it.
export function facts(item, id, list) {
  const panel = $('facts');
  panel.hidden = !id;
  if (!id) return;
  const mine = list.filter((story) => story.container_ids.includes(id));
  put(panel,
    h('header', {},
      h('h2', { tabindex: '-1' }, item ? item.name : mine[0]?.container ?? 'A container'),
      h('span', { class: 'quiet' }, item ? item.state : 'gone'),
      h('a', { class: 'button', href: '#/', 'data-key': 'close' }, 'Close')),
    h('div', { class: 'sides' },
      item ? known(item) : h('p', { class: 'empty' }, 'This container is not there any more.'),
      h('div', {}, h('h3', { class: 'label' }, 'Its stories'), tales(item, mine))));
}

function known(item) {
  const one = (name, ...value) => [h('dt', {}, name), h('dd', {}, ...value)];
  return h('dl', {},
    one('command', h('code', {}, item.command)),
    one('state', `${item.state}${item.pid ? `, process ${item.pid}` : ''}`),
    item.image || item.rootfs ? one('root', h('code', {}, item.image || item.rootfs)) : [],
    one('created', clock(item.created)),
    one('id', h('code', {}, item.id.slice(0, 12)), ' ', copier(item.id)),
    item.interfaces.map((part) => one(part.ifname, h('div', { class: 'mono' },
      part.addresses.map((address) => h('div', {}, address)),
      part.mac ? h('div', { class: 'quiet' }, part.mac) : '',
      h('div', { class: 'quiet note' }, [part.network && `network ${part.network}`, part.host && `host's end ${part.host}`]
        .filter(Boolean).join(', '))))),
    item.interfaces.length ? [] : one('network', 'no interface but lo'),
    item.ports.length ? one('ports', h('div', { class: 'mono' }, item.ports.map((port) => h('div', {}, port)))) : []);
}

function tales(item, mine) {
  const watched = mine.some((story) => story.verbs.includes('ADD'));
  const unwatched = item && !watched && item.interfaces.length;
  return h('div', {},
    mine.length ? h('ul', { class: 'rows' }, mine.map(told)) : '',
    unwatched ? h('div', { class: 'empty' },
      h('p', {}, 'It was started before this page was served, so its ADD was not watched. What came of it can be seen:'),
      typed(`minirt network path ${item.name} 192.0.2.1`),
      typed(`minirt inspect --namespaces ${item.name}`)) : '',
    !mine.length && !unwatched ? h('p', { class: 'empty' }, 'None: nothing was attached or detached.') : '');
}
