/* The face of the static page: it takes files, asks the worker, and shows what comes back. */
import init, {Environment} from './lib/minijinja.js';
import {LOST, Pool, inTurn, workersFor} from './pool.js';
import * as reading from './reading.js';
import {drawTiles, insertTile, listenToReader} from './tiles.js';
import {few, intake} from './upload.js';

const VERSION = document.documentElement.dataset.version;
const SCOPE = new URL('./', location.href).href;
const CACHE = `melanoma_nbdev ${SCOPE} ${VERSION}`;
const $ = selector => document.querySelector(selector);
const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
const page = {lesions: [], known: new Map(), removed: null, pool: null, open: 0,
  working: false, stopped: false, wanted: false, leaving: false, card: null, facts: null, env: null, links: []};

const show = (selector, visible) => { $(selector).hidden = !visible; };
const {say: words, note} = window.melanoma;
const counted = (n, key) => words(`${key}.${n === 1 ? 'one' : 'more'}`, n);

const render = (part, values) => page.env.renderTemplate(`${part}.html.j2`,
  {language: window.melanoma.language, ...values});

/* The reader's own share of melanomas, in percent; 5 where nothing is written. */
function ownPercent() {
  const {value} = $('#own input');
  return value ? Math.min(99, Math.max(.01, Number(value))) : 5;
}

/* What the reader chose: operating point and share of melanomas (null: as in the study). */
function chosen() {
  const place = $('#place').value, share = {study: null, own: ownPercent()/100};
  return {sensitivity: Number($('#point').value), prevalence: place in share ? share[place] : place};
}

// ---- cards and tiles

function cardHtml(lesion, number) {
  if (lesion.answer.p_melanoma === null) return render('problem', {lesion, number});
  return render('answer', reading.cardValues(page.facts, lesion, number, chosen()));
}

/* An element that holds a part of the page. */
function holder(html) {
  const element = document.createElement('div');
  element.innerHTML = html;
  return element;
}

/* Cards, tiles and what can be taken away; no image is looked at again. */
function redraw() {
  show('#own', $('#place').value === 'own');
  const cards = page.lesions.map((lesion, i) => holder(cardHtml(lesion, i + 1)));
  $('.answers').replaceChildren(...cards);
  showTiles();
  reveal(page.open);
  takeAway();
}

/* What the template of a tile reads, without the large pictures of the lesion. */
function tileRow({lesion: {name, thumb, site, answer}, ...row}) {
  const {p_melanoma: score, trained_on: trainedOn} = answer;
  return {...row, lesion: {name, thumb, site, answer: {p_melanoma: score, trained_on: trainedOn}}};
}

function showTiles() {
  const tiles = reading.rowsOf(page.facts, page.lesions, chosen()).map(tileRow);
  drawTiles($('.overview'), tiles.length > 1 ? render('tiles', {tiles}) : '');
}

/* The tile of the last lesion, put in its place among the others, which stay as they are. */
function addTile() {
  const tiles = reading.rowsOf(page.facts, page.lesions, chosen());
  if (tiles.length <= 2) {
    showTiles();
    return;
  }
  const last = tiles.find(({number}) => number === tiles.length);
  insertTile($('.overview'), render('tiles', {tiles: [tileRow(last)]}));
}

/* One card is open, whose tile is marked. */
function reveal(number, go = false) {
  page.open = number;
  for (const card of document.querySelectorAll('.answers article')) {
    card.classList.toggle('open', card.id === `lesion-${number}`);
  }
  for (const tile of document.querySelectorAll('.tile')) {
    if (Number(tile.dataset.lesion) === number) tile.setAttribute('aria-current', 'true');
    else tile.removeAttribute('aria-current');
  }
  if (go) $(`#lesion-${number}`)?.focus();
  if (go) $(`#lesion-${number}`)?.scrollIntoView({block: 'nearest'});
}

// ---- what can be taken away

function download(text, type) {
  const link = URL.createObjectURL(new Blob([text], {type}));
  page.links.push(link);
  return link;
}

const patientFields = () => [...document.querySelectorAll('.patient input')];

/* What the reader wrote of the patient: for table and report alone. */
const typed = () => Object.fromEntries(patientFields().map(input => [input.name, input.value]));

