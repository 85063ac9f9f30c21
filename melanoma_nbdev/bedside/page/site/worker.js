/* The model's own thread: loads and checks the parts, answers pictures, and draws what the page shows. */
import {evidenceMap} from './reading.js';
import {ArtefactError, ImageError, Predictor, checkCanvas, overlay, picture, readImage, sha256, square} from './engine.js';

const SHOWN = 640, DRAWN = 320, THUMB = 112;
let predictor = null;

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

/* Load everything; the version is the hash of the manifest, and stands in the page itself. */
async function load({version, cache}) {
  if (typeof WebAssembly !== 'object' || typeof OffscreenCanvas !== 'function') {
    throw new ArtefactError('this browser is too old for the model (WebAssembly or OffscreenCanvas is missing); '
      + 'use a current Chrome, Edge, Firefox or Safari');
  }
  const kept = await keptParts(cache);
  const manifest = asJson(await checked('manifest.json', version, kept, () => {}));
  const names = ['card.json', 'facts.json', 'model.onnx', 'lib/ort.wasm', 'lib/minijinja.wasm'];
  const total = names.reduce((sum, name) => sum + manifest.files[name].bytes, 0);
  let done = 0;
  const progress = n => { done += n; tell({type: 'progress', done, total}); };
  const parts = names.map(name => checked(name, manifest.files[name].sha256, kept, progress));
  const [card, facts, model, wasm, renderer] = await Promise.all(parts);
  checkCanvas();
  const ort = await import('./lib/ort.mjs');
  Object.assign(ort.env.wasm, {numThreads: 1, proxy: false, wasmBinary: wasm.buffer});
  predictor = await Predictor.load(model, asJson(card), ort, asJson(facts));
  tell({type: 'ready', card: predictor.card, facts: predictor.facts, renderer});
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
  return canvas.convertToBlob({type: 'image/jpeg', quality: .85});
}

const asUri = blob => new FileReaderSync().readAsDataURL(blob);

/* What the page keeps of an image that was answered, as `answer.lesion_of` does. */
async function pictures(image, given) {
  const {card, facts, mapSize} = predictor, spots = evidenceMap(facts, card, given);
  const speaks = Math.max(...spots) > facts.quiet;
  const side = Math.min(Math.max(DRAWN, Math.min(image.width, image.height)), SHOWN);
  const seen = square(image, side, card.crop, facts.inner), whole = picture(seen.data, side, side);
  const small = square(whole, THUMB);
  const drawn = [seen, small, ...(speaks ? [overlay(square(whole, DRAWN), spots, mapSize)] : [])];
  const [seenUri, thumb, map] = (await Promise.all(drawn.map(asJpeg))).map(asUri);
  return {seen: seenUri, thumb, map: map ?? null};
}

/* The answer to one file, with the pictures of its card. */
async function answer({id, bytes}) {
  const [image, remarks] = await readImage(new Uint8Array(bytes), predictor.facts);
  try {
    const given = await predictor.run(image, remarks);
    if (given.error) throw new ImageError(given.error);
    tell({type: 'answer', id, answer: given, ...await pictures(image, given)});
  } finally { image.close(); }
}

let turn = Promise.resolve();
addEventListener('message', ({data}) => {
  turn = turn.then(() => (data.type === 'load' ? load(data) : answer(data)))
    .catch(error => tell({type: data.type === 'load' ? 'refused' : 'problem', id: data.id, why: inWords(error)}));
});
