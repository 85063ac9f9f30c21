/* The page without a server: the bytes of a file become an answer, as `images` and
 * `bedside.inference` give it. Runs in a worker, in a page and in Node; touches no document.
 * The table in nbs/bedside/69_site says which function here answers to which in Python.
 * What Python's constants and sentences are stands in `facts`, which `site.write_site` writes. */

export class ImageError extends Error {}
export class ArtefactError extends Error {}

// ---- Pillow's resize, to the byte (Resample.c of Pillow 13, 8 bits a channel)

const BILINEAR = {support: 1, at: x => Math.max(0, 1 - Math.abs(x))};
const BOX = {support: .5, at: x => (x > -.5 && x <= .5 ? 1 : 0)};
const BICUBIC = {support: 2, at: cubic};
export const FILTERS = {BILINEAR, BOX, BICUBIC};
const PRECISION_BITS = 22;

/* Pillow's cubic with a = -0.5. */
function cubic(distance) {
  const a = -.5, x = Math.abs(distance);
  if (x < 1) return ((a + 2)*x - (a + 3))*x*x + 1;
  if (x < 2) return (((x - 5)*x + 8)*x - 4)*a;
  return 0;
}

/* For each output pixel: the first input pixel that counts, and the weights from there on. The
 * output shows the input from `start` over `length`, which need not be whole pixels. */
export function weightsOf(sizeIn, sizeOut, filter, start = 0, length = sizeIn) {
  const scale = length/sizeOut, stretch = Math.max(scale, 1), support = filter.support*stretch;
  const first = new Int32Array(sizeOut), weights = [];
  for (let out = 0; out < sizeOut; out++) {
    const centre = start + (out + .5)*scale;
    const from = Math.max(0, Math.trunc(centre - support + .5));
    const to = Math.min(sizeIn, Math.trunc(centre + support + .5));
    const row = new Float64Array(to - from);
    let sum = 0;
    for (let i = 0; i < row.length; i++) {
      row[i] = filter.at((i + from - centre + .5)*(1/stretch));
      sum += row[i];
    }
    if (sum) for (let i = 0; i < row.length; i++) row[i] /= sum;
    first[out] = from;
    weights.push(row);
  }
  return {first, weights};
}

/* Weights as Pillow's whole numbers: 22 bits behind the point, rounded away from zero. */
function fixedPoint({first, weights}) {
  const one = 2**PRECISION_BITS;
  const fixed = weights.map(row => Int32Array.from(row, w => Math.trunc(w*one + (w < 0 ? -.5 : .5))));
  return {first, weights: fixed};
}

const clip8 = sum => Math.min(255, Math.max(0, sum >> PRECISION_BITS));

/* One band of rows, squeezed to `width`: RGB bytes into `target` from row `at` on. */
function squeezeRows(band, {first, weights}, target, at, width) {
  const {data, channels, rows, columns} = band, half = 2**(PRECISION_BITS - 1);
  for (let y = 0; y < rows; y++) {
    const line = y*columns*channels;
    let to = (at + y)*width*3;
    for (let x = 0; x < width; x++, to += 3) {
      const row = weights[x];
      let from = line + first[x]*channels, red = half, green = half, blue = half;
      for (let i = 0; i < row.length; i++, from += channels) {
        red += data[from]*row[i];
        green += data[from + 1]*row[i];
        blue += data[from + 2]*row[i];
      }
      target[to] = clip8(red);
      target[to + 1] = clip8(green);
      target[to + 2] = clip8(blue);
    }
  }
}

/* The columns of an RGB picture, squeezed to `height` rows. */
function squeezeColumns(data, width, {first, weights}, height) {
  const line = width*3, half = 2**(PRECISION_BITS - 1);
  const target = new Uint8Array(line*height), sums = new Int32Array(line);
  for (let y = 0; y < height; y++) {
    sums.fill(half);
    weights[y].forEach((weight, i) => {
      const from = (first[y] + i)*line;
      for (let x = 0; x < line; x++) sums[x] += data[from + x]*weight;
    });
    for (let x = 0; x < line; x++) target[y*line + x] = clip8(sums[x]);
  }
  return target;
}

const BAND_PIXELS = 2**20;

/* The rows of a rectangle of a picture, about a million pixels at a time. */
function* bands(picture, {left, top, width, height}) {
  const rows = Math.max(1, Math.floor(BAND_PIXELS/width));
  for (let y = 0; y < height; y += rows) {
    yield [y, picture.band(left, top + y, width, Math.min(rows, height - y))];
  }
}

/* The rectangle of a picture as RGB bytes. */
function pixelsOf(picture, box) {
  const same = fixedPoint(weightsOf(box.width, box.width, BOX));
  const all = new Uint8Array(box.width*box.height*3);
  for (const [y, band] of bands(picture, box)) squeezeRows(band, same, all, y, box.width);
  return all;
}

/* The whole pixels that a rectangle touches. */
function wholePixels({left, top, width, height}) {
  const whole = {left: Math.floor(left), top: Math.floor(top)};
  return {...whole, width: Math.ceil(left + width) - whole.left,
    height: Math.ceil(top + height) - whole.top};
}

/* `picture.crop(whole).resize((width, height), filter, box)` of Pillow: RGB bytes. Since release 13
 * a picture that loses more than twice as many rows as columns is squeezed in height first. `lying`:
 * as the transposed picture would be resized, with its directions in the other order. */