function write(patient) {
  for (const input of patientFields()) input.value = patient[input.name] ?? '';
}

/* Where a lesion is, as the reader writes it on its card. */
function writeSite(field) {
  page.lesions[field.dataset.lesion - 1].site = reading.oneLine(field.value);
  showTiles();
  reveal(page.open);
  takeAway();
}

function reportHtml() {
  const {facts, card, lesions} = page, read = chosen();
  const rows = reading.rowsOf(facts, lesions, read);
  const doubts = [...new Set(rows.map(row => row.unsure).filter(Boolean))].sort();
  return render('report', {rows, pictures: $('#pictures').checked,
    patient: reading.patientWords(typed()), by: reading.provenance(facts, card, read),
    measured: reading.pointWords(facts, read), elsewhere: reading.elsewhere(facts, read.sensitivity),
    unsure_means: reading.unsureMeans(facts, doubts), share_from: reading.shareFrom(facts, read.prevalence),
    intended: facts.intended[melanoma.language]});
}

/* Table and report, as links that hold them. */
function takeAway() {
  page.links.splice(0).forEach(URL.revokeObjectURL);
  $('.take').replaceChildren();
  if (!page.lesions.length) return;
  const table = reading.tableCsv(page.facts, page.card, page.lesions, chosen(), typed());
  $('.take').innerHTML = render('take', {table: download(table, 'text/csv;charset=utf-8'),
    report: download(reportHtml(), 'text/html;charset=utf-8')});
}

// ---- answers

/* The status line, and the same to screen readers. */
function say(text, working = false) {
  $('.status').innerHTML = render('status', {text, working});
  window.melanoma.announce(text, working);
}

/* While images are looked at, nothing but Stop can be pressed. */
function busy(working) {
  const held = document.activeElement;
  page.working = working;
  page.intake.disable(working);
  const some = page.lesions.length > 0 && !working, before = Boolean(page.removed) && !working;
  $('.second').disabled = working;
  $('.clear').disabled = !some;
  show('.stop', working);
  show('.clear', some || before);  // it keeps its place, where a double click does not hit Undo
  show('.kept', some);
  show('.patient', some);
  show('.undo', before);
  if (held !== document.body && !usable(held)) keepFocus();
}

const usable = element => !element.disabled && element.checkVisibility();

/* Who works by keyboard stays where the work goes on. */
function keepFocus() {
  const next = ['.stop', '.undo', '.clear'].map($).find(usable);
  next?.focus({preventScroll: true});
}

const fingerprint = async bytes => {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
};

const problem = why => ({answer: {p_melanoma: null, probs: {}, warnings: [], error: why, trained_on: null}});

/* The hash of a file and what is found of it; nothing of a file that was answered before. */
async function look({read}) {
  try {
    const bytes = await read(), hash = await fingerprint(bytes);
    if (page.known.has(hash)) return {hash};
    const said = await page.pool.predict(bytes);
    return {hash: said.lost ? null : hash, found: said.type === 'answer' ? said : problem(said.why)};
  } catch (error) { return {hash: null, found: problem(error.message)}; }
}

/* Show what was found of a file; false where the same file is there already. */
function add({name, note: remark}, {hash, found}) {
  if (page.known.has(hash)) return false;
  const {answer, seen = null, map = null, thumb = null} = found;
  const lesion = {name, note: remark, answer, seen, map, thumb, site: ''};
  $('.answers').append(holder(cardHtml(lesion, page.lesions.length + 1)));
  page.lesions.push(lesion);
  if (hash) page.known.set(hash, name);
  return true;
}

/* `add`; a file whose card cannot be drawn has no answer, and the others have theirs. */
function addFound(item, said) {
  try { return add(item, said); } catch { return add(item, {hash: null, found: problem(LOST.why)}); }
}

