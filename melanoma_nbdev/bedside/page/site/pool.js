/* The workers that look at images, each with the model open. Files wait in a line, and whoever is
 * free takes the next. While one image is all there is, a second worker takes half of its views. */

const MOST = 2, LITTLE = 4;
export const LOST = {type: 'problem', lost: true, why: 'the part of the page that looked at it failed; choose it once more'};

/* How many workers a device gets. Memory in gigabytes; Firefox and Safari do not tell theirs. */
export function workersFor({hardwareConcurrency: cores = 1, deviceMemory: gigabytes = LITTLE}) {
  return gigabytes < LITTLE ? 1 : Math.min(cores, MOST);
}

/* Works on `width` items at once; each call of what comes back gives the next result, in order. */
export function inTurn(items, width, work) {
  const started = [];
  let next = 0;
  return () => {
    while (next < items.length && started.length < width) started.push(work(items[next++]));
    return started.shift();
  };
}

export class Pool {
  /* `create`: makes a worker; `told`: hears how far the loading is, that the model is ready or
   * refused, and that a worker was replaced. */
  constructor(create, size, told) {
    Object.assign(this, {create, size, told, workers: [], line: [], parts: null, closed: false});
  }

  /* The first worker fetches and checks the parts. */
  load(version, cache) { this.add({type: 'load', version, cache}); }

  /* Items to have in hand: one more than workers, so that none waits for the page; one where
   * memory is short. */
  get ahead() { return this.size > 1 ? this.size + 1 : 1; }

  /* What a worker says of a file: an answer, or a problem and why. Its bytes are handed over. */
  predict(bytes) {
    return new Promise(resolve => {
      this.line.push({bytes, resolve});
      if (this.closed) this.turnAway();
      else this.handOut();
    });
  }

  add(first) {
    const one = {worker: this.create(), job: null, open: false};
    one.worker.addEventListener('message', ({data}) => this.heard(one, data));
    one.worker.addEventListener('error', event => {
      event.preventDefault();
      this.lost(one, event.message || 'the worker could not be loaded');
    });
    this.workers.push(one);
    one.worker.postMessage(first);
  }

  get free() { return this.workers.filter(one => one.open && !one.job); }

  handOut() {
    while (this.line.length && this.free.length) {
      const [one, ...others] = this.free, job = this.line.shift();
      const share = others.length > this.line.length;
      one.job = job;
      one.worker.postMessage({type: 'predict', bytes: job.bytes, share}, [job.bytes]);
    }
  }

  heard(one, said) {
    if (said.type === 'progress') this.told(said);
    else if (said.type === 'ready') this.opened(one, said);
    else if (said.type === 'ask') this.help(one, said);
    else if (said.type === 'failed') this.lost(one, said.why);
    else this.done(one, said);
  }

  /* A worker has opened the model. The first one's parts, checked, are all that the others need. */
  async opened(one, said) {
    one.open = true;
    if (!this.parts) {
      const {version, card, facts, model, wasm, seen} = said;
      this.parts = {version, card, facts, model, wasm, seen};
      await this.told(said);
      while (this.workers.length < this.size) this.add({type: 'open', ...this.parts});
    }
    this.handOut();
  }

  done(one, said) {
    const {job} = one;
    one.job = null;
    job.resolve(said);
    this.handOut();
  }

  /* Views of an image that `asking` has in hand, for a worker that is free; null if none is. */
  help(asking, {inputs, views}) {
    const [one] = this.free, answer = outputs => asking.worker.postMessage({type: 'helped', outputs});
    if (!one) {
      answer(null);
      return;
    }
    one.job = {resolve: said => answer(said.outputs ?? null)};
    one.worker.postMessage({type: 'help', inputs, views});
  }

  /* A worker has failed. One that had opened is replaced; without another the page can do. */
  lost(one, why) {
    if (!this.workers.includes(one)) return;
    one.worker.terminate();
    this.workers = this.workers.filter(other => other !== one);
    one.job?.resolve(LOST);
    if (one.open) {
      this.add({type: 'open', ...this.parts});
      this.told({type: 'replaced', why});
    } else if (!this.workers.length) this.close(why);
  }

  /* No worker is left, and none can be opened. */
  close(why) {
    this.closed = true;
    this.told({type: 'refused', why});
    this.turnAway();
  }

  turnAway() {
    for (const job of this.line.splice(0)) job.resolve(LOST);
  }
}