export function resize(picture, part, width, height, filter = BILINEAR, lying = false) {
  const box = wholePixels(part), {left, top} = part;
  const across = fixedPoint(weightsOf(box.width, width, filter, left - box.left, part.width));
  const down = fixedPoint(weightsOf(box.height, height, filter, top - box.top, part.height));
  const fewerRows = box.height - height, fewerColumns = box.width - width;
  const [fewer, others] = lying ? [fewerColumns, fewerRows] : [fewerRows, fewerColumns];
  const secondFirst = fewer > 0 && fewer > 2*others;
  if (secondFirst !== lying) {
    const data = squeezeColumns(pixelsOf(picture, box), box.width, down, height);
    const flat = {data, channels: 3, rows: height, columns: box.width};
    const result = new Uint8Array(width*height*3);
    squeezeRows(flat, across, result, 0, width);
    return {width, height, data: result};
  }
  const narrow = new Uint8Array(width*box.height*3);
  for (const [y, band] of bands(picture, box)) squeezeRows(band, across, narrow, y, width);
  return {width, height, data: squeezeColumns(narrow, width, down, height)};
}

/* The same for one channel of 32-bit floats, which Pillow keeps between the two passes. */
export function resizeFloats(values, columns, rows, width, height, filter = BICUBIC) {
  const across = weightsOf(columns, width, filter), down = weightsOf(rows, height, filter);
  const narrow = new Float32Array(width*rows), result = new Float32Array(width*height);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < width; x++) {
      narrow[y*width + x] = weighted(across.weights[x], values, y*columns + across.first[x], 1);
    }
  }
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      result[y*width + x] = weighted(down.weights[y], narrow, down.first[y]*width + x, width);
    }
  }
  return result;
}

/* The sum of values, `step` apart from `at` on, each times its weight. */
function weighted(weights, values, at, step) {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += values[at + i*step]*weights[i];
  return sum;
}

/* RGB bytes as a picture that `resize` reads. */
export function picture(data, width, height, channels = 3) {
  const band = (left, top, columns, rows) => {
    const part = new Uint8Array(columns*rows*channels);
    for (let y = 0; y < rows; y++) {
      const from = ((top + y)*width + left)*channels;
      part.set(data.subarray(from, from + columns*channels), y*columns*channels);
    }
    return {data: part, channels, rows, columns};
  };
  return {width, height, band, close() {}};
}

// ---- images: the square, the input of the network, remarks

/* Python's `round`: a half goes to the even number. */
export function roundEven(x) {
  const low = Math.floor(x), rest = x - low;
  if (rest !== .5) return Math.round(x);
  return low % 2 ? low + 1 : low;
}

/* The rectangle of a picture that the network looks at; at half pixels where an odd number of them
 * is cut off. */
export function cropBox({width, height}, crop, inner) {
  if (crop === 'squash') return {left: 0, top: 0, width, height};
  let side = Math.min(width, height);
  if (crop === 'inner') side = Math.max(1, roundEven(side*inner));
  return {left: (width - side)/2, top: (height - side)/2, width: side, height: side};
}

/* `images.square` */
export function square(image, size, crop = 'centre', inner = .7, lying = false) {
  return resize(image, cropBox(image, crop, inner), size, size, BILINEAR, lying);
}

/* `images.to_input`, every step in 32-bit floats as numpy takes it. */
export function toInput({data, width, height}, mean, std) {
  const pixels = width*height, input = new Float32Array(3*pixels), f32 = Math.fround;
  for (let channel = 0; channel < 3; channel++) {
    const centre = f32(mean[channel]), spread = f32(std[channel]);
    for (let i = 0; i < pixels; i++) {
      const value = f32(data[3*i + channel]/255);
      input[channel*pixels + i] = f32(f32(value - centre)/spread);
    }
  }
  return input;
}

/* Standard deviation of one channel. */
function spreadOf(data, channel) {
  const n = data.length/3;
  let sum = 0, squares = 0;
  for (let i = channel; i < data.length; i += 3) sum += data[i];
  for (let i = channel; i < data.length; i += 3) squares += (data[i] - sum/n)**2;
  return Math.sqrt(squares/n);
}

/* Largest distance of a channel from the mean of its pixel. */
function colourOf(data) {
  let most = 0;
  for (let i = 0; i < data.length; i += 3) {
    const mean = (data[i] + data[i + 1] + data[i + 2])/3;
    for (let channel = 0; channel < 3; channel++) {
      most = Math.max(most, Math.abs(data[i + channel] - mean));
    }
  }
  return most;
}

/* `images._content_remarks` */
export function contentRemarks(image, smallSide) {
  const {width, height} = image, remarks = [];
  if (Math.min(width, height) < smallSide) {
    remarks.push(`only ${width} x ${height} pixels: details that the answer needs may be missing`);
  }
  if (Math.max(width, height) > 2*Math.min(width, height)) {
    remarks.push('this image is much longer than wide: the model looks at a square, and the rest is cut off '
      + 'or squeezed into it');
  }
  const {data} = resize(image, {left: 0, top: 0, width, height}, 32, 32, BOX);
  if (Math.max(...[0, 1, 2].map(channel => spreadOf(data, channel))) < 2) {
    remarks.push('hardly any structure: is this a photo of a lesion?');
  } else if (colourOf(data) < 2) remarks.push('a grey image: colour, which the model uses, is missing');
  return remarks;
}

