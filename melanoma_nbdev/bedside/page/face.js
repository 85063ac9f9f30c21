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

  /* Messages stay while the language changes: then they are found again by what they say. Two keys
   * stand for two sentences. */
  const MESSAGES = ['wait', 'stopped', 'again', 'not_kept', 'replaced', 'too_much too_much.smaller', 'too_much',
    'unreadable', 'broken', 'lost', 'and_more'];
  const sentence = (keys, code) => keys.split(' ').map(key => texts[key][code]).join(' ');

  /* What stands in the places of a sentence, if these words are that sentence; else nothing. */
  function valuesIn(words, shape) {
    const places = [...shape.matchAll(/\{(\d)\}/g)].map(([, place]) => place);
    const parts = shape.split(/\{\d\}/).map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
    const found = words.match(new RegExp(`^${parts.join('(.*)')}$`, 's'));
    return found && Object.fromEntries(places.map((place, at) => [place, found[at + 1]]));
  }

  /* A message of the table in the language of now, whichever it was in; other words as they are. */
  function inLanguage(words) {
    for (const keys of MESSAGES) {
      for (const code of Object.keys(texts.choose)) {
        const values = valuesIn(words, sentence(keys, code));
        if (values) return sentence(keys, language).replace(/\{(\d)\}/g, (_, place) => inLanguage(values[place]));
      }
    }
    return words;
  }

  /* The frame in a language: `data-say` names the sentence of an element, `data-say-label` its name. */
  function speak(code) {
    language = code;
    for (const line of all('#note p')) line.textContent = inLanguage(line.textContent);
    root.lang = code;
    for (const element of all('[data-say]')) {
      const values = element.dataset.sayWith?.split('|') ?? [];
      element.textContent = say(element.dataset.say, ...values);
    }
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

  /* A message below those before it; they stay in view until they are closed. No words close them. */
  function note(words) {
    const box = document.getElementById('note'), lines = box.querySelector('.lines');
    const known = [...lines.children].some(line => line.textContent === words);
    if (!words) lines.replaceChildren();
    else if (!known) lines.append(Object.assign(document.createElement('p'), {textContent: words}));
    box.hidden = !lines.childElementCount;
  }

  addEventListener('click', event => { if (event.target.closest('#note button')) note(''); });
  addEventListener('keydown', ({key}) => {
    if (key === 'Escape' && !document.querySelector('dialog[open]')) note('');
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
