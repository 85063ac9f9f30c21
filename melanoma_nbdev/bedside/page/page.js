/* What widgets cannot do by themselves: one open card, messages that stay. Files are taken by upload.js; what watches the connection is in watch.js. */
(() => {
  const by = id => document.getElementById(id);
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];
  const working = () => !!document.querySelector('.mel-btn.primary:disabled, .status .work');

  addEventListener('note', ev => melanoma.note(...ev.detail));  /* from the uploader */
  addEventListener('click', ev => {
    const thumb = ev.target.closest('.thumb'), tile = ev.target.closest('.tile');
    if (thumb) all('.mel-example')[+thumb.dataset.example]?.click();
    if (tile) { ev.preventDefault(); chosen = true; reveal(tile.dataset.lesion, true); }
  });

  /* ---- who works by keyboard stays where the work goes on; widgets change one after another, so until one of these is there */

  const usable = el => el.isConnected && !el.disabled && el.checkVisibility();
  let held = null;
  addEventListener('focusin', ev => { held = ev.target; });
  function keepFocus() {
    const elsewhere = ![document.body, held].includes(document.activeElement);  /* what was disabled may still have it */
    if (!held || elsewhere || usable(held)) return;
    const next = ['stop', 'undo', 'clear'].map(name => document.querySelector('.mel-btn.' + name));
    next.find(el => el && usable(el))?.focus({ preventScroll: true });
  }
  new MutationObserver(() => setTimeout(keepFocus, 30)).observe(document, { subtree: true, attributes: true, attributeFilter: ['style', 'disabled', 'class'] });

  /* ---- one card is open, whose tile is marked; of new images that to be looked at first */

  const sheet = document.createElement('style');
  document.head.append(sheet);
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  let shown = 0, chosen = false, inBatch = false, known = new Set(), latest = new Set();
  function reveal(number, go) {
    if (number !== shown) sheet.textContent = '@media screen { .mel .answers #lesion-' + number + ' { display: block; } .mel .tile[data-lesion="' + number + '"] { outline: 3px solid var(--teal); outline-offset: -1px; } }';
    shown = number;
    all('.tile').forEach(t => {
      const open = t.dataset.lesion === number;
      if (open !== t.hasAttribute('aria-current')) open ? t.setAttribute('aria-current', 'true') : t.removeAttribute('aria-current');
    });
    if (!go) return;
    const card = by('lesion-' + number);
    card?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'nearest' });
    card?.focus({ preventScroll: true });
  }
  function arranged() {
    const numbers = all('.answers article').map(el => el.id.slice(7));
    if (!numbers.length) { known = new Set(); shown = 0; chosen = inBatch = false; return; }
    const fresh = numbers.filter(n => !known.has(n));
    if (fresh.length && !inBatch) {  /* the first of a new batch */
      latest = new Set();
      chosen = false;
      document.querySelector('.bar')?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
    }
    fresh.forEach(n => { known.add(n); latest.add(n); });
    inBatch = working() && (inBatch || fresh.length > 0);
    const score = t => t.dataset.score ?? -1;
    const order = all('.tile').sort((a, b) => score(b) - score(a) || a.dataset.lesion - b.dataset.lesion).map(t => t.dataset.lesion);
    const stays = numbers.includes(shown) && (chosen || (working() && latest.has(shown)));
    reveal(stays ? shown : order.find(n => latest.has(n)) || numbers.find(n => latest.has(n)) || numbers[0], false);
  }
  /* Each message of the process once, in their order; and its status, to screen readers. */
  let lastTold = 0, lastStatus = '';
  function told() {
    all('.notice [data-note]').filter(el => +el.dataset.number > lastTold).forEach(el => {
      lastTold = +el.dataset.number;
      melanoma.note(...JSON.parse(el.dataset.note));
    });
    const status = document.querySelector('.status span');
    if (!status || status.textContent === lastStatus) return;
    lastStatus = status.textContent;
    melanoma.announce(lastStatus, status.classList.contains('work'));
  }
  /* The widgets take over the frame's language when they come; then the frame follows theirs. */
  let agreed = false;
  function spoken() {
    const language = document.querySelector('.hint')?.dataset.language;
    const choice = document.querySelector('.controls .language select');
    if (!language || !choice) return;
    const heard = melanoma.languages[choice.selectedIndex] === language;  /* else a change is under way */
    if (agreed && heard && language !== melanoma.language) melanoma.speak(language);
    if (!agreed && language !== melanoma.language) {
      choice.selectedIndex = melanoma.languages.indexOf(melanoma.language);
      choice.dispatchEvent(new Event('change', { bubbles: true }));
    }
    agreed = true;
  }
  /* Voila asks for this once its styles are there: the widgets in the place of the waiting sign. */
  window.voila_finish = () => {
    window.cellLoaded = true;
    if (!window.themeLoaded) return;
    by('loading')?.remove();
    by('rendered_cells')?.style.removeProperty('display');
  };
  /* Voila's scripts wait for the name of the kernel, which only the second of two lists has. */
  addEventListener('DOMContentLoaded', () => {
    const [ahead, whole] = document.querySelectorAll('#jupyter-config-data');
    document.body.dataset.kernelId = JSON.parse(whole.textContent).kernelId;
    ahead.remove();
    window.voila_finish();
  });

  let waiting = false;
  const settle = () => { waiting = false; by('main')?.setAttribute('role', 'main'); spoken(); arranged(); told(); };
  new MutationObserver(() => { if (!waiting) { waiting = true; setTimeout(settle, 30); } }).observe(document, { childList: true, subtree: true });
})();