// ---- images: bytes -> a picture, or the reason why not

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));
const big = (bytes, at, n) => bytes.subarray(at, at + n).reduce((sum, byte) => sum*256 + byte, 0);
const little = (bytes, at, n) => bytes.subarray(at, at + n).reduceRight((sum, byte) => sum*256 + byte, 0);

/* What kind of file the bytes are, by their signature; '' for none that is read here. */
export function kindOf(bytes) {
  if (big(bytes, 0, 3) === 0xffd8ff) return 'JPEG';
  if (text(bytes, 0, 8) === '\x89PNG\r\n\x1a\n') return 'PNG';
  if (/^GIF8[79]a$/.test(text(bytes, 0, 6))) return 'GIF';
  if (text(bytes, 0, 4) === 'RIFF' && text(bytes, 8, 12) === 'WEBP') return 'WEBP';
  if (text(bytes, 0, 2) === 'BM') return 'BMP';
  if (/^(II[*+]\0|MM\0[*+])$/.test(text(bytes, 0, 4))) return 'TIFF';
  if (text(bytes, 4, 8) === 'jP  ' || big(bytes, 0, 4) === 0xff4fff51) return 'JPEG2000';
  return /^P[1-6]\s$/.test(text(bytes, 0, 3)) ? 'PPM' : '';
}

/* `images.what_is_it`, its table and sentences from `facts`. */
export function whatIsIt(bytes, facts) {
  for (const {start, signature, meaning} of facts.signatures) {
    if (text(bytes, start, start + signature.length) === signature) return meaning;
  }
  const head = bytes.subarray(0, 2048), letters = new TextDecoder('latin1').decode(head).toLowerCase();
  if (letters.includes('<svg')) return facts.meanings.svg;
  if (letters.includes('<html')) return facts.meanings.html;
  return isText(head, bytes.length <= 2048) ? facts.meanings.text : facts.meanings.unknown;
}

/* Whether bytes are text; what is no letter counts only where the bytes are the whole file. */
function isText(head, whole) {
  try {
    const letters = new TextDecoder('utf-8', {fatal: whole}).decode(head).replaceAll('\ufffd', '');
    return !/(?![\n\r\t\f\ufeff ])[\p{C}\p{Z}]/u.test(letters);
  } catch { return false; }
}

const DAMAGED = why => new ImageError(`damaged or cut off (${why}); copy or download it again`);
const CUT = () => DAMAGED('its end is missing');

/* What the header of a JPEG says: size, channels; whether its end is there. */
function jpegFacts(bytes) {
  for (let at = 2; at + 9 < bytes.length;) {
    if (bytes[at] !== 0xff) throw DAMAGED('its header cannot be read');
    const marker = bytes[at + 1];
    if (marker === 0xff) { at += 1; continue; }
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const size = {width: big(bytes, at + 7, 2), height: big(bytes, at + 5, 2)};
      return {...size, channels: bytes[at + 9], frames: 1, whole: hasEnd(bytes)};
    }
    at += 2 + big(bytes, at + 2, 2);
  }
  throw CUT();
}

/* Whether the mark of the end stands somewhere in the last part of a JPEG. */
function hasEnd(bytes) {
  for (let at = bytes.length - 2; at > 2; at--) {
    if (bytes[at] === 0xff && bytes[at + 1] === 0xd9) return true;
    if (bytes[at] === 0xff && bytes[at + 1] === 0xda) return false;
  }
  return false;
}

