/* Takes files, on both pages: chosen, from the camera, dropped or pasted. The static page calls
 * `intake`; the page of a server shows the widget at the end, which sends the files to its process,
 * one after another and each in pieces. No file is kept here. */

const MEGABYTE = 2**20;
const AHEAD = 2;  // pieces that are under way at a time
// milliseconds without an answer after which the connection is lost; a large picture takes its time
const PATIENCE = 300_000;

/* A size as it is written: 28 MB, 1.2 MB, 40 kB. */
function written(bytes) {
  if (bytes < MEGABYTE/2) return `${Math.ceil(bytes/1024)} kB`;
  return `${(bytes/MEGABYTE).toFixed(bytes < 10*MEGABYTE ? 1 : 0)} MB`;
}

/* An element with what it is told to be. */
function made(tag, properties = {}, ...parts) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...parts);
  return element;
}

/* A button, and the input for files that it opens. */
function chooser(name, accept, take, more) {
  const input = made('input', {type: 'file', accept, hidden: true, ...more});
  const button = made('button', {type: 'button', className: `mel-btn ${name}`});
  button.addEventListener('click', () => input.click());
  input.addEventListener('change', () => {
    const files = [...input.files];
    input.value = '';
    take(files);
  });
  return [button, input];
}

/* How far the files are; it stands in the page's bar, which is in view while answers come. */
function progressRow(host) {
  const bar = made('progress'), words = made('span');
  const row = made('div', {className: 'sending', hidden: true}, bar, words);
  return {
    show(text, value, max) {
      if (!row.isConnected) (host.closest('.mel')?.querySelector('.bar') ?? host).prepend(row);
      row.hidden = false;
      Object.assign(bar, {max: max || 1, value});
      bar.setAttribute('aria-label', text);
      words.textContent = text;
    },
    hide() { row.hidden = true; },
    remove() { row.remove(); },
  };
}

/* Files that are dropped anywhere on the page, or pasted; in a notebook, what is dropped beside the
 * page is not meant for it. */
function listenForFiles(host, take, signal) {
  const isOurs = ({target}) => host.closest('.framed')?.contains(target) ?? true;
  const over = (event, on) => {
    event.preventDefault();
    host.closest('.drop')?.classList.toggle('over', on);
  };
  const hear = (name, act) => addEventListener(name, event => isOurs(event) && act(event), {signal});
  hear('dragover', event => over(event, true));
  hear('dragleave', event => { if (!event.relatedTarget) over(event, false); });
  hear('drop', event => {
    over(event, false);
    take([...event.dataTransfer?.files ?? []]);
  });
  hear('paste', event => take([...event.clipboardData?.files ?? []]));
}

/* The first three names, and how many more there are: words, or a sentence as `face.js` has them. */
export function few(names) {
  const first = names.slice(0, 3).join(', ');
  return names.length > 3 ? ['and_more', first, names.length - 3] : first;
}

/* The files that are not too large, in their order; the others are named. */
function fitting(files, {limit, tell}) {
  const most = limit()*MEGABYTE, large = files.filter(file => file.size > most);
  const names = large.map(file => `${file.name.slice(0, 80)} (${written(file.size)})`);
  if (large.length) tell(['too_much', `${limit()} MB`, few(names)], ['too_much.smaller']);
  return files.filter(file => file.size <= most);
}

/* Buttons in `host`, and ears for files. What they need:
 *   say(key, ...values)  a sentence of the page      accept    kinds of file, as an input has them
 *   limit()              megabytes of a file         tell(...sentences)  a message that stays
 *   isBusy()             whether files are refused   take(files) what is done with them
 * What comes back: `speak()` after a change of language, `disable(on)`, `progress`, `close()`. */
export function intake(host, {say, accept, limit, isBusy, tell, take}) {
  const ears = new AbortController(), progress = progressRow(host);
  const given = files => {
    if (!files.length) return;
    if (isBusy()) return tell(['wait']);
    const kept = fitting(files, {limit, tell});
    if (kept.length) take(kept);
  };
  const buttons = {};
  for (const [key, name, more] of [
    ['choose', 'primary', {multiple: true}], ['camera', 'camera', {}]]) {
    const [button, input] = chooser(name, accept, given, more);
    if (key === 'camera') input.setAttribute('capture', 'environment');
    buttons[key] = button;
    host.append(button, input);
  }
  listenForFiles(host, given, ears.signal);
  const each = act => Object.entries(buttons).forEach(([key, button]) => act(button, key));
  const speak = () => each((button, key) => { button.textContent = say(key); });
  const disable = on => each(button => { button.disabled = on; });
  const close = () => {
    ears.abort();
    progress.remove();
  };
  speak();
  return {speak, disable, progress, close};
}

