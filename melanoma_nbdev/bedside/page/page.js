/* What widgets cannot do by themselves: dropping files, the upload limit in words, and saying that the connection is gone. */
(() => {
  const note = (text, kind) => {
    const el = document.getElementById('note');
    if (!el) return;
    el.hidden = !text; el.textContent = text || ''; el.className = kind || '';
  };
  const mb = n => (n / 1048576).toFixed(n < 10485760 ? 1 : 0) + ' MB';
  const limit = () => { const el = document.querySelector('[data-limit-mb]'); return (el ? +el.dataset.limitMb : 64) * 1048576; };
  const few = a => a.slice(0, 3).join(', ') + (a.length > 3 ? ' and ' + (a.length - 3) + ' more' : '');

  /* Keep the files that fit into one upload, in their order; name the rest. */
  function fit(files) {
    const keep = [], left = []; let sum = 0;
    for (const f of files) {
      if (sum + f.size <= limit()) { keep.push(f); sum += f.size; }
      else left.push(f.name + ' (' + mb(f.size) + ')');
    }
    if (left.length) note('One upload holds at most ' + mb(limit()) + '. Not taken: ' + few(left) + '. ' +
      (keep.length || files.length > 1 ? 'Upload what is left in a second go, or save large files smaller.' : 'Save it smaller, as JPEG for example, and try again.'), 'warn');
    else note('');
    return keep;
  }
  function setFiles(input, files) { const d = new DataTransfer(); files.forEach(f => d.items.add(f)); input.files = d.files; }
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  const toAnswers = () => { const b = document.querySelector('.bar'); if (b) b.scrollIntoView({ behavior: calm ? 'auto' : 'smooth', block: 'start' }); };
  let awaited = false, shown = 0;   // answers that somebody waits for are brought into view as they come
  new MutationObserver(() => {
    const n = document.querySelectorAll('.answers article').length;
    if (awaited && n > shown) toAnswers();
    if (n !== shown && document.querySelector('.status a')) awaited = false;
    shown = n;
  }).observe(document, { childList: true, subtree: true });
  function busy(files) {
    awaited = true;
    const n = files.length, el = document.querySelector('.status .widget-html-content');
    const sum = files.reduce((s, f) => s + f.size, 0);
    if (el) el.innerHTML = '<span role="status" class="work">Reading ' + n + (n > 1 ? ' files' : ' file') + ' (' + mb(sum) + ')</span>';
  }
  function checked(ev) {
    const all = [...ev.target.files], keep = fit(all);
    if (!keep.length) { ev.stopImmediatePropagation(); return; }
    if (keep.length < all.length) setFiles(ev.target, keep);
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

  const over = (ev, on) => { ev.preventDefault(); const d = document.querySelector('.drop'); if (d) d.classList.toggle('over', on); };
  addEventListener('dragover', ev => over(ev, true));
  addEventListener('dragleave', ev => { if (!ev.relatedTarget) over(ev, false); });
  const take = files => {
    const b = document.querySelector('.mel-btn.primary');
    if (!b || !files.length) return;
    dropped = files; b.click();
  };
  addEventListener('drop', ev => { over(ev, false); take([...ev.dataTransfer.files]); });
  addEventListener('paste', ev => take([...(ev.clipboardData || {}).files || []]));

  addEventListener('click', ev => {
    if (ev.target.matches('.thumbs img')) document.querySelector('.mel-btn.second')?.click();
    if (ev.target.closest('.mel-btn.second')) { note(''); awaited = true; }
  });

  /* The uploader writes the number of files behind its name; here it is emptied after each upload, and "(0)" says nothing. */
  new MutationObserver(() => {
    const b = document.querySelector('.mel-btn.primary');
    const t = b && [...b.childNodes].find(n => n.nodeType === 3 && / \(\d+\)$/.test(n.data));
    if (t) t.data = t.data.replace(/ \(\d+\)$/, '');
  }).observe(document, { childList: true, characterData: true, subtree: true });

  /* A page whose kernel or server is gone looks alive: say it. */
  let leaving = false, open = 0, ever = false;
  addEventListener('pagehide', () => { leaving = true; });
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...a) {
      super(...a);
      this.addEventListener('open', () => { open++; ever = true; if (document.getElementById('note')?.className === 'lost') note(''); });
      this.addEventListener('close', ev => {
        if (!leaving && ever && ev.code !== 1000) setTimeout(() => {
          if (this === last && !leaving) note('The connection to this page\u2019s server is gone, and answers can no longer arrive. Reload the page; if that does not help, start melanoma_app again.', 'lost');
        }, 1500);
      });
      last = this;
    }
  };
  let last = null;
})();