const CRC_TABLE = Uint32Array.from({length: 256}, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/* Size, depth and number of frames of a PNG; a chunk whose sum is wrong is refused. What stands
 * behind its end is not looked at. */
function pngFacts(bytes) {
  const found = {frames: 1, whole: false};
  for (let at = 8; !found.whole && at + 12 <= bytes.length;) {
    const length = big(bytes, at, 4), name = text(bytes, at + 4, at + 8), body = at + 8;
    if (body + length + 4 > bytes.length) throw CUT();
    const sum = crc32(bytes.subarray(at + 4, body + length));
    if (/^[A-Z]/.test(name) && sum !== big(bytes, body + length, 4)) {
      throw DAMAGED(`the sum of its part ${name} is wrong`);
    }
    if (name === 'IHDR') {
      found.width = big(bytes, body, 4);
      found.height = big(bytes, body + 4, 4);
      const deep = bytes[body + 8] === 16, colours = bytes[body + 9];
      found.deep = deep && colours === 0;
      if (deep) found.deepMode = colours === 2 ? 'RGB' : 'RGBA';
    }
    if (name === 'acTL') found.frames = big(bytes, body, 4);
    if (name === 'IEND') found.whole = true;
    at = body + length + 4;
  }
  if (!found.width) throw DAMAGED('its header cannot be read');
  return found;
}

/* Bytes behind a GIF's table of blocks. */
function afterBlocks(bytes, at) {
  while (at < bytes.length && bytes[at]) at += bytes[at] + 1;
  return at + 1;
}

/* Size and number of pictures of a GIF. */
function gifFacts(bytes) {
  const tableBytes = flags => (flags & 128 ? 3*2**((flags & 7) + 1) : 0);
  const found = {width: little(bytes, 6, 2), height: little(bytes, 8, 2), frames: 0, whole: true};
  let at = 13 + tableBytes(bytes[10]);
  while (at < bytes.length && bytes[at] !== 0x3b) {
    if (bytes[at] === 0x21) at = afterBlocks(bytes, at + 2);
    else if (bytes[at] === 0x2c) {
      found.frames += 1;
      at = afterBlocks(bytes, at + 11 + tableBytes(bytes[at + 9]));
    } else break;
  }
  return found;
}

/* Size and number of pictures of a WebP, where its header tells. */
function webpFacts(bytes) {
  const found = {frames: 1, whole: little(bytes, 4, 4) + 8 <= bytes.length};
  if (text(bytes, 12, 16) !== 'VP8X') return found;
  let frames = 0;
  for (let at = 30; at + 8 <= bytes.length; at += 8 + little(bytes, at + 4, 4) + little(bytes, at + 4, 4)%2) {
    if (text(bytes, at, at + 4) === 'ANMF') frames += 1;
  }
  const size = {width: 1 + little(bytes, 24, 3), height: 1 + little(bytes, 27, 3)};
  return {...found, ...size, frames: Math.max(1, frames)};
}

/* Size of a BMP. */
function bmpFacts(bytes) {
  const old = little(bytes, 14, 4) === 12, n = old ? 2 : 4;
  const size = {width: little(bytes, 18, n), height: Math.abs(little(bytes, 18 + n, n) | 0)};
  return {...size, frames: 1, whole: true};
}

const HEADERS = {JPEG: jpegFacts, PNG: pngFacts, GIF: gifFacts, WEBP: webpFacts, BMP: bmpFacts};

/* `images._check_size` */
function checkSize({width, height}, {max_pixels: maxPixels, min_side: minSide}) {
  if (width*height > maxPixels) {
    throw new ImageError(`it claims to hold ${width} x ${height} pixels; the limit is `
      + `${maxPixels/1e6} megapixels, save it smaller`);
  }
  if (Math.min(width, height) < minSide) {
    throw new ImageError(`it has only ${width} x ${height} pixels; at least ${minSide} `
      + 'on the shorter side are needed');
  }
}

/* What can be said of a file before a pixel is unpacked. `ImageError` where that is reason enough. */
export function inspect(bytes, facts) {
  const megabytes = n => Math.round(n/2**20);
  if (!bytes.length) throw new ImageError('the file is empty (0 bytes); copy or download it again');
  if (bytes.length > facts.max_bytes) {
    throw new ImageError(`it has ${megabytes(bytes.length)} MB; the limit is `
      + `${megabytes(facts.max_bytes)} MB, save it smaller`);
  }
  const kind = kindOf(bytes);
  if (!kind) throw new ImageError(whatIsIt(bytes.subarray(0, 4096), facts));
  if (!HEADERS[kind]) {
    throw new ImageError(`it is a ${kind} image, which browsers do not read; save it as JPEG or PNG, `
      + 'or use melanoma_predict');
  }
  const found = {kind, ...HEADERS[kind](bytes)};
  if (found.width) checkSize(found, facts);
  if (!found.whole) throw CUT();
  if (found.channels === 4) {
    throw new ImageError('its colours are those of print (CMYK), which browsers turn into others '
      + 'than Python; save it in RGB');
  }
  if (found.deep) throw new ImageError('it is grey with 16 bits a pixel, which browsers cut; save it with 8');
  return found;
}

/* A canvas that stays in memory, so that its pixels are read as they were drawn. */
function canvasOf(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  return canvas.getContext('2d', {willReadFrequently: true, colorSpace: 'srgb'});
}

/* Lay pixels on white, as Pillow does; whether any was transparent. */
function onWhite(data) {
  let clear = false;
  for (let i = 3; i < data.length; i += 4) {
    const alpha = data[i];
    if (alpha === 255) continue;
    clear = true;
    for (let j = i - 3; j < i; j++) data[j] = Math.round((data[j]*alpha + 255*(255 - alpha))/255);
  }
  return clear;
}

/* A decoded bitmap as a picture; bands are drawn one at a time, so that it is never held twice. */
function bitmapPicture(bitmap) {
  const {width, height} = bitmap, seen = {transparent: false};
  const band = (left, top, columns, rows) => {
    const context = canvasOf(columns, rows);
    context.drawImage(bitmap, left, top, columns, rows, 0, 0, columns, rows);
    const {data} = context.getImageData(0, 0, columns, rows);
    if (onWhite(data)) seen.transparent = true;
    context.canvas.width = 0;
    return {data, channels: 4, rows, columns};
  };
  return {width, height, band, seen, close: () => bitmap.close()};
}

/* Why a browser unpacks no picture: too little memory is not the file's fault. */
function notDecoded(error, {width, height}) {
  const large = width*height > 16e6;
  if (error instanceof RangeError || (large && error.name !== 'InvalidStateError')) {
    return new ImageError('there is not enough memory to unpack it; save it smaller');
  }
  return DAMAGED(`the browser says: ${String(error.message).slice(0, 80)}`);
}

/* `images.read_image`: [picture turned upright, remarks]; `ImageError` says why not. */
export async function readImage(bytes, facts) {
  const found = inspect(bytes, facts), remarks = [];
  if (found.frames > 1) remarks.push(`the file holds ${found.frames} pictures; the first was read`);
  const options = {imageOrientation: 'from-image', colorSpaceConversion: 'none'};
  let bitmap;
  try { bitmap = await createImageBitmap(new Blob([bytes]), options); }
  catch (error) { throw notDecoded(error, found); }
  const image = bitmapPicture(bitmap);
  try {
    checkSize(image, facts);
    const content = contentRemarks(image, facts.small_side);
    if (found.deepMode) remarks.push(`deep pixels (${found.deepMode}) were scaled from 0-65535 to 8 bits`);
    if (image.seen.transparent) remarks.push('transparent parts were read as white');
    return [image, [...remarks, ...content]];
  } catch (error) {
    image.close();
    throw error;
  }
}

/* A browser that alters what it draws, to hide who it is, would alter the answers, too. */
export function checkCanvas() {
  const context = canvasOf(16, 16), pixels = context.createImageData(16, 16);
  pixels.data.forEach((_, i) => { pixels.data[i] = i%4 === 3 ? 255 : (i*37)%256; });
  context.putImageData(pixels, 0, 0);
  const back = context.getImageData(0, 0, 16, 16).data;
  if (back.every((value, i) => value === pixels.data[i])) return;
  throw new ArtefactError('this browser alters the pixels that a page reads (protection against '
    + 'fingerprinting), so no answer is given; allow this page to read canvas data, or use another browser');
}

// ---- inference

const isNumber = value => typeof value === 'number' && Math.abs(value) < 1e30;
const areThreeNumbers = values => Array.isArray(values) && values.length === 3 && values.every(isNumber);
const CROPS = ['centre', 'inner', 'squash'];
const CARD_FIELDS = ['name', 'size', 'mean', 'std', 'classes', 'calibration', 'sha256'];

/* `inference._refusal_fault`: what is wrong with the limits of a card, or null. */
function refusalFault(limits, advice) {
  const isTable = value => typeof value === 'object' && !Array.isArray(value), shown = JSON.stringify;
  if (!isTable(limits)) return `ood is ${shown(limits)}, not limits by name`;
  for (const name of ['limit', 'structure']) {
    if ((limits[name] ?? null) !== null && !isNumber(limits[name])) {
      return `ood.${name} is ${shown(limits[name])}, not a number`;
    }
  }
  const quality = limits.quality || {};
  if (!isTable(quality) || !Object.keys(quality).every(name => Object.hasOwn(advice, name))) {
    return `ood.quality is ${shown(quality)}, not limits of ${Object.keys(advice).join(', ')}`;
  }
  const areLimits = pair => Array.isArray(pair) && pair.length === 2 && pair.every(one => one === null || isNumber(one));
  const wrong = Object.entries(quality).find(([, pair]) => !areLimits(pair));
  return wrong ? `ood.quality: ${wrong[0]} is ${shown(wrong[1])}, not two limits` : null;
}

/* `inference._card_fault`: what is wrong with a card, or null. */
export function cardFault(card, facts) {
  if ((card.format ?? 1) !== 1) return `its format is ${card.format}, and this release reads format 1`;
  const missing = CARD_FIELDS.filter(field => !(field in card));
  if (missing.length) return `missing ${missing.join(', ')}`;
  const {size, classes} = card;
  if (!(Number.isInteger(size) && size >= 16 && size <= 2048)) return `size is ${size}, not 16 to 2048 pixels`;
  if ('crop' in card && !CROPS.includes(card.crop)) return `crop is ${JSON.stringify(card.crop)}, not ${CROPS.join(' or ')}`;
  if (!(areThreeNumbers(card.mean) && areThreeNumbers(card.std) && Math.min(...card.std) > 0)) {
    return 'mean and std are not three numbers each';
  }
  const known = Array.isArray(classes) && classes.every(name => typeof name === 'string' && Object.hasOwn(facts.dx, name));
  if (!known || !classes.includes('MEL') || new Set(classes).size !== classes.length) {
    return `classes are ${JSON.stringify(classes)}, not diagnoses with MEL among them`;
  }
  const temperature = card.calibration?.temperature;
  if (!(isNumber(temperature) && temperature >= .01 && temperature <= 100)) {
    return `calibration temperature is ${temperature}, not a positive number`;
  }
  const views = card.symmetries ?? 8;
  if (!(Number.isInteger(views) && views >= 1 && views <= 8)) return `symmetries is ${views}, not a number from 1 to 8`;
  return refusalFault(card.ood || {}, facts.refusal.advice) ?? seenFault(card);
}

/* SHA-256 of bytes, by the browser's own cryptography. */
export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) {
    throw new ArtefactError('the model cannot be checked, because this browser offers its cryptography '
      + 'only to pages from https:// or from this machine (localhost); open the page from there');
  }
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, byte => byte.toString(16).padStart(2, '0')).join('');
}

