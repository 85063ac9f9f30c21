/* The face of the static page: it takes files, asks the worker, and shows what comes back. */
import init, {Environment} from './lib/minijinja.js';

const VERSION = document.documentElement.dataset.version;
const SCOPE = new URL('./', location.href).href;
const CACHE = `melanoma_nbdev ${SCOPE} ${VERSION}`;
const $ = selector => document.querySelector(selector);
const page = {rows: [], asked: new Map(), next: 0, card: null, facts: null, env: null, left: 0, at: 0};

function note(words, kind = '') {
  Object.assign($('#note'), {hidden: !words, textContent: words ?? '', className: kind});
}

// ---- words

const percent = p => (p < .01 ? 'under 1%' : p > .99 ? 'over 99%' : `${Math.round(100*p)}%`);
const capital = words => words[0].toUpperCase() + words.slice(1) + (/[?.!]$/.test(words) ? '' : '.');
const plural = (n, one, more) => `${n} ${n === 1 ? one : more}`;

/* The operating points that promise a sensitivity, each once. */
function pointsOf(answer) {
  const promised = answer.decisions.filter(point => point.target.sensitivity && point.confidence);
  return promised.map(point => ({called: point.called, promised: percent(point.target.sensitivity),
    found: percent(point.sensitivity.value)}));
}

function othersOf(answer) {
  const ranked = Object.entries(answer.probs).sort((a, b) => b[1] - a[1]);
  return ranked.map(([code, p]) => ({name: page.facts.dx[code], percent: percent(p), width: (100*p).toFixed(1)}));
}

function answerHtml({name, remark}, {answer, picture, map}) {
  const limits = page.card.conformal;
  return page.env.renderTemplate('answer.html.j2', {name, note: remark, p: answer.p_melanoma.toFixed(6),
    width: answer.width, height: answer.height, picture: URL.createObjectURL(picture), map: URL.createObjectURL(map),
    risk: percent(answer.p_melanoma).replace('under ', '<').replace('over ', '>'), points: pointsOf(answer),
    conformal: answer.conformal, level: limits ? percent(1 - limits.alpha) : '',
    warnings: answer.warnings.map(capital), others: othersOf(answer)});
}

function aboutHtml({name, arch, size, created, data, metrics, intended_use: use, licence, sha256}) {
  const trained = (data ?? []).map(set => `${set.name}: ${set.n} images, ${set.n_melanoma} melanomas (${set.licence})`);
  const rows = [['Model', `${name} (${arch}, ${size} px), ${created}`], ['Trained on', trained.join('; ')],
    ['How good', metrics?.auc ? `AUC ${metrics.auc.toFixed(3)} (95% interval ${metrics.lo.toFixed(3)} to `
      + `${metrics.hi.toFixed(3)}) on ${metrics.n} images, ${metrics.n_pos} of them melanomas, out of fold` : ''],
    ['Made for', use], ['Licence', licence],
    ['Fingerprint', `${sha256.slice(0, 16)} (SHA-256 of the model, checked before the first answer)`]];
  return page.env.renderTemplate('about.html.j2', {rows: rows.map(([term, text]) => ({term, text}))});
}

// ---- answers

/* Put a card under those of the same upload; a new upload stands above the older ones. */
function add(html) {
  const holder = document.createElement('div');
  holder.innerHTML = html;
  $('.answers').insertBefore(holder, $('.answers').children[page.at++] ?? null);
  $('.clear').hidden = false;
}

