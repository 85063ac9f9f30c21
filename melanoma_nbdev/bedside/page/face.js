/* What both pages do before anything else is there: light or dark, the language of the frame, and
 * messages. Nothing of these is stored. */
window.melanoma = (() => {
  const root = document.documentElement;
  const all = selector => document.querySelectorAll(selector);

  // ---- light or dark: as the system has it, until the reader presses the button

  const system = matchMedia('(prefers-color-scheme: dark)');
  let chosen = null;

  function paint() {
    const theme = chosen ?? (system.matches ? 'dark' : 'light');
    root.dataset.theme = theme;
    document.getElementById('theme')?.setAttribute('aria-pressed', String(theme === 'dark'));
  }

  paint();
  system.addEventListener('change', paint);
  addEventListener('click', event => {
    if (!event.target.closest('#theme')) return;
    chosen = root.dataset.theme === 'dark' ? 'light' : 'dark';
    paint();
  });

  // ---- language: what the address asks for (?lang=de), or else the browser

  const texts = JSON.parse(document.getElementById('texts').textContent);
  const languages = Object.keys(texts.choose);
  const asked = [new URLSearchParams(location.search).get('lang'), ...navigator.languages];
  const codes = asked.map(name => (name ?? '').slice(0, 2).toLowerCase());
  let language = codes.find(code => languages.includes(code)) ?? 'en';

  /* A sentence, its places {0}, {1} filled in. */
  function say(key, ...values) {
    return texts[key][language].replace(/\{(\d)\}/g, (_, place) => values[place]);
  }

  /* The frame in a language: `data-say` names the sentence of an element, `data-say-label` its name. */
  function speak(code) {
    language = code;
    root.lang = code;
    messages.forEach((message, place) => { lines().children[place].textContent = told(message); });
    for (const element of all('[data-say]')) {
      const values = element.dataset.sayWith?.split('|') ?? [];
      element.textContent = say(element.dataset.say, ...values);
    }
    const sites = Object.keys(texts).filter(key => key.startsWith('site.'));
    document.getElementById('sites').replaceChildren(...sites.map(key => new Option(say(key))));
    for (const element of all('[data-say-label]')) {
      const name = say(element.dataset.sayLabel);
      element.setAttribute('aria-label', name);
      if (element.title) element.title = name;
    }
  }

  addEventListener('DOMContentLoaded', () => {
    paint();
    speak(language);
  });

  // ---- messages, and what a screen reader says

  /* A sentence is a list: its key, and what stands in its places, which may be a sentence again. A
   * message is a list of sentences; so it follows the language. */
  const sentence = ([key, ...values]) => say(key, ...values.map(one => (Array.isArray(one) ? sentence(one) : one)));
  const told = message => message.map(sentence).join(' ');
  const lines = () => document.querySelector('#note .lines');
  let messages = [];

  /* A message below those before it; they stay in view until they are closed. No sentence closes them. */
  function note(...message) {
    const words = told(message);
    if (!words) {
      messages = [];
      lines().replaceChildren();
    } else if (messages.every(one => told(one) !== words)) {
      messages.push(message);
      lines().append(Object.assign(document.createElement('p'), {textContent: words}));
    }
    document.getElementById('note').hidden = !messages.length;
  }

  addEventListener('click', event => { if (event.target.closest('#note button')) note(); });
  addEventListener('keydown', ({key}) => {
    if (key === 'Escape' && !document.querySelector('dialog[open]')) note();
  });

  const PAUSE = 10_000;  // milliseconds between two words on how far the work is
  let reported = -Infinity;

  /* The state of the page for screen readers, in an element that stays. While there is work, each
   * image changes it, which nobody wants to hear: then it is said now and then. */
  function announce(words, working) {
    if (working && performance.now() < reported + PAUSE) return;
    reported = working ? performance.now() : -Infinity;
    document.getElementById('spoken').textContent = words;
  }

  return {texts, languages, say, speak, note, announce, get language() { return language; }};
})();