/* Answer files, as many at a time as the pool takes, and show them in their order. */
async function take(items) {
  if (!items.length) return;
  if (page.working) {
    note(['wait']);
    return;
  }
  const named = typed().patient.trim();
  if (named && page.lesions.length) note(['same_patient', named]);
  Object.assign(page, {removed: null, stopped: false});
  const first = page.lesions.length + 1, again = [], next = inTurn(items, page.pool.ahead, look);
  busy(true);
  $('.bar').scrollIntoView({behavior: calm ? 'auto' : 'smooth', block: 'start'});
  let looked = 0;
  try {
    while (looked < items.length && !page.stopped) {
      const item = items[looked++];
      report(item.name, looked, items.length);
      if (addFound(item, await next())) addTile();
      else again.push(item.name);
      openFirst(first);
    }
  } finally { sumUp(items.length - looked, items.length, again); }
}

/* How far the work is. */
function report(name, place, total) {
  const looking = words('looking', place, total, name);
  say(looking, true);
  page.intake.progress.show(looking, place - 1, total);
}

/* Say which files were not looked at, after a stop or a second time, and give the page back. */
function sumUp(left, total, again) {
  page.intake.progress.hide();
  if (left) note(['stopped', left, total]);
  if (again.length) note(['again', few(again)]);
  finish();
}

/* Open the card of the new images that is to be looked at first. */
function openFirst(from) {
  const fresh = reading.inOrder(page.lesions).find(([number]) => number >= from);
  if (fresh) reveal(fresh[0]);
}

/* Give the page back, even where table and report cannot be made. */
function finish() {
  try { takeAway(); } finally {
    busy(false);
    sayHowMany();
  }
}

/* How many images have an answer, and how many files have none. */
function sayHowMany() {
  const unread = page.lesions.filter(lesion => lesion.answer.p_melanoma === null).length;
  const not = unread ? `, ${counted(unread, 'unread')}` : '';
  say(`${counted(page.lesions.length - unread, 'answered')}${not}.`);
}

/* Take all answers from the page; until the next images come, they can be had back. A second press
 * takes nothing more. */
function forget() {
  const {lesions, known, open} = page;
  if (lesions.length) page.removed = {lesions, known, open, patient: typed()};
  Object.assign(page, {lesions: [], known: new Map(), open: 0});
  write({});
  note();
  redraw();
  say(words('cleared'));
  busy(false);
}

function restore() {
  if (!page.removed) return;
  const {patient, ...answers} = page.removed;
  Object.assign(page, answers, {removed: null});
  write(patient);
  note();
  redraw();
  finish();
}

// ---- start

/* What the workers tell of themselves. */
function told(said) {
  const acts = {progress: showProgress, ready: begin, refused: ({why}) => refuse(why),
    replaced: () => note(['replaced'])};
  return acts[said.type](said);
}

function showProgress({done, total}) {
  const megabytes = n => (n/1e6).toFixed(1);
  $('#loading_text').textContent = words('loading.part', megabytes(done), megabytes(total));
}

function refuse(why) {
  show('#loading', false);
  show('#gone', true);
  $('#gone p').textContent = words('cannot_start', why);
}

async function begin({card, facts, renderer}) {
  await init({module_or_path: renderer});
  Object.assign(page, {card, facts, env: reading.prepare(new Environment(), facts.templates)});
  speak(window.melanoma.language);
  show('#loading', false);
  show('#work', true);
  Object.assign(document.documentElement.dataset,
    {ready: Math.round(performance.now()), workers: page.pool.size});
  keep();
}

/* An option of a choice. */
function option(value, shown) {
  const element = document.createElement('option');
  Object.assign(element, {value, textContent: shown});
  return element;
}

/* The choices in the language of the page; what was chosen stays. */
function fillChoices() {
  const {points, share, published, cohorts} = page.facts, wanted = points.length ? points.map(one => one.sensitivity) : [.95];
  const finds = wanted.map(one => option(one, words('point.finds', reading.whole(one))));
  const study = share ? [option('study', words('place.study', reading.percent(share)))] : [];
  const seen = Object.entries(cohorts).map(([name, one]) => option(name, `${one.title}: ${reading.percent(one.prevalence)}`));
  const told = Object.entries(published).map(([name, one]) => option(name, words(`place.${name}`, reading.percent(reading.shareOf(one)))));
  const chosen = [[$('#point'), finds, .95], [$('#place'), [...study, ...seen, ...told, option('own', words('place.own'))], 'study']];
  for (const [choice, options, usual] of chosen) {
    const before = choice.value || String(usual);
    choice.replaceChildren(...options);
    if (options.some(one => one.value === before)) choice.value = before;
  }
}