// ---- the widget: files go to the process of the page

class Lost extends Error {}

/* Sends files, one after another. The process answers each piece, the last one of a file once the
 * picture is answered; no more than AHEAD pieces wait for that, so little is held at either end. */
class Sender {
  constructor(model, {progress, say, tell, isLost}) {
    Object.assign(this, {model, progress, say, tell, isLost, stopped: false, sending: false});
    this.answered = ({kind, place, refused}) => {
      if (kind !== 'got') return;
      this.underway -= 1;
      this.heard = Date.now();
      if (refused) this.refused = place;
    };
    model.on('msg:custom', this.answered);
  }

  stop() { this.stopped = this.sending; }

  close() {
    this.stop();
    this.model.off('msg:custom', this.answered);
  }

  tellKernel(content, buffers) {
    try { this.model.send(content, undefined, buffers); } catch { throw new Lost(); }
  }

  /* Wait until fewer than so many pieces are under way. */
  async fewer(pieces) {
    while (this.underway >= pieces && !this.stopped) {
      if (this.isLost() || Date.now() - this.heard > PATIENCE) throw new Lost();
      await new Promise(resolve => setTimeout(resolve, 10));
    }
  }

  async piece(file, place, start) {
    const end = Math.min(file.size, start + this.model.get('piece'));
    const bytes = await file.slice(start, end).arrayBuffer();
    const {name, size} = file;
    this.underway += 1;
    this.heard = Date.now();
    this.tellKernel({kind: 'piece', place, name, size, start}, [bytes]);
    return end;
  }

  /* One file; false where it could not be read (it was moved, or is a folder). */
  async file(file, place, total) {
    let sent = 0;
    do {
      await this.fewer(AHEAD);
      if (this.stopped || this.refused === place) break;
      this.show(file, place, total, sent);
      try { sent = await this.piece(file, place, sent); } catch (error) {
        if (error instanceof Lost) throw error;
        return false;
      }
      this.show(file, place, total, sent);
    } while (sent < file.size);
    return true;
  }

  show({name, size}, place, total, sent) {
    const whole = size <= this.model.get('piece');
    const part = whole ? written(size) : `${written(sent)} / ${written(size)}`;
    this.progress.show(this.say('sending', place + 1, total, name.slice(0, 80), part), sent, size);
  }

  async files(files) {
    const unread = [];
    this.tellKernel({kind: 'batch', files: files.length});
    for (const [place, file] of files.entries()) {
      if (this.stopped) break;
      if (!await this.file(file, place, files.length)) unread.push(file.name.slice(0, 80));
    }
    await this.fewer(1);
    if (unread.length) this.tell(['unreadable', few(unread)]);
  }

  /* Where nobody is left to hear it, there is nobody who waits for it. */
  end() {
    try { this.tellKernel({kind: 'end', stopped: this.stopped}); } catch (error) {
      if (!(error instanceof Lost)) throw error;
    }
  }

  async send(files) {
    Object.assign(this, {sending: true, stopped: false, refused: null, underway: 0,
      heard: Date.now()});
    try { await this.files(files); } catch (error) {
      if (!(error instanceof Lost)) throw error;
      this.tell(['lost']);
    } finally {
      this.sending = false;
      this.progress.hide();
      this.end();
    }
  }
}

/* A sentence of the widget, its places {0}, {1} filled in. */
const filled = (sentence, values) => sentence.replace(/\{(\d)\}/g, (_, place) => values[place]);

function render({model, el}) {
  const say = (key, ...values) => filled(model.get('words')[key] ?? key, values);
  const tell = (...detail) => el.dispatchEvent(new CustomEvent('note', {detail, bubbles: true}));
  const isLost = () => document.body.classList.contains('is-gone');
  let sender = null;
  const isBusy = () => sender.sending || model.get('disabled') || isLost();
  const taken = intake(el, {say, tell, isBusy, accept: model.get('accept'),
    limit: () => model.get('limit'), take: files => {
      sender.send(files).finally(settle);
      settle();
    }});
  const settle = () => taken.disable(isBusy());
  sender = new Sender(model, {progress: taken.progress, say, tell, isLost});
  const stop = event => { if (event.target.closest('.mel-btn.stop')) sender.stop(); };
  addEventListener('click', stop);
  model.on('change:words', taken.speak);
  model.on('change:disabled', settle);
  settle();
  return () => {
    removeEventListener('click', stop);
    model.off('change:words', taken.speak);
    model.off('change:disabled', settle);
    sender.close();
    taken.close();
  };
}

export default {render};