/* `core.softmax` */
export function softmax(logits) {
  const both = logits.length === 1 ? [0, logits[0]] : Array.from(logits);
  const most = Math.max(...both), shifted = both.map(logit => Math.exp(logit - most));
  const sum = shifted.reduce((a, b) => a + b, 0);
  return shifted.map(value => value/sum);
}

/* `inference._probabilities` for one image */
export function probabilities(logits, temperature = 1) {
  const all = softmax(Array.from(logits, logit => logit/temperature));
  return logits.length > 1 ? all : all.slice(1);
}

/* `inference.melanoma_map`: what each spot adds to the log-odds of melanoma. */
export function melanomaMap(maps, probs, melanoma) {
  if (maps.length === 1) return Float64Array.from(maps[0]);
  const rest = probs.reduce((sum, p, i) => (i === melanoma ? sum : sum + p), 0);
  const share = i => (rest > 0 ? probs[i]/rest : 1/(probs.length - 1));
  return Float64Array.from(maps[melanoma], (value, spot) => maps.reduce(
    (sum, map, i) => (i === melanoma ? sum : sum - share(i)*map[spot]), value));
}

/* `evidence.decisions.conformal_sets` and `set_words` for one score. */
export function conformalWord(p, limits) {
  if (!limits) return null;
  const benign = p <= (limits.benign ?? Infinity), melanoma = p >= (limits.melanoma ?? -Infinity);
  if (benign && melanoma) return 'not sure';
  return melanoma ? 'melanoma' : benign ? 'benign' : 'not sure';
}

