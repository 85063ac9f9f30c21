/* Watches the connection: says that the process or the server is gone, and ends the process when the page is left. */
(() => {
  const by = id => document.getElementById(id);

  /* ---- a page whose process or server is gone looks alive: say it */

  const config = () => { try { return JSON.parse([...document.querySelectorAll('#jupyter-config-data')].pop().textContent); } catch { return {}; } };  /* the second one names the kernel */
  let gone = '', misses = 0, leaving = false, asked = false;
  function lost(why) {
    if (why === gone) return;
    gone = why;
    document.body.classList.toggle('is-gone', !!gone);
    const el = by('gone');
    el.hidden = !gone;
    el.querySelector('p').textContent = gone ? melanoma.say('gone.' + gone) : '';
    if (gone) document.querySelectorAll('.status .work').forEach(el => el.classList.replace('work', 'stopped'));
  }
  async function look() {
    const { kernelId, baseUrl } = config();
    if (!kernelId || leaving || gone === 'kernel') return;
    try {
      const r = await fetch(baseUrl + 'api/kernels/' + kernelId, { cache: 'no-store', signal: AbortSignal.timeout(4000) });
      misses = 0;
      lost(r.status === 404 ? 'kernel' : '');
    } catch {
      misses += 1;
      if (misses > 1 && !leaving) lost('server');
    }
  }
  setInterval(look, 1200);
  addEventListener('click', ev => { if (ev.target.closest('#reload')) { asked = true; location.reload(); } });

  /* ---- leaving: ask where answers would be lost, then end the process */

  addEventListener('beforeunload', ev => {
    ev.stopImmediatePropagation();  /* Voila's own listener would end the process of somebody who decides to stay */
    if (document.querySelector('.answers article') && !gone && !asked) { ev.preventDefault(); ev.returnValue = ''; }
  }, true);
  addEventListener('pagehide', () => {
    leaving = true;
    const { kernelId, baseUrl } = config();
    const token = (document.cookie.match(/(?:^|; )_xsrf=([^;]*)/) || [])[1];
    if (kernelId && token) navigator.sendBeacon(baseUrl + 'voila/api/shutdown/' + kernelId, new URLSearchParams({ _xsrf: decodeURIComponent(token) }));
  });
  addEventListener('pageshow', ev => { if (ev.persisted) { asked = true; location.reload(); } });
})();