const safeCell = value => {
  const words = String(value ?? ''), plain = /^[=+\-@\t\r]/.test(words) && isNaN(words) ? `'${words}` : words;
  return /[",\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
};

/* The table of all answers, with the columns of `inference.answer_row`. */
function csv() {
  const probs = page.card.classes.map(code => `p_${code}`);
  const columns = ['file', 'p_melanoma', 'error', ...probs, 'width', 'height', 'warning'];
  const lines = page.rows.map(row => columns.map(column => safeCell(row[column])).join(','));
  return [columns.join(','), ...lines].join('\n') + '\n';
}

function rowOf(name, answer) {
  const probs = Object.entries(answer.probs ?? {}).map(([code, p]) => [`p_${code}`, p]);
  return {file: name, p_melanoma: answer.p_melanoma, error: answer.error, ...Object.fromEntries(probs),
    width: answer.width, height: answer.height, warning: (answer.warnings ?? []).join('; ')};
}

function sumUp() {
  const bad = page.rows.filter(row => row.error).length, good = page.rows.length - bad;
  const not = bad ? `, ${plural(bad, 'file', 'files')} not` : '', link = document.createElement('a');
  link.download = 'risks.csv';
  link.href = URL.createObjectURL(new Blob([csv()], {type: 'text/csv'}));
  link.textContent = 'Download as CSV';
  $('.status').replaceChildren(`${plural(good, 'image', 'images')} answered${not}. `, link);
}

function done(id, html, row) {
  page.asked.delete(id);
  add(html);
  page.rows.push(row);
  if (!--page.left) sumUp();
}

const busy = words => {
  const working = Object.assign(document.createElement('span'), {className: 'work', textContent: words});
  $('.status').replaceChildren(working);
};

/* Ask for files one after another: a large one is let go before the next is read. */
async function ask(items) {
  if (page.left) return note('Wait until the images before are answered, then try again.', 'warn');
  Object.assign(page, {left: items.length, at: 0});
  note('');
  for (const [i, item] of items.entries()) {
    busy(`Looking at ${i + 1} of ${items.length}: ${item.name}`);
    await askOne(item);
  }
}

async function askOne(item) {
  const id = page.next++;
  let bytes;
  try { bytes = await item.read(); }
  catch (error) { return done(id, problemHtml(item.name, error.message), rowOf(item.name, {error: error.message})); }
  const answered = new Promise(resolve => { page.asked.set(id, {item, resolve}); });
  page.worker.postMessage({type: 'predict', id, bytes}, [bytes]);
  await answered;
}

const problemHtml = (name, why) => page.env.renderTemplate('problem.html.j2', {name, why});

function arrived({data}) {
  if (data.type === 'progress') return showProgress(data);
  if (data.type === 'ready') return begin(data);
  if (data.type === 'refused') return refuse(data.why);
  const {item, resolve} = page.asked.get(data.id);
  if (data.type === 'answer') done(data.id, answerHtml(item, data), rowOf(item.name, data.answer));
  else done(data.id, problemHtml(item.name, data.why), rowOf(item.name, {error: data.why}));
  resolve();
}

// ---- start

function showProgress({done: got, total}) {
  const megabytes = n => (n/1e6).toFixed(1);
  $('#loading_text').textContent = `Opening the model: ${megabytes(got)} of ${megabytes(total)} MB`;
}

function refuse(why) {
  $('#loading').hidden = true;
  note(`The page cannot start: ${why}.`, 'lost');
}

async function begin({card, facts, renderer}) {
  await init({module_or_path: renderer});
  const env = new Environment();
  for (const [name, source] of Object.entries(facts.templates)) env.addTemplate(name, source);
  Object.assign(page, {card, facts, env});
  $('.card').innerHTML = aboutHtml(card);
  $('#loading').hidden = true;
  $('#work').hidden = false;
  document.documentElement.dataset.ready = Math.round(performance.now());
  keep();
}

const fileItem = file => ({name: file.name, remark: '', read: () => readFile(file)});

async function readFile(file) {
  if (file.size > page.facts.max_bytes) {
    const megabytes = n => Math.round(n/2**20);
    throw new Error(`it has ${megabytes(file.size)} MB; the limit is ${megabytes(page.facts.max_bytes)} MB, `
      + 'save it smaller');
  }
  return file.arrayBuffer();
}

const exampleItem = ({label, file, remark}) => ({name: label, remark,
  read: async () => (await fetch(new URL(file, SCOPE))).arrayBuffer()});

function clearAll() {
  for (const image of document.querySelectorAll('.answers img')) URL.revokeObjectURL(image.src);
  $('.answers').replaceChildren();
  $('.status').replaceChildren();
  $('.clear').hidden = true;
  page.rows = [];
}

function take(files) { if (files.length) ask([...files].map(fileItem)); }

function listen() {
  const input = $('input[type=file]'), drop = $('.drop');
  $('.primary').addEventListener('click', () => input.click());
  $('.second').addEventListener('click', () => ask(page.facts.examples.map(exampleItem)));
  $('.clear').addEventListener('click', clearAll);
  input.addEventListener('change', () => { take([...input.files]); input.value = ''; });
  addEventListener('dragover', event => { event.preventDefault(); drop.classList.add('over'); });
  addEventListener('dragleave', event => { if (!event.relatedTarget) drop.classList.remove('over'); });
  addEventListener('drop', event => {
    event.preventDefault();
    drop.classList.remove('over');
    take(event.dataTransfer.files);
  });
  addEventListener('paste', event => take(event.clipboardData?.files ?? []));
}

/* Keep the page for the next visit; a newer edition is offered, not forced. */
async function keep() {
  if (!navigator.serviceWorker) return;
  let reloading = false;
  const had = Boolean(navigator.serviceWorker.controller);
  navigator.serviceWorker.addEventListener('controllerchange', () => {
    if (had && !reloading) location.reload();
    reloading = true;
  });
  let registered;
  try { registered = await navigator.serviceWorker.register('sw.js', {updateViaCache: 'none'}); }
  catch { return; }
  const offer = () => { if (registered.waiting && had) $('#update').hidden = false; };
  offer();
  registered.addEventListener('updatefound', () => {
    registered.installing?.addEventListener('statechange', offer);
  });
  $('#update button').addEventListener('click', () => registered.waiting?.postMessage('update'));
}

listen();
page.worker = new Worker(new URL('worker.js', SCOPE), {type: 'module'});
page.worker.addEventListener('message', arrived);
page.worker.addEventListener('error', event => refuse(event.message || 'the worker could not be loaded'));
page.worker.postMessage({type: 'load', version: VERSION, cache: CACHE});
