/* What widgets cannot do by themselves: dropping files, the upload limit in words, one open card. What watches the connection is in watch.js. */
(() => {
  const by = id => document.getElementById(id);
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];
  const note = text => {
    const el = by('note');
    if (!el) return;
    el.hidden = !text;
    el.querySelector('p').textContent = text || '';
  };
  const mb = n => (n / 1048576).toFixed(n < 10485760 ? 1 : 0) + ' MB';
  const limit = () => { const el = document.querySelector('[data-limit-mb]'); return (el ? +el.dataset.limitMb : 64) * 1048576; };
  const { say: words } = melanoma;
  const few = a => (a.length > 3 ? words('and_more', a.slice(0, 3).join(', '), a.length - 3) : a.join(', '));
  const working = () => !!document.querySelector('.mel-btn.primary:disabled, .status .work');

  /* ---- files */

  /* Keep the files that fit into one upload, in their order; name the rest. */
  function fit(files) {
    const keep = [], left = [];
    let sum = 0;
    for (const f of files) {
      if (sum + f.size <= limit()) { keep.push(f); sum += f.size; }
      else left.push(f.name.slice(0, 80) + ' (' + mb(f.size) + ')');
    }
    const next = keep.length || files.length > 1 ? 'too_much.again' : 'too_much.smaller';
    if (left.length) note(words('too_much', mb(limit()), few(left)) + ' ' + words(next));
    return keep;
  }
  function setFiles(input, files) { const d = new DataTransfer(); files.forEach(f => d.items.add(f)); input.files = d.files; }
  function busy(files) {
    const el = document.querySelector('.status .widget-html-content');
    const sum = files.reduce((s, f) => s + f.size, 0);
    if (el) el.innerHTML = '<span role="status" class="work">' + words('reading', files.length, mb(sum)) + '</span>';
  }
  function checked(ev) {
    const files = [...ev.target.files], keep = fit(files);
    if (!keep.length) { ev.stopImmediatePropagation(); return; }
    if (keep.length < files.length) setFiles(ev.target, keep);
    busy(keep);
  }
  /* The uploader's file input is not in the page; its click is where it can be met. */
  let dropped = null;
  const click = HTMLInputElement.prototype.click;
  HTMLInputElement.prototype.click = function () {
    if (this.type !== 'file') return click.call(this);
    if (!this._checked) { this._checked = true; this.addEventListener('change', checked, true); }
    if (!dropped) return click.call(this);
    setFiles(this, dropped); dropped = null;
    this.dispatchEvent(new Event('change'));
  };
  const uploader = () => document.querySelector('.mel-file');

  const over = (ev, on) => { ev.preventDefault(); const d = document.querySelector('.drop'); if (d) d.classList.toggle('over', on); };
  addEventListener('dragover', ev => over(ev, true));
  addEventListener('dragleave', ev => { if (!ev.relatedTarget) over(ev, false); });
  const take = files => {
    if (!files.length || !uploader() || document.body.classList.contains('is-gone')) return;
    if (working()) { note(words('wait')); return; }
    dropped = files;
    uploader().click();
  };
  addEventListener('drop', ev => { over(ev, false); take([...ev.dataTransfer.files]); });
  addEventListener('paste', ev => take([...(ev.clipboardData || {}).files || []]));

  addEventListener('click', ev => {
    if (ev.target.closest('.mel-btn.primary')) uploader()?.click();
    const thumb = ev.target.closest('.thumb'), tile = ev.target.closest('.tile');
    if (thumb) all('.mel-example')[+thumb.dataset.example]?.click();
    if (tile) { ev.preventDefault(); chosen = true; reveal(tile.dataset.lesion, true); }
    if (ev.target.closest('#note button')) note('');
  });

  /* ---- one card is open, whose tile is marked; of new images that to be looked at first */

  const sheet = document.createElement('style');
  document.head.append(sheet);
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  let shown = 0, chosen = false, inBatch = false, known = new Set(), latest = new Set(), noted = '';
  function reveal(number, go) {
    if (number !== shown) sheet.textContent = '@media screen { .mel .answers #lesion-' + number + ' { display: block; } .mel .tile[data-lesion="' + number + '"] { outline: 3px solid var(--teal); outline-offset: -1px; } }';
    shown = number;
    all('.tile').forEach(t => t.dataset.lesion === number ? t.setAttribute('aria-current', 'true') : t.removeAttribute('aria-current'));
    if (!go) return;
    const card = by('lesion-' + number);
    card?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'nearest' });
    card?.focus({ preventScroll: true });
  }
  function arranged() {
    const numbers = all('.answers article[id]').map(el => el.id.slice(7)).filter(n => n !== '0');
    if (!numbers.length) { known = new Set(); shown = 0; chosen = inBatch = false; return; }
    const fresh = numbers.filter(n => !known.has(n));
    if (fresh.length && !inBatch) {  /* the first of a new batch */
      latest = new Set();
      chosen = false;
      document.querySelector('.bar')?.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' });
    }
    fresh.forEach(n => { known.add(n); latest.add(n); });
    inBatch = working() && (inBatch || fresh.length > 0);
    const order = all('.tile').map(t => t.dataset.lesion);
    const stays = numbers.includes(shown) && (chosen || (working() && latest.has(shown)));
    reveal(stays ? shown : order.find(n => latest.has(n)) || numbers.find(n => latest.has(n)) || numbers[0], false);
  }
  function told() {
    const el = document.querySelector('.notice [data-note]');
    if (!el || el.dataset.moment === noted) return;
    noted = el.dataset.moment;
    note(el.dataset.note);
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
  let waiting = false;
  const settle = () => { waiting = false; by('main')?.setAttribute('role', 'main'); spoken(); arranged(); told(); };
  new MutationObserver(() => { if (!waiting) { waiting = true; setTimeout(settle, 30); } }).observe(document, { childList: true, subtree: true });
})();