/* Whether a score lies at or above each of the card's operating points. */
export function decisions(p, card) {
  const points = (card.operating_points ?? []).filter(point => isNumber(point.threshold));
  return points.map(point => ({...point, called: p >= point.threshold}));
}

/* `inference._symmetry`: the k-th symmetry of square planes; quarter turns, mirrored first from 4 on. */
export function symmetry(planes, side, k) {
  const result = new planes.constructor(planes.length), {start, down, right} = walk(side, k);
  let to = 0;
  for (let plane = 0; plane < planes.length; plane += side*side) {
    for (let y = 0; y < side; y++) {
      let from = plane + start + y*down;
      for (let x = 0; x < side; x++, from += right) result[to++] = planes[from];
    }
  }
  return result;
}

/* How the k-th symmetry walks over a square plane: where it starts, and how far apart what comes to
 * lie under and beside each other was. Mirrored, a row is read from its other end. */
function walk(side, k) {
  const last = side - 1, mirrored = k >= 4, along = mirrored ? -1 : 1;
  const [left, right] = mirrored ? [last, 0] : [0, last], bottom = last*side;
  return [{start: left, down: side, right: along},
    {start: right, down: -along, right: side},
    {start: bottom + right, down: -side, right: -along},
    {start: bottom + left, down: along, right: -side}][k%4];
}

/* `inference._symmetry_undone`: a mirrored turn undoes itself, a plain one is turned back. */
export const undone = (planes, side, k) => symmetry(planes, side, k >= 4 ? k : (4 - k)%4);

// ---- seen: is it one of the training images

const GRID = 18, BITS = (GRID - 2)**2, RECORD = BITS/8;

/* `images.grey_levels` of RGB bytes. */
function greyLevels(data) {
  const grey = new Int32Array(data.length/3);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (data[3*i]*19595 + data[3*i + 1]*38470 + data[3*i + 2]*7471 + 0x8000) >> 16;
  }
  return grey;
}

/* `seen._block_means` of a square of grey levels. */
function blockMeans(grey, side) {
  const edges = Array.from({length: GRID + 1}, (_, i) => Math.floor(i*side/GRID)), means = [];
  for (let row = 0; row < GRID; row++) {
    for (let column = 0; column < GRID; column++) {
      let sum = 0;
      for (let y = edges[row]; y < edges[row + 1]; y++) {
        for (let x = edges[column]; x < edges[column + 1]; x++) sum += grey[y*side + x];
      }
      means.push(Math.floor(256*sum/((edges[row + 1] - edges[row])*(edges[column + 1] - edges[column]))));
    }
  }
  return means;
}

/* `seen._bits`: the fingerprint of a square of grey levels. */
function fingerprintOf(grey, side) {
  const means = blockMeans(grey, side), bytes = new Uint8Array(RECORD);
  for (let bit = 0; bit < BITS; bit++) {
    const at = (1 + Math.floor(bit/(GRID - 2)))*GRID + 1 + bit%(GRID - 2);
    const around = means[at - GRID] + means[at + GRID] + means[at - 1] + means[at + 1];
    if (4*means[at] > around) bytes[bit >> 3] |= 0x80 >> (bit & 7);
  }
  return bytes;
}

/* `seen.fingerprints`: of the RGB bytes of a square, held in all eight ways. */
export function fingerprints({data, width}) {
  const grey = greyLevels(data);
  return Array.from({length: 8}, (_, k) => fingerprintOf(symmetry(grey, width, k), width));
}

