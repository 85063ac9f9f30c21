/* Light or dark: as the system has it, until the reader presses the button. Nothing of it is stored. */
(() => {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  let chosen = null;

  function paint() {
    const theme = chosen ?? (system.matches ? 'dark' : 'light');
    root.dataset.theme = theme;
    document.getElementById('theme')?.setAttribute('aria-pressed', String(theme === 'dark'));
  }

  paint();
  system.addEventListener('change', paint);
  addEventListener('DOMContentLoaded', paint);
  addEventListener('click', event => {
    if (!event.target.closest('#theme')) return;
    chosen = root.dataset.theme === 'dark' ? 'light' : 'dark';
    paint();
  });
})();