/* The examples, and the words under them. */
function fillExamples() {
  const uris = [...document.querySelectorAll('.thumb img')].map(image => image.getAttribute('src'));
  const thumbs = page.facts.examples.map((example, i) => ({...named(example), uri: uris[i]}));
  $('#thumbs').innerHTML = render('thumbs', {thumbs});
}

/* The whole page in a language. */
function speak(language) {
  window.melanoma.speak(language);
  reading.speak(window.melanoma.texts, language);
  page.intake.speak();
  $('#language').value = language;
  fillChoices();
  fillExamples();
  $('#about').innerHTML = page.facts.about[language];
  redraw();
  if (page.lesions.length && !page.working) finish();
  else if (page.removed) say(words('cleared'));
}

const named = ({number, kind}) => ({label: words('example', number), remark: words(`example.${kind}`)});
const fileItem = file => ({name: file.name, note: '', read: () => file.arrayBuffer()});

const exampleItem = example => ({name: named(example).label, note: named(example).remark,
  read: async () => (await fetch(new URL(example.file, SCOPE))).arrayBuffer()});

/* What the page's buttons do. */
function listen() {
  const presses = {'.second': () => take(page.facts.examples.map(exampleItem)),
    '.stop': () => { page.stopped = true; }, '.clear': forget, '.undo': restore,
    '#reload': () => location.reload()};
  for (const [selector, act] of Object.entries(presses)) $(selector).addEventListener('click', act);
  for (const selector of ['#point', '#place', '#own input']) $(selector).addEventListener('input', redraw);
  $('#own input').addEventListener('change', event => { event.target.value = ownPercent(); });
  $('#language').addEventListener('input', event => speak(event.target.value));
  for (const input of document.querySelectorAll('.kept input, .patient input')) input.addEventListener('input', takeAway);
  $('.answers').addEventListener('change', ({target}) => { if (target.closest('.body-site')) writeSite(target); });
  listenToReader($('.overview'));
  addEventListener('click', pressed);
}

/* A thumbnail is answered by itself, a tile opens its card. */
function pressed(event) {
  const thumb = event.target.closest('.thumb'), tile = event.target.closest('.tile');
  if (thumb) take([exampleItem(page.facts.examples[Number(thumb.dataset.example)])]);
  if (!tile) return;
  event.preventDefault();
  reveal(Number(tile.dataset.lesion), true);
}

/* Files: chosen, from the camera, dropped or pasted. */
function listenForFiles() {
  const host = $('.uploader');
  page.intake = intake(host, {say: words, tell: note, accept: host.dataset.accept,
    limit: () => page.facts.max_bytes/2**20, isBusy: () => page.working || !page.facts,
    take: files => take(files.map(fileItem))});
  addEventListener('beforeunload', event => { if (page.lesions.length && !page.leaving) event.preventDefault(); });
}

function reload() {
  page.leaving = true;
  location.reload();
}

/* Go over to the newer edition; where answers would be lost, ask first. */
function useNewer(waiting) {
  if ((page.lesions.length || page.working) && !confirm(words('newer.leave'))) return;
  page.wanted = true;
  if (waiting) waiting.postMessage('update');
  else reload();
}

/* Keep the page for the next visit. A newer edition is offered; once one tab takes it, the others go
 * on with the one that they have, and offer it too. */
async function keep() {
  const keeper = navigator.serviceWorker;
  if (!keeper) return;
  let before = keeper.controller, registered;
  keeper.addEventListener('controllerchange', () => {
    if (page.wanted) reload();
    else if (before) show('#update', true);
    before = keeper.controller;
  });
  try { registered = await keeper.register('sw.js', {updateViaCache: 'none'}); }
  catch { return; }
  const offer = () => { if (registered.waiting && keeper.controller) show('#update', true); };
  offer();
  registered.addEventListener('updatefound', () => registered.installing?.addEventListener('statechange', offer));
  $('#update button').addEventListener('click', () => useNewer(registered.waiting));
}

listen();
listenForFiles();
const create = () => new Worker(new URL('worker.js', SCOPE), {type: 'module'});
page.pool = new Pool(create, workersFor(navigator), told);
page.pool.load(VERSION, CACHE);