/* How many bits of a 32-bit number are set. */
function bitsSet(number) {
  let n = number - ((number >>> 1) & 0x55555555);
  n = (n & 0x33333333) + ((n >>> 2) & 0x33333333);
  return Math.imul((n + (n >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/* `seen.seen_distance`; `known` as `readSeen` gives it. */
export function seenDistance(known, ways) {
  const words = RECORD/4;
  let least = BITS;
  for (const way of ways) {
    const asked = new Uint32Array(way.slice().buffer);
    for (let at = 0; at < known.length; at += words) {
      let apart = 0;
      for (let i = 0; i < words && apart < least; i++) apart += bitsSet(known[at + i] ^ asked[i]);
      least = Math.min(least, apart);
    }
  }
  return least;
}

/* `seen.seen_fault`: what is wrong with what a card says of `seen.bin`, or null. */
function seenFault({size, seen = null}) {
  if (seen === null) return null;
  if (typeof seen !== 'object' || Array.isArray(seen)) return `seen is ${JSON.stringify(seen)}, not facts by name`;
  const wrong = ['n', 'bits', 'limit'].find(name => !(Number.isInteger(seen[name]) && seen[name] >= 0));
  if (wrong) return `seen.${wrong} is ${JSON.stringify(seen[wrong])}, not a whole number`;
  if (seen.bits !== BITS) return `seen.bits is ${seen.bits}, and this release reads ${BITS}`;
  if (seen.limit >= BITS) return `seen.limit is ${seen.limit}, not below ${BITS}`;
  if (size < GRID) return `seen is for squares of ${GRID} pixels and more`;
  return typeof seen.sha256 === 'string' ? null : 'seen.sha256 is missing';
}

/* `seen.read_seen`: the fingerprints of the training images as 32-bit words; null where the card
 * names no file. `ArtefactError` for one that is missing or was changed. */
async function readSeen({seen = null}, content) {
  if (seen === null) return null;
  const restore = 'restore both from where they came';
  if (!content) throw new ArtefactError(`seen.bin is missing, and card.json names it; ${restore}`);
  const found = await sha256(content);
  if (found !== seen.sha256) {
    throw new ArtefactError(`seen.bin has the hash ${found.slice(0, 12)}... and the card says `
      + `${seen.sha256.slice(0, 12)}...; one of the two was changed or damaged, so no answer is given: ${restore}`);
  }
  if (content.length !== seen.n*RECORD) {
    throw new ArtefactError(`seen.bin has ${content.length} bytes, not ${RECORD} for each of the ${seen.n} images `
      + `that card.json names; ${restore}`);
  }
  return new Uint32Array(content.slice().buffer);
}

// ---- refusal

/* `images.picture_quality` of the RGB bytes of a square. */
export function pictureQuality({data, width, height}) {
  const n = width*height, grey = greyLevels(data), sums = [0, 0, 0];
  for (let i = 0; i < n; i++) {
    for (let c = 0; c < 3; c++) sums[c] += data[3*i + c];
  }
  const light = grey.reduce((a, b) => a + b, 0)/n;
  const structure = Math.sqrt(grey.reduce((sum, value) => sum + (value - light)**2, 0)/n);
  let bends = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const i = y*width + x;
      bends += Math.abs(4*grey[i] - grey[i - width] - grey[i + width] - grey[i - 1] - grey[i + 1]);
    }
  }
  const mean = Math.max((sums[0] + sums[1] + sums[2])/(3*n), 1);
  return {light, structure, sharpness: bends/((width - 2)*(height - 2)), cast: (sums[0] - sums[2])/n/mean};
}

/* `inference._quality`: the same for a picture and its transpose. */
function meanQuality(first, second) {
  return Object.fromEntries(Object.entries(first).map(([name, value]) => [name, (value + second[name])/2]));
}

/* `refusal.refusal_reason`: why a picture gets no answer, or null. */
export function refusalReason(card, words, distance, structure = null) {
  const {limit = null, structure: least = null} = card.ood ?? {};
  if (structure !== null && least !== null && structure < least) return words.flat;
  if (distance === null || limit === null) return null;
  return distance <= limit ? null : words.far;
}

/* `refusal.quality_remarks` */
export function qualityRemarks(card, words, quality) {
  const remarks = [];
  for (const [name, [low, high]] of Object.entries(card.ood?.quality ?? {})) {
    const [below, above] = words.advice[name];
    if (low !== null && quality[name] < low) remarks.push(below);
    if (high !== null && quality[name] > high) remarks.push(above);
  }
  return remarks.filter(remark => remark !== null);
}

const NOTHING = {p_melanoma: null, probs: {}, logits: {}, cam: null, decisions: [], conformal: null};

/* `inference._answer` */
export function answerOf(card, logits, maps) {
  const {classes} = card, melanoma = classes.indexOf('MEL');
  const probs = probabilities(logits, card.calibration.temperature);
  const byClass = values => Object.fromEntries(classes.map((name, i) => [name, values[i]]));
  const p = probs[melanoma];
  return {p_melanoma: p, probs: byClass(probs), logits: byClass(Array.from(logits)),
    cam: melanomaMap(maps, probs, melanoma), decisions: decisions(p, card),
    conformal: conformalWord(p, card.conformal)};
}

/* Mean logits, distance and maps, one for each class, of the outputs for several views. */
function meanOutputs(outputs, classes) {
  const mean = values => values.reduce((sum, value) => sum + value/outputs.length, 0);
  const [first] = outputs, over = name => Float64Array.from(
    first[name], (_, i) => mean(outputs.map(output => output[name][i])));
  const maps = over('maps'), spots = maps.length/classes;
  return {logits: over('logits'), distance: first.distance === null ? null : mean(outputs.map(output => output.distance)),
    maps: Array.from({length: classes}, (_, i) => maps.subarray(i*spots, (i + 1)*spots))};
}

const NO_ROOM = 'this device has too little free memory for the model; close other tabs and reload the page';

/* `inference.Predictor`: a model that is ready to answer. */
export class Predictor {
  constructor(card, session, ort, facts, known) { Object.assign(this, {card, session, ort, facts, known}); }

  /* The model in bytes, and those of `seen.bin` where the card names it; `ArtefactError` where they
   * and the card disagree. */
  static async load(model, card, ort, facts, seen = null) {
    const fault = cardFault(card, facts);
    if (fault) throw new ArtefactError(`card.json: ${fault}; export the model again with melanoma_export`);
    const found = await sha256(model), expected = String(card.sha256);
    if (found !== expected) {
      throw new ArtefactError(`model.onnx has the hash ${found.slice(0, 12)}... and its card says `
        + `${expected.slice(0, 12)}...; one of the two was changed or damaged, so no answer is given: `
        + 'restore both from where they came');
    }
    const known = await readSeen(card, seen);
    const options = {executionProviders: ['wasm'], graphOptimizationLevel: 'all'};
    let session;
    try { session = await ort.InferenceSession.create(new Uint8Array(model), options); }
    catch (error) {
      if (error instanceof RangeError) throw new ArtefactError(NO_ROOM);
      throw new ArtefactError(`onnxruntime cannot open model.onnx (${String(error.message).slice(0, 120)}); `
        + 'export the model again');
    }
    if ((card.ood?.limit ?? null) !== null && !session.outputNames.includes('distance')) {
      throw new ArtefactError('card.json has a limit of refusal, and model.onnx gives no distance; '
        + 'restore both from where they came');
    }
    return new Predictor(card, session, ort, facts, known);
  }

  /* Answer to a picture that was read already, or why it gets none. `share`: see `overViews`. */
  async run(image, remarks = [], share = null) {
    const {size, crop = 'centre', mean, std} = this.card;
    const both = [false, true].map(lying => square(image, size, crop, this.facts.inner, lying));
    const quality = meanQuality(...both.map(pictureQuality)), words = this.facts.refusal;
    const trainedOn = this.wasTrainedOn(both[0]);
    const warnings = [...(trainedOn ? [words.seen] : []), ...remarks, ...qualityRemarks(this.card, words, quality)];
    const facts = {width: image.width, height: image.height, warnings, error: null, trained_on: trainedOn};
    const flat = refusalReason(this.card, words, null, quality.structure);
    if (flat) return {...NOTHING, ...facts, error: flat};
    const {logits, maps, distance} = await this.overViews(
      both.map(one => toInput(one, mean, std)), share);
    const far = refusalReason(this.card, words, distance);
    return far ? {...NOTHING, ...facts, error: far} : {...answerOf(this.card, logits, maps), ...facts};
  }

  /* `seen.was_trained_on`; null: the model brings no fingerprints. */
  wasTrainedOn(pixels) {
    if (!this.known) return null;
    return seenDistance(this.known, fingerprints(pixels)) <= this.card.seen.limit;
  }

  /* `inference._over_views`: mean logits, maps and distance (null: none given) over the first
   * symmetries. `share(inputs, views)`, where given, may have the second half of them worked out
   * elsewhere: it promises what `outputsOf` would give, or null. */
  async overViews(inputs, share = null) {
    const n = this.card.symmetries ?? this.facts.views, views = Array.from({length: n}, (_, k) => k);
    const own = share ? views.slice(0, Math.ceil(n/2)) : views, others = views.slice(own.length);
    const promised = share?.(inputs, others);
    const first = await this.outputsOf(inputs, own);
    const second = await promised ?? await this.outputsOf(inputs, others);
    return meanOutputs([...first, ...second], this.card.classes.length);
  }

  /* Logits, maps turned back, and distance of each of some symmetries. */
  async outputsOf(inputs, views) {
    const found = [];
    for (const k of views) {
      const given = await this.outputs(symmetry(inputs[k%2], this.card.size, k));
      found.push({...given, maps: undone(given.maps, this.mapSize[1], k)});
    }
    return found;
  }

  /* The network's outputs for one input. */
  async outputs(input) {
    const {size} = this.card;
    const tensor = new this.ort.Tensor('float32', input, [1, 3, size, size]);
    const asked = ['logits', 'cam', 'distance'].filter(name => this.session.outputNames.includes(name));
    const given = await this.session.run({image: tensor}, asked);
    this.mapSize = given.cam.dims.slice(-2);
    const outputs = {logits: given.logits.data.slice(), maps: given.cam.data.slice(),
      distance: given.distance ? given.distance.data[0] : null};
    for (const output of Object.values(given)) output.dispose();
    tensor.dispose();
    return outputs;
  }

  /* Answer to the bytes of a file. `ImageError` says why there is none. */
  async predict(bytes) {
    const [image, remarks] = await readImage(bytes, this.facts);
    try { return await this.run(image, remarks); } finally { image.close(); }
  }
}

// ---- the map on the picture

const WARM = [226, 74, 28], COLD = [38, 110, 190];

/* `app.overlay`: the picture, paled, under its map; RGB bytes. */
export function overlay({data, width, height}, map, [rows, columns], floor = 4) {
  const most = Math.max(floor, ...Array.from(map, Math.abs));
  const spread = resizeFloats(Float32Array.from(map), columns, rows, width, height);
  const result = new Uint8Array(data.length);
  for (let i = 0; i < spread.length; i++) {
    const at = 3*i, strength = Math.max(-1, Math.min(1, spread[i]/most));
    const luma = (data[at]*19595 + data[at + 1]*38470 + data[at + 2]*7471 + 0x8000) >> 16;
    const grey = luma*.75 + 50, alpha = .78*Math.abs(strength)**.8, ink = strength > 0 ? WARM : COLD;
    for (let c = 0; c < 3; c++) {
      result[at + c] = Math.trunc(Math.max(0, Math.min(255, grey*(1 - alpha) + ink[c]*alpha)));
    }
  }
  return {width, height, data: result};
}
