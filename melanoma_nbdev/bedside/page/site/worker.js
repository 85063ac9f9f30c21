/* A worker of `pool.js`: opens the model, answers pictures, draws what the page shows of them, and
 * helps another worker with its views. The first one fetches and checks the parts for all. */
import {evidenceMap} from './reading.js';
import {ArtefactError, ImageError, Predictor, checkCanvas, overlay, picture, readImage, sha256, square} from './engine.js';

const SHOWN = 640, DRAWN = 320, THUMB = 112;
let predictor = null, helped = null;

const tell = message => postMessage(message);
const inWords = error => (error instanceof ArtefactError || error instanceof ImageError
  ? error.message : `${error.name}: ${error.message}`);

/* Where the parts are kept for the next visit; none where the browser offers none. */
async function keptParts(name) {
  try { return await caches.open(name); } catch { return null; }
}

/* The bytes of an answer of the server, with a word on how far it is. */
async function received(response, progress) {
  if (!response.ok) throw new ArtefactError(`${response.url} is missing (${response.status}); copy the folder again`);
  const chunks = [];
  let size = 0;
  for (const reader = response.body.getReader();;) {
    const {done, value} = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
    progress(value.length);
  }
  const all = new Uint8Array(size);
  chunks.reduce((at, chunk) => { all.set(chunk, at); return at + chunk.length; }, 0);
  return all;
}

/* A part of the page by its name: from the last visit, or else from the server. */
async function fetched(name, kept, progress) {
  const url = new URL(name, import.meta.url).href, found = await kept?.match(url);
  let response = found;
  try { response ??= await fetch(url, {cache: 'no-cache'}); }
  catch { throw new ArtefactError(`${name} could not be fetched; check the connection and reload the page`); }
  const bytes = await received(response.clone(), progress);
  return {bytes, keep: () => (found ? null : kept?.put(url, response).catch(() => null))};
}

/* A part whose hash is the one that the manifest gives; `ArtefactError` for any other. */
async function checked(name, expected, kept, progress) {
  const {bytes, keep} = await fetched(name, kept, progress);
  const found = await sha256(bytes);
  if (found !== expected) {
    throw new ArtefactError(`${name} has the hash ${found.slice(0, 12)}... and the list of this page says `
      + `${expected.slice(0, 12)}...; it was changed or damaged, so no answer is given: copy the folder again`);
  }
  await keep();
  return bytes;
}

const asJson = bytes => JSON.parse(new TextDecoder().decode(bytes));

/* The parts, each with its hash checked; the version is the manifest's, and stands in the page.
 * `seen.bin` is the last, where the model brings one. */
async function fetchParts(version, cache) {
  const kept = await keptParts(cache);
  const manifest = asJson(await checked('manifest.json', version, kept, () => {}));
  const names = ['card.json', 'facts.json', 'model.onnx', 'lib/ort.wasm', 'lib/minijinja.wasm', 'seen.bin']
    .filter(name => name in manifest.files || name !== 'seen.bin');
  const total = names.reduce((sum, name) => sum + manifest.files[name].bytes, 0);
  let done = 0;
  const progress = n => { done += n; tell({type: 'progress', done, total}); };
  return Promise.all(names.map(name => checked(name, manifest.files[name].sha256, kept, progress)));
}

/* Fetch the parts, open the model, and hand out what other workers need to open it. */
async function load({version, cache}) {
  if (typeof WebAssembly !== 'object' || typeof OffscreenCanvas !== 'function') {
    throw new ArtefactError('this browser is too old for the model (WebAssembly or OffscreenCanvas is missing); '
      + 'use a current Chrome, Edge, Firefox or Safari');
  }
  checkCanvas();
  const [card, facts, ...binaries] = await fetchParts(version, cache);
  const [model, wasm, renderer, seen = null] = binaries.map(bytes => new Blob([bytes]));
  await start({card: asJson(card), facts: asJson(facts), model, wasm, seen});
  tell({type: 'ready', version, card: predictor.card, facts: predictor.facts, model, wasm, seen,
    renderer: await renderer.arrayBuffer()});
}

