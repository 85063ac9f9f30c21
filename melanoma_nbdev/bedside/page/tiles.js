/* All lesions at a glance, on both pages: drawn whole, or a few tiles more, each in its place. */

/* What HTML holds, outside of the page. */
function parsed(html) {
  const holder = document.createElement('template');
  holder.innerHTML = html;
  return holder.content;
}

/* Put the tile that this HTML holds where it belongs; the others stay as they are. */
export function insertTile(list, html, at) {
  list.insertBefore(parsed(html).querySelector('li'), list.children[at] ?? null);
}

/* Show this HTML; of as many tiles as before, only those that changed are replaced. */
function drawTiles(host, html) {
  const focused = host.querySelector('.tile:focus')?.dataset.lesion;
  const fresh = parsed(html);
  const [before, after] = [host, fresh].map(root => [...root.querySelectorAll('h2, li')]);
  if (before.length && before.length === after.length) {
    after.forEach((part, at) => part.isEqualNode(before[at]) || before[at].replaceWith(part));
  } else host.replaceChildren(fresh);
  const tile = focused && host.querySelector(`.tile[data-lesion="${focused}"]`);
  if (tile && tile !== document.activeElement) tile.focus({preventScroll: true});
}

function render({model, el}) {
  const draw = () => drawTiles(el, model.get('value'));
  const add = () => {
    const list = el.querySelector('.tiles');
    if (list) for (const {html, at} of model.get('added')) insertTile(list, html, at);
  };
  model.on('change:value', draw);
  model.on('change:added', add);
  draw();
  return () => {
    model.off('change:value', draw);
    model.off('change:added', add);
  };
}

export default {render};
