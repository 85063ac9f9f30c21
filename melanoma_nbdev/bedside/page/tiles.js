/* All lesions at a glance, on both pages: drawn whole, or a few tiles more, each in its place. */

/* What HTML holds, outside of the page. */
function parsed(html) {
  const holder = document.createElement('template');
  holder.innerHTML = html;
  return holder.content;
}

// ---- their order, and which are shown

const chosen = {order: 'risk', only: false};
const tileOf = item => item.querySelector('.tile');
const number = item => Number(tileOf(item).dataset.lesion);
const score = item => Number(tileOf(item).dataset.score ?? -1);
const name = item => item.querySelector('.name').textContent;
const ORDERS = {
  risk: (one, other) => score(other) - score(one),
  came: () => 0,
  name: (one, other) => name(one).localeCompare(name(other), undefined, {numeric: true}),
};
const compare = (one, other) => ORDERS[chosen.order](one, other) || number(one) - number(other);
const sift = item => { item.hidden = chosen.only && !('look' in tileOf(item).dataset); };

/* Say where no tile is shown. */
function sayNone(root) {
  const words = root.querySelector('.sorting p'), items = [...root.querySelectorAll('.tiles li')];
  if (words) words.hidden = items.some(item => !item.hidden);
}

/* Order and choice as the reader wants them; the focus stays where it is. */
export function arrange(root) {
  const list = root.querySelector('.tiles'), sorting = root.querySelector('.sorting');
  if (!sorting) return;
  sorting.querySelector('select').value = chosen.order;
  sorting.querySelector('input').checked = chosen.only;
  const items = [...list.children].sort(compare), held = document.activeElement;
  items.forEach(sift);
  if (items.some((item, at) => item !== list.children[at])) list.append(...items);
  if (list.contains(held)) held.focus({preventScroll: true});
  sayNone(root);
}

/* Hear what the reader wants; what comes back ends that. */
export function listenToReader(host) {
  const ears = new AbortController();
  host.addEventListener('change', ({target}) => {
    if (!target.closest('.sorting')) return;
    if (target.matches('select')) chosen.order = target.value;
    else chosen.only = target.checked;
    arrange(host);
  }, {signal: ears.signal});
  return () => ears.abort();
}

// ---- drawing

/* Put the tile that this HTML holds where it belongs; the others stay as they are. */
export function insertTile(host, html) {
  const list = host.querySelector('.tiles'), item = parsed(html).querySelector('li');
  sift(item);
  list.insertBefore(item, [...list.children].find(other => compare(item, other) < 0) ?? null);
  sayNone(host);
}

/* Show this HTML, '' for none; of as many tiles as before, only those that changed are replaced. */
export function drawTiles(host, html) {
  const focused = host.querySelector('.tile:focus')?.dataset.lesion;
  const fresh = parsed(html);
  arrange(fresh);
  const [before, after] = [host, fresh].map(root => [...root.querySelectorAll('h2, .sorting, li')]);
  if (before.length && before.length === after.length) {
    after.forEach((part, at) => part.isEqualNode(before[at]) || before[at].replaceWith(part));
  } else host.replaceChildren(fresh);
  const tile = focused && host.querySelector(`.tile[data-lesion="${focused}"]`);
  if (tile && tile !== document.activeElement) tile.focus({preventScroll: true});
}

function render({model, el}) {
  const draw = () => drawTiles(el, model.get('value'));
  const add = () => {
    if (el.querySelector('.tiles')) for (const html of model.get('added')) insertTile(el, html);
  };
  const tellSite = ({target}) => {
    if (!target.closest('.answers .body-site')) return;
    model.send({kind: 'site', lesion: Number(target.dataset.lesion), site: target.value});
  };
  const deaf = listenToReader(el);
  document.addEventListener('change', tellSite);
  model.on('change:value', draw);
  model.on('change:added', add);
  draw();
  return () => {
    deaf();
    document.removeEventListener('change', tellSite);
    model.off('change:value', draw);
    model.off('change:added', add);
  };
}

export default {render};