/* The model from its parts: card and facts as objects; model, runtime and `seen.bin` (null: none) as
 * blobs. */
async function start({card, facts, model, wasm, seen}) {
  const ort = await import('./lib/ort.js'), wasmBinary = await wasm.arrayBuffer();
  Object.assign(ort.env.wasm, {numThreads: 1, proxy: false, wasmBinary});
  const bytesOf = async blob => new Uint8Array(await blob.arrayBuffer());
  predictor = await Predictor.load(await bytesOf(model), card, ort, facts, seen && await bytesOf(seen));
  ort.env.wasm.wasmBinary = undefined;
  structuredClone(wasmBinary, {transfer: [wasmBinary]});  // the runtime keeps it; empty, it costs nothing
}

/* Another worker for a page that is open: of the page's own edition, or none. */
async function open({version, ...parts}) {
  const {bytes} = await fetched('manifest.json', null, () => {});
  if (await sha256(bytes) !== version) throw new ArtefactError('another edition has come; reload the page');
  await start(parts);
  tell({type: 'ready'});
}

/* RGB bytes as a JPEG. */
async function asJpeg({data, width, height}) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext('2d');
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width*height; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4*i + c] = data[3*i + c];
    pixels.data[4*i + 3] = 255;
  }
  context.putImageData(pixels, 0, 0);
  const jpeg = await canvas.convertToBlob({type: 'image/jpeg', quality: .85});
  canvas.width = 0;  // its pixels go now, not when the browser next tidies up
  return jpeg;
}

const asUri = blob => new FileReaderSync().readAsDataURL(blob);

/* The map over a picture, as `answer._map_uri` has it; null where there is no answer, or nothing
 * speaks for melanoma. */
function mapOver(whole, given) {
  if (given.p_melanoma === null) return null;
  const {card, facts, mapSize} = predictor, spots = evidenceMap(facts, card, given);
  return Math.max(...spots) > facts.quiet ? overlay(square(whole, DRAWN), spots, mapSize) : null;
}

/* What the page keeps of an image that was looked at, as `answer.lesion_of` does. */
async function pictures(image, given) {
  const {card, facts} = predictor;
  const side = Math.min(Math.max(DRAWN, Math.min(image.width, image.height)), SHOWN);
  const seen = square(image, side, card.crop, facts.inner), whole = picture(seen.data, side, side);
  const drawn = [seen, square(whole, THUMB), mapOver(whole, given)].filter(Boolean);
  const [seenUri, thumb, map] = (await Promise.all(drawn.map(asJpeg))).map(asUri);
  return {seen: seenUri, thumb, map: map ?? null};
}

/* Hands views of the image in hand to another worker; their outputs, or null where none is free. */
function askForHelp(inputs, views) {
  return new Promise(resolve => {
    helped = resolve;
    tell({type: 'ask', inputs, views});
  });
}

/* The answer to one file, with the pictures of its card. */
async function predict({bytes, share}) {
  const [image, remarks] = await readImage(new Uint8Array(bytes), predictor.facts);
  try {
    const given = await predictor.run(image, remarks, share ? askForHelp : null);
    tell({type: 'answer', answer: given, ...await pictures(image, given)});
  } finally { image.close(); }
}

/* Some views of an image that another worker has in hand. */
async function help({inputs, views}) {
  tell({type: 'helped', outputs: await predictor.outputsOf(inputs, views)});
}

/* A file that cannot be answered is its own fault; after anything else, a fresh worker is needed. */
function failed(error) {
  tell({type: error instanceof ImageError ? 'problem' : 'failed', why: inWords(error)});
}

const acts = {load, open, predict, help};
let turn = Promise.resolve();
addEventListener('message', ({data}) => {
  if (data.type === 'helped') helped(data.outputs);
  else turn = turn.then(() => acts[data.type](data)).catch(failed);
});
