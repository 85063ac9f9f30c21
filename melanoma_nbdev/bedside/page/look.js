/* The picture of a card: its map fades over it, and both open large. Of both pages; asks nothing of
 * whoever made the card. */
(() => {
  const sliders = () => document.querySelectorAll('.fade input');
  let strength = '0';

  /* All cards show their map equally strong, cards that come later too. */
  function fade(value) {
    strength = value;
    document.documentElement.style.setProperty('--map', value / 100);
    sliders().forEach(slider => { slider.value = value; });
  }

  addEventListener('input', event => { if (event.target.closest('.fade')) fade(event.target.value); });
  /* Cards that come later. */
  function watchCards() {
    const set = node => node.querySelectorAll?.('.fade input').forEach(slider => { slider.value = strength; });
    const watch = new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(set)));
    watch.observe(document.body, { childList: true, subtree: true });
  }
  if (document.readyState === 'loading') addEventListener('DOMContentLoaded', watchCards);
  else watchCards();

  /* An element with a class and what it holds. */
  function made(tag, name, ...parts) {
    const element = document.createElement(tag);
    element.className = name;
    element.append(...parts);
    return element;
  }

  /* Picture and map in a window of their own, over the page and above the disclaimer, which stays in
   * view. Escape closes it, and the browser gives the focus back. */
  function open(button) {
    const card = button.closest('article'), head = made('h2', '', card.querySelector('h3').textContent);
    const shut = made('button', 'shut', melanoma.say('zoom.close'));
    const pictures = [...button.querySelectorAll('img')].map(image => image.cloneNode());
    const slider = card.querySelector('.fade'), under = slider ? [slider.cloneNode(true)] : [];
    const dialog = made('dialog', 'mel large', made('header', '', head, shut), made('figure', 'stack', ...pictures), ...under);
    const foot = document.querySelector('footer.always').offsetHeight;
    dialog.style.setProperty('--foot', foot + 'px');
    head.id = 'large_name';
    dialog.setAttribute('aria-labelledby', head.id);
    shut.type = 'button';
    dialog.addEventListener('click', event => { if (event.target === dialog || event.target === shut) dialog.close(); });
    dialog.addEventListener('close', () => dialog.remove());
    (button.closest('.framed') ?? document.body).append(dialog);
    fade(strength);
    dialog.showModal();
  }

  addEventListener('click', event => {
    const button = event.target.closest('.zoom');
    if (button) open(button);
  });
})();
