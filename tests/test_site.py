"The page as static files: the answers are Python's, and nothing leaves the page's origin."
import base64
import csv
import functools
import hashlib
import importlib
import io
import json
import math
import re
import shutil
import struct
import threading
import zlib
from html import unescape
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import hostile
import numpy as np
import pytest
import test_app
import test_hostile
from conftest import KEPT, ROOT, until
from PIL import Image, ImageEnhance, ImageFilter
from test_app import dark, files, learnt  # noqa: F401 (fixtures)
from test_texts import all_sentences

from melanoma_nbdev.bedside.answer import Lesion, card_html, provenance, share_from
from melanoma_nbdev.bedside.risk import cohorts, operating_points, published
from melanoma_nbdev.bedside.uploads import examples
from melanoma_nbdev.bedside.inference import _card_fault, load_artefact
from melanoma_nbdev.report.seen import TRAINED_ON, fingerprints
from melanoma_nbdev.bedside.site import write_site
from melanoma_nbdev.bedside.texts import LANGUAGES, reason
from melanoma_nbdev.core import ImageError, MelanomaError, write_card
from melanoma_nbdev.evidence.decisions import conformal_sets, set_words
from melanoma_nbdev.images import MIN_SIDE, read_image, square

PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
PAGE = ROOT/'melanoma_nbdev/bedside/page'
READY = '.mel-btn.primary'
ENGINE = (ROOT/'scripts'/'site_probe.js').read_text()


# ---- serving

class Quiet(SimpleHTTPRequestHandler):
    "A plain file server, as `python -m http.server` is one. It knows what was asked, and may fail."
    def log_message(self, *_): pass

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.server.gone: self.close_connection = True
        else: super().do_GET()


class Files:
    "A folder at an address of this machine, under a prefix as a project's page has one."
    def __init__(self, folder, prefix='melanoma/'):
        self.root = folder
        handler = functools.partial(Quiet, directory=folder)
        self.server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
        self.server.asked, self.server.gone, self.prefix = [], False, prefix
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.origin = f'http://127.0.0.1:{self.server.server_port}'
        self.url = f'{self.origin}/{prefix}'

    def asked(self):
        "The files that were asked of the server since the last call."
        found = {path.removeprefix(f'/{self.prefix}') for path in self.server.asked}
        self.server.asked.clear()
        return found

    def lose(self, gone=True):
        "From now on hang up on who asks; or do so no more."
        self.server.gone = gone

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope='session')
def hosted(site):
    "The static page at an address."
    host = Files(site.parent)
    yield host
    host.stop()


@pytest.fixture
def visit(browser, hosted):
    "Opens the static page; at the end no request has left its origin, and no script has failed."
    opened = []

    def _visit(url=None, width=1280, height=800, first='', **options):
        options = dict(viewport=dict(width=width, height=height)) | options
        context = browser.new_context(**options)
        context.add_init_script(first)
        page = context.new_page()
        page.requests, page.errors = [], []
        context.on('request', lambda request: page.requests.append(request.url))
        page.on('pageerror', lambda error: page.errors.append(str(error)))
        page.set_default_timeout(60_000)
        page.goto(url or hosted.url)
        opened.append(page)
        return page

    yield _visit
    for page in opened:
        origin = re.match(r'https?://[^/]+', page.url).group()
        allowed = (origin, f'blob:{origin}', 'data:')
        away = [url for url in page.requests if not url.startswith(allowed)]
        assert not away and not page.errors, (away, page.errors)
        page.context.close()


@pytest.fixture(scope='module')
def engine(browser, hosted):
    "A page in which `fromPixels` and `fromFile` answer."
    page = browser.new_page()
    page.goto(hosted.url)
    page.evaluate(ENGINE)
    yield page
    page.close()


@pytest.fixture(scope='module')
def predictor():
    return load_artefact()


def as_text(data):
    return base64.b64encode(data).decode()


def ranking(answer):
    "Diagnoses, the most probable first."
    return sorted(answer['probs'], key=lambda name: -answer['probs'][name])


def same_answer(found, expected, card, tolerance, ordered=True):
    "The largest difference of a probability; the same decisions, conformal word and order."
    names = list(expected['probs'])
    differences = [abs(found['probs'][name] - expected['probs'][name]) for name in names]
    assert max(differences) < tolerance
    p = expected['p_melanoma']
    points = [point for point in card['operating_points'] if point['threshold'] is not None]
    assert found['called'] == [p >= point['threshold'] for point in points]
    assert not ordered or ranking(found) == ranking(expected)
    return max(differences)


# ---- the engine

RESIZE = """async cases => {
    const {resize, picture, FILTERS} = await import(new URL('engine.js', location).href);
    const noise = (seed, n) => Uint8Array.from({length: n}, (_, i) => {
        let x = Math.imul(i + seed, 0x9E3779B1);
        x = Math.imul(x ^ (x >>> 15), 0x85EBCA77);
        return x >>> 24;
    });
    const {sha256} = await import(new URL('engine.js', location).href);
    const found = [];
    for (const {seed, size, box: [left, top, right, bottom], out, filter} of cases) {
        const [width, height] = size;
        const image = picture(noise(seed, width*height*3), width, height);
        const box = {left, top, width: right - left, height: bottom - top};
        found.push(await sha256(resize(image, box, ...out, FILTERS[filter]).data));
    }
    return found;
}"""


def noise(seed, width, height):
    "The pixels that the browser draws from a seed."
    x = (np.arange(width*height*3, dtype=np.uint32) + np.uint32(seed))*np.uint32(0x9E3779B1)
    x = (x ^ (x >> np.uint32(15)))*np.uint32(0x85EBCA77)
    return Image.fromarray((x >> np.uint32(24)).astype(np.uint8).reshape(height, width, 3))


def resize_cases(n):
    """Random sizes, boxes and results, some of them stretched, some far from square; every other
    box begins or ends at half a pixel."""
    random = np.random.default_rng(16)
    for seed in range(n):
        width, height = (int(side) for side in np.exp(random.uniform(3.5, 6.7, 2)))
        left, top = int(random.integers(width//2)), int(random.integers(height//2))
        right, bottom = (int(random.integers(width//2, width)) + 1,
                         int(random.integers(height//2, height)) + 1)
        out = [int(side) for side in random.integers(8, 400, 2)]
        halves = random.integers(0, 2, 4)/2*(seed // 2 % 2)
        box = (np.array([left, top, right, bottom]) + halves*[1, 1, -1, -1]).tolist()
        if min(box[2] - box[0], box[3] - box[1]) < 1: box = [left, top, right, bottom]
        yield dict(seed=seed, size=[width, height], box=box, out=out,
                   filter=('BILINEAR', 'BILINEAR', 'BOX', 'BICUBIC')[seed % 4])


def resized_part(image, box, out, filtering):
    "The whole pixels that the box touches, cut out and resized by Pillow."
    left, top, right, bottom = box
    from_left, from_top = math.floor(left), math.floor(top)
    part = image.crop((from_left, from_top, math.ceil(right), math.ceil(bottom)))
    inside = left - from_left, top - from_top, right - from_left, bottom - from_top
    return part.resize(out, filtering, box=inside)


def test_resize_is_pillows(browser):
    "Over 200 random sizes, half of them with halves of pixels, the resized bytes are Pillow's."
    host = Files(PAGE, '')
    page = browser.new_page()
    page.goto(f'{host.url}page.css')
    cases = list(resize_cases(200))
    found = page.evaluate(RESIZE, cases)
    page.close()
    host.stop()
    for case, digest in zip(cases, found, strict=True):
        filtering = getattr(Image.Resampling, case['filter'])
        image = noise(case['seed'], *case['size'])
        resized = resized_part(image, case['box'], case['out'], filtering)
        assert hashlib.sha256(resized.tobytes()).hexdigest() == digest, case


def pixels_of(image):
    return dict(data=as_text(image.tobytes()), width=image.width, height=image.height)


def test_equal_pixels_equal_answers(engine, predictor):
    "From the same pixels the probabilities differ by less than 0.0001, and nothing else does."
    for path in PHANTOMS[:40]:
        image, remarks = read_image(path)
        expected = predictor.run([(image, remarks)])[0]
        found = engine.evaluate('pixels => fromPixels(pixels)', pixels_of(image))
        same_answer(found, expected, predictor.card, 1e-4)
        assert np.abs(np.ravel(expected['cam']) - found['cam']).max() < 1e-3


@pytest.mark.parametrize('side', [18, 31, 160, 224])
def test_fingerprints_are_pythons(engine, side):
    "From the same pixels every bit of a picture's eight fingerprints is Python's."
    photos = [square(read_image(path)[0], side) for path in PHANTOMS[:6]]
    for image in [*photos, noise(side, side, side), Image.new('RGB', (side, side), 'brown')]:
        found = engine.evaluate('pixels => fingerprintsOf(pixels)', pixels_of(image))
        expected = fingerprints(np.asarray(image)).tolist()
        assert sorted(found) == sorted(expected) and found[0] == expected[0]


def test_training_images_are_recognised(engine, predictor, learnt):  # noqa: F811
    "A picture that the model was trained on, turned too, and others: as in Python."
    known, other = read_image(learnt)[0], read_image(PHANTOMS[0])[0]
    turns = [known.transpose(way) for way in Image.Transpose]
    pictures = [known, *turns, other, Image.new('RGB', (90, 90), 'brown')]
    expected = [one['trained_on'] for one in predictor.predict(pictures)]
    found = [engine.evaluate('pixels => fromPixels(pixels)', pixels_of(one)) for one in pictures]
    assert [one['trained_on'] for one in found] == expected == [True]*8 + [False]*2
    remarks = [TRAINED_ON in one['warnings'] for one in found]
    assert remarks == expected


def test_files_of_the_examples(engine, predictor):
    "From the files themselves, decoded by the browser, the answers are as close."
    for path in PHANTOMS[:40]:
        expected = predictor.predict(path)
        found = engine.evaluate('data => fromFile(data)', as_text(path.read_bytes()))
        same_answer(found, expected, predictor.card, 5e-3)
        assert found['warnings'] == expected['warnings']


def encoded(image, kind, **options):
    "The bytes of a picture as a file."
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def deep_png(image):
    "A picture in colour as a PNG with 16 bits a channel; the lower eight are noise."
    pixels = np.asarray(image, np.uint16)*256
    pixels += np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint16)
    kind = {'RGB': 2, 'RGBA': 6}[image.mode]
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in pixels)
    parts = ((b'IHDR', struct.pack('>IIBBBBB', *image.size, 16, kind, 0, 0, 0)),
             (b'IDAT', zlib.compress(rows)), (b'IEND', b''))
    file = b'\x89PNG\r\n\x1a\n'
    for name, body in parts:
        file += struct.pack('>I', len(body)) + name + body
        file += struct.pack('>I', zlib.crc32(name + body))
    return file


def turned_files():
    "The same picture as several kinds of file; with orientation tags; with transparency."
    image = Image.open(PHANTOMS[3]).convert('RGB').resize((301, 207))
    for kind in ('PNG', 'BMP', 'GIF'): yield kind, encoded(image, kind)
    yield 'WEBP', encoded(image, 'WEBP', lossless=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f'turned {orientation}', encoded(image, 'JPEG', quality=95, exif=exif)
    yield 'bytes behind PNG', encoded(image, 'PNG') + b'PK\3\4' + bytes(range(256))
    yield 'grey', encoded(image.convert('L'), 'PNG')
    yield 'flat', encoded(Image.new('RGB', (80, 90), 'brown'), 'PNG')
    yield 'long', encoded(image.resize((900, 200)), 'PNG')
    clear = image.convert('RGBA')
    clear.putalpha(Image.linear_gradient('L').resize(image.size))
    yield 'transparent', encoded(clear, 'PNG')
    yield 'transparent WebP', encoded(clear, 'WEBP', lossless=True)
    yield '16 bits a colour', deep_png(image)
    yield 'transparent, 16 bits', deep_png(clear)
    two = [image, image.transpose(Image.Transpose.ROTATE_180)]
    yield 'two pictures', encoded(two[0], 'GIF', save_all=True, append_images=two[1:])


@pytest.mark.parametrize('name,data', list(turned_files()), ids=lambda value: str(value)[:20])
def test_kinds_of_file(engine, predictor, name, data):
    "Kinds of file, orientation and transparency: size, remarks and answer are those of Python."
    expected = predictor.predict(data)
    found = engine.evaluate('data => fromFile(data)', as_text(data))
    if expected['error']:
        assert (found['error'], found['kind']) == (expected['error'], 'refused')
        return
    assert 'error' not in found, found
    assert (found['width'], found['height']) == (expected['width'], expected['height'])
    assert found['warnings'] == expected['warnings']
    same_answer(found, expected, predictor.card, 1e-2, ordered=not name.startswith('transparent'))


def odd_pictures():
    "Pictures that are none of a lesion, or a poor one."
    lesion = Image.open(PHANTOMS[5]).convert('RGB')
    yield 'noise', noise(3, 210, 180)
    stripes = (np.indices((160, 190)).sum(0) % 16*15).astype(np.uint8)
    yield 'stripes', Image.fromarray(stripes).convert('RGB')
    yield 'flat', Image.new('RGB', (120, 150), (170, 120, 90))
    yield 'dark', ImageEnhance.Brightness(lesion).enhance(.2)
    yield 'blurred', lesion.filter(ImageFilter.GaussianBlur(6))
    warm = np.asarray(lesion)*np.array([1.2, .7, .4])
    yield 'red', Image.fromarray(warm.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize('name,picture', list(odd_pictures()), ids=lambda value: str(value)[:9])
def test_refusals_are_pythons(engine, predictor, name, picture):
    "What gets no answer, the sentence and the remarks are those of Python."
    expected = predictor.run([(picture, [])])[0]
    found = engine.evaluate('pixels => fromPixels(pixels)', pixels_of(picture))
    assert found.get('error') == expected['error']
    assert found['warnings'] == expected['warnings']
    if not expected['error']: same_answer(found, expected, predictor.card, 1e-4)


def refused_files():
    "Files that Python refuses, or whose colours a browser does not keep."
    photo, small = Image.open(PHANTOMS[0]).convert('RGB'), Image.new('RGB', (MIN_SIDE - 1, 90))
    yield 'empty', b''
    yield 'text', b'dear doctor'
    yield 'text in other letters', 'Schöne Grüße'.encode()
    yield 'markup', b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'
    yield 'page', b'<!doctype html><html></html>'
    yield 'HEIC', b'\0\0\0\x18ftypheic' + bytes(40)
    yield 'video', b'\0\0\0\x18ftypisom' + bytes(40)
    yield 'PDF', b'%PDF-1.7' + bytes(40)
    yield 'small', encoded(small, 'PNG')
    yield 'cut JPEG', PHANTOMS[0].read_bytes()[:-900]
    yield 'cut PNG', encoded(photo, 'PNG')[:-900]
    yield 'noise', np.random.default_rng(0).bytes(3000)


@pytest.mark.parametrize('name,data', list(refused_files()), ids=lambda value: str(value)[:20])
def test_refused_in_the_same_words(engine, predictor, name, data):
    "What Python refuses is refused, by the same sentence."
    with pytest.raises(ImageError) as error: predictor.predict(data)
    found = engine.evaluate('data => fromFile(data)', as_text(data))
    assert found == dict(error=str(error.value), kind='ImageError')


@pytest.mark.parametrize('kind,mode', [('TIFF', 'RGB'), ('PPM', 'RGB'), ('JPEG', 'CMYK'),
                                       ('PNG', 'I;16')])
def test_stricter_than_python(engine, kind, mode):
    "What a browser reads otherwise than Python, or not at all, is refused with what to do."
    image = Image.open(PHANTOMS[0]).convert('RGB')
    if mode == 'I;16': image = Image.fromarray(np.asarray(image.convert('L'), np.uint16)*257)
    else: image = image.convert(mode)
    found = engine.evaluate('data => fromFile(data)', as_text(encoded(image, kind)))
    assert found['kind'] == 'ImageError' and 'save it' in found['error']


SEEN = dict(n=1, bits=256, limit=9, sha256='')

FAULT = """async cards => {
    const {cardFault} = await import(new URL('engine.js', location).href);
    const facts = await (await fetch('facts.json')).json();
    return cards.map(card => cardFault(card, facts));
}"""


def test_cards_are_refused_as_in_python(engine, predictor):
    "A card that Python opens is opened, another one refused for the same field."
    wrong = [dict(crop='center'), dict(crop=None), dict(size=8), dict(calibration=[1]),
             dict(classes=['MEL', ['NV']]), dict(symmetries=9), dict(mean=[0, 0]), dict(ood=[1]),
             dict(ood=dict(limit='1')), dict(ood=dict(quality=dict(sharp=[0, 1]))),
             dict(ood=dict(quality=[1])), dict(ood=dict(quality=dict(light=[0]))), dict(seen=[1]),
             dict(seen=SEEN | dict(n='1')), dict(seen=SEEN | dict(bits=64)),
             dict(seen=SEEN | dict(limit=256)), dict(seen=SEEN | dict(sha256=None))]
    fine = [{}, dict(crop='inner'), dict(ood=None), dict(ood={}),
            dict(ood=dict(quality=dict(light=[None, 9]))), dict(seen=None), dict(seen=SEEN)]
    cards = [predictor.card | fields for fields in wrong + fine]
    found = engine.evaluate(FAULT, cards)
    for card, fault in zip(cards, found, strict=True):
        fields = [(said or '').split(' is ')[0].split(' are ')[0]
                  for said in (fault, _card_fault(card))]
        assert fields[0] == fields[1], fields
    assert all(found[:len(wrong)]) and not any(found[len(wrong):])


STRICTER = ['TIFF, then HTML', 'TIFF, then ZIP', 'flipped TIFF', 'noisy TIFF']
"Kinds of file that Python answers and the static page refuses: no browser reads TIFF"


def test_hostile_files(engine, predictor):
    """The 200 files of the Voila page's test: no crash, nothing that Python refuses is answered,
    and what Python answers is, but for some kinds."""
    laxer, stricter = [], []
    for kind, name, data in hostile.files():
        try: python = predictor.predict(data)['p_melanoma'] is not None
        except ImageError: python = False
        found = engine.evaluate('data => fromFile(data)', as_text(data))
        assert found.get('kind', 'ImageError') in ('ImageError', 'refused'), (kind, name, found)
        here = 'error' not in found
        if here and not python: laxer.append(kind)
        if python and not here: stricter.append(f"{kind}: {found['error']}")
    kinds = sorted({line.split(':')[0] for line in stricter})
    assert laxer == [] and kinds == STRICTER, f'laxer: {laxer}; stricter: {stricter}'


# ---- the page

def choose(page, paths):
    with page.expect_file_chooser() as chooser: page.click('.mel-btn.primary')
    chooser.value.set_files(paths)


def answered(page, n):
    until(page, f"document.querySelectorAll('.answers article').length == {n}")
    page.wait_for_selector('.take a')


@pytest.fixture
def app_visit(visit, hosted):
    "Opens the static page as the tests of the Voila page do."
    def _visit(size='laptop', url=None, query=''):
        url = (url or hosted.url) + query
        width, height = (test_app.SIZES | test_app.NARROW_AND_WIDE)[size]
        page = visit(url, width, height)
        page.wait_for_selector(READY)
        return page

    return _visit


@pytest.mark.parametrize('size', test_app.NARROW_AND_WIDE)
def test_upload(app_visit, files, size, tmp_path_factory):  # noqa: F811
    """The test of the Voila page: answers and reasons, the disclaimer in view, nothing too wide.
    Its pictures lie beside those of the Voila page."""
    test_app.test_upload(app_visit, files, size, tmp_path_factory)
    width, _ = test_app.NARROW_AND_WIDE[size]
    shots = tmp_path_factory.getbasetemp()
    assert (shots/f'page-static-{width}.png').exists()
    assert (shots/f'page-static-{width}-whole.png').exists()


@pytest.mark.parametrize('test', [
    test_app.test_journey, test_app.test_drop, test_app.test_nothing_is_taken_meanwhile,
    test_app.test_progress, test_app.test_stop_in_the_middle, test_app.test_camera,
    test_app.test_two_visitors, test_app.test_patient_fields, test_app.test_leaving_asks_first,
    test_app.test_clear_twice, test_app.test_site_of_each_lesion])
def test_journeys_of_the_voila_page(app_visit, files, test):  # noqa: F811
    "What the Voila page does, the static page does by the same test."
    test(app_visit, files)


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('size', test_app.NARROW_AND_WIDE)
def test_axe(app_visit, files, axe, size, theme):  # noqa: F811
    "axe-core finds nothing on the static page either."
    test_app.test_axe(app_visit, files, axe, size, theme)


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('size', test_app.NARROW_AND_WIDE)
def test_picture(app_visit, axe, size, theme):
    "The map on a slider and the large picture, by the test of the Voila page."
    test_app.test_picture(app_visit, axe, size, theme)


def test_refused_picture(app_visit, files, dark, axe):  # noqa: F811
    "A picture without an answer is shown, by the test of the Voila page."
    test_app.test_refused_picture(app_visit, files, dark, axe)


def test_training_image(app_visit, learnt, axe):  # noqa: F811
    "A picture that the model was trained on is said to be one, by the test of the Voila page."
    test_app.test_training_image(app_visit, learnt, axe)


def test_order_of_tiles(app_visit, files, axe):  # noqa: F811
    "Order and choice of the tiles, by the test of the Voila page."
    test_app.test_order_of_tiles(app_visit, files, axe)


@pytest.mark.parametrize('test', [test_app.test_theme, test_app.test_forced_colours,
                                  test_app.test_what_is_read_aloud,
                                  test_app.test_shares_of_others, test_app.test_by_keyboard])
def test_looks_of_the_voila_page(app_visit, test):
    "Light, dark and forced colours, by the same tests."
    test(app_visit)


@pytest.mark.parametrize('language', [case for case in LANGUAGES if case != 'en'])
def test_language(app_visit, files, axe, language):  # noqa: F811
    "Each language, by the test of the Voila page."
    cases = next(mark.args[1] for mark in test_app.test_language.pytestmark)
    case = next(case for case in cases if case[0] == language)
    test_app.test_language(app_visit, files, axe, *case)


def test_too_much_at_once(app_visit, files, tmp_path):  # noqa: F811
    "A file that is too large is named, by the test of the Voila page."
    test_app.test_too_much_at_once(app_visit, files, tmp_path)
    test_app.test_messages_gather(app_visit, files, tmp_path)


def test_real_photo(app_visit):
    "A real dermoscopic JPEG, where the data is at hand."
    test_app.test_real_photo(app_visit)


def test_hostile_through_the_browser(browser, hosted):
    "A dozen hostile files through the file chooser, by the test of the Voila page."
    test_hostile.test_through_the_browser(browser, hosted)


def test_stop(app_visit):
    "A long batch can be stopped."
    test_app.test_stop(app_visit)


@pytest.mark.parametrize('width', [360, 1440])
def test_under_its_policy(visit, tmp_path, width):
    "With the policy in force: examples, an upload, a file that is none, the table."
    page = visit(width=width)
    page.wait_for_selector(READY)
    page.click('.mel-btn.second')
    answered(page, len(examples()))
    (tmp_path/'notes <b>.jpg').write_text('dear doctor')
    choose(page, [PHANTOMS[5], tmp_path/'notes <b>.jpg'])
    answered(page, len(examples()) + 2)
    cards = page.locator('.answers article').all()
    assert [card.get_attribute('class').split()[0] for card in cards[-2:]] == ['answer', 'problem']
    assert cards[-1].locator('h3').text_content() == 'notes <b>.jpg'
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0
    with page.expect_download() as download: page.click('.take a >> nth=0')
    table = Path(download.value.path()).read_text()
    assert table.startswith('file,site,risk_percent') and len(table.splitlines()) == 9


RENDER = """async ([cases, language]) => {
    const reading = await import(new URL('reading.js', location).href);
    const {default: init, Environment} = await import(new URL('lib/minijinja.js', location).href);
    const facts = await (await fetch('facts.json')).json();
    await init({module_or_path: new URL('lib/minijinja.wasm', location)});
    reading.speak(window.melanoma.texts, language);
    const env = reading.prepare(new Environment(), facts.templates);
    const card = ([lesion, number, chosen]) => (lesion.answer.p_melanoma === null
        ? env.renderTemplate('problem.html.j2', {lesion, number})
        : env.renderTemplate('answer.html.j2', reading.cardValues(facts, lesion, number, chosen)));
    return cases.map(card);
}"""


def lesions_to_read(card):
    "Lesions at many scores, thresholds among them, each with a point and a prevalence."
    random = np.random.default_rng(3)
    edges = [point['threshold'] for point in card['operating_points'] if point['threshold']]
    scores = [*edges, 1e-7, .5, 1 - 1e-7, *(1/(1 + np.exp(-random.normal(0, 4, 80))))]
    for number, score in enumerate(map(float, scores)):
        rest = (1 - score)*random.dirichlet([1]*(len(card['classes']) - 1))
        others = [name for name in card['classes'] if name != 'MEL']
        probs = dict(zip(others, map(float, rest), strict=True)) | dict(MEL=score)
        answer = dict(p_melanoma=score, probs=probs, width=640, height=480, error=None,
                      trained_on=(None, True, False)[number % 3],
                      warnings=['only 70 x 90 pixels: details that the answer needs may be missing',
                                'hardly any structure: is this a photo of a lesion?', '<i>'])
        lesion = Lesion('a <b> & "c"', 'drawn', answer, 'data:,seen', 'data:,map', 'data:,thumb')
        sensitivity = float(random.choice(list(operating_points(card))))
        places = [None, .0176, *cohorts(card), *published(card), float(random.uniform(.001, .9))]
        yield lesion, sensitivity, places[number % len(places)]
        yield lesion, sensitivity, float(random.uniform(.001, .6))
    refused = dict(answer, p_melanoma=None, probs={}, error='the file is empty (0 bytes); copy or '
                   'download it again')
    yield lesion._replace(answer=refused, map=None), .95, None
    yield Lesion('<i>', '', dict(p_melanoma=None, warnings=[], error='what nobody knew')), .95, None


@pytest.mark.parametrize('language', LANGUAGES)
def test_cards_are_those_of_python(engine, predictor, language):
    "The browser fills the card's template in as Python does, letter for letter, in each language."
    cases = list(lesions_to_read(predictor.card))
    asked = []
    for number, (lesion, sensitivity, prevalence) in enumerate(cases, 1):
        p = lesion.answer['p_melanoma']
        word = p and str(set_words(conformal_sets([p], predictor.card['conformal']))[0])
        given = lesion._asdict() | dict(answer=lesion.answer | dict(conformal=word))
        asked.append([given, number, dict(sensitivity=sensitivity, prevalence=prevalence)])
    found = engine.evaluate(RENDER, [asked, language])
    for number, (case, html) in enumerate(zip(cases, found, strict=True), 1):
        lesion, sensitivity, prevalence = case
        expected = card_html(predictor.card, lesion, number, sensitivity, prevalence, language)
        assert unescape(html).split() == unescape(expected).split()


FROM = """async ([places, language]) => {
    const reading = await import(new URL('reading.js', location).href);
    reading.speak(window.melanoma.texts, language);
    const [facts, card] = await Promise.all(['facts.json', 'card.json'].map(
        async name => (await fetch(new URL(name, location))).json()));
    return places.map(prevalence => [reading.shareFrom(facts, prevalence),
        reading.provenance(facts, card, {sensitivity: .95, prevalence})]);
}"""


@pytest.mark.parametrize('language', LANGUAGES)
def test_where_a_share_is_from_as_python_says_it(engine, predictor, language):
    "Report and table name the place of each share, its counts and its source, as Python does."
    card = predictor.card
    places = [None, .07, *cohorts(card), *published(card)]
    found = engine.evaluate(FROM, [places, language])
    for place, (sentence, row) in zip(places, found, strict=True):
        assert sentence == share_from(card, place, language)
        assert {**row, 'date': ''} == {**provenance(card, .95, place), 'date': ''}


REASONS = """async ([sentences, language]) => {
    const reading = await import(new URL('reading.js', location).href);
    reading.speak(window.melanoma.texts, language);
    return sentences.map(sentence => reading.reason(sentence));
}"""


@pytest.mark.parametrize('language', LANGUAGES)
def test_reasons_are_those_of_python(engine, language):
    "A reason or a remark is found in the table, or not, as Python finds it."
    sentences = [*all_sentences(), 'damaged or cut off (two\nlines); copy or download it again',
                 'what nobody foresaw', '']
    expected = [reason(sentence, language=language) for sentence in sentences]
    assert engine.evaluate(REASONS, [sentences, language]) == expected


def heap_megabytes(page):
    "What the page's own thread holds after its garbage was collected."
    session = page.context.new_cdp_session(page)
    session.send('HeapProfiler.enable')
    session.send('HeapProfiler.collectGarbage')
    held = session.send('Runtime.getHeapUsage')['usedSize']/1e6
    session.detach()
    return held


def test_memory_does_not_grow(visit):
    "Rounds of images that are cleared leave nothing behind in the page."
    page, held = visit(), []
    page.wait_for_selector(READY)
    for _ in range(4):
        page.locator('input[multiple]').set_input_files(PHANTOMS[:12])
        answered(page, 12)
        held.append(heap_megabytes(page))
        page.click('.mel-btn.third.clear')
    assert max(held[1:]) < held[1] + .5, held


TILES = "() => [...document.querySelectorAll('.tile')].map(tile => tile.dataset.lesion)"


def test_tiles_stay_while_more_come(visit):
    """A further image gets its tile in its place; those that are there stay, with the focus. What
    is drawn anew at each image piles up until the browser tidies up."""
    page = visit()
    page.wait_for_selector(READY)
    choose = page.locator('input[multiple]').set_input_files
    choose(PHANTOMS[:3])
    answered(page, 3)
    page.evaluate("""() => {
        window.before = [...document.querySelectorAll('.tiles li')];
        window.before[1].querySelector('a').focus();
    }""")
    choose(PHANTOMS[3:12])
    answered(page, 12)
    assert page.evaluate('() => window.before.every(tile => tile.isConnected)')
    assert page.evaluate("() => window.before[1].contains(document.activeElement)")
    one_by_one = page.evaluate(TILES)
    page.dispatch_event('#point', 'input')  # the same tiles: they stay
    assert page.evaluate('() => window.before.every(tile => tile.isConnected)')
    page.evaluate("() => document.querySelector('.overview').replaceChildren()")
    page.dispatch_event('#point', 'input')  # all are drawn anew
    assert not page.evaluate('() => window.before[0].isConnected')
    assert one_by_one == page.evaluate(TILES) and len(one_by_one) == 12


@pytest.mark.parametrize('typed,used', [('7', '7'), ('150', '99'), ('-3', '0.01'), ('', '5')])
def test_own_share_is_what_is_used(visit, typed, used):
    "The field shows the share that answers are read at."
    page = visit()
    page.wait_for_selector(READY)
    page.select_option('#place', 'own')
    page.fill('#own input', typed)
    page.press('#own input', 'Tab')
    assert page.input_value('#own input') == used


# ---- phones

def told(**values):
    "A script after which `navigator` tells these values."
    return '\n'.join(f"Object.defineProperty(Navigator.prototype, '{name}', "
                     f"{{get: () => {value}}});" for name, value in values.items())


@pytest.fixture
def megabytes(monkeypatch, browser):
    "Gives what all tabs hold."
    monkeypatch.syspath_prepend(str(ROOT/'scripts'))
    of = importlib.import_module('site_parity').megabytes
    return lambda: sum(of(browser))


@pytest.fixture(scope='session')
def camera_files(tmp_path_factory):
    "Five pictures of 12 megapixels, lying, with the tag by which a phone says so."
    folder, exif = tmp_path_factory.mktemp('camera'), Image.Exif()
    exif[0x0112] = 6
    for path in PHANTOMS[:5]:
        large = Image.open(path).convert('RGB').resize((4000, 3000))
        large.save(folder/path.name, quality=90, exif=exif)
    return sorted(folder.iterdir())


def at_rest(page, megabytes, seconds=3):
    "The least that is held within some seconds: garbage is collected when there is time for it."
    page.request_gc()
    held = []
    for _ in range(seconds*4):
        held.append(megabytes())
        page.wait_for_timeout(250)
    return min(held)


@pytest.mark.parametrize('name', ['iPhone 13', 'Pixel 7'])
def test_phone(visit, playwright, camera_files, megabytes, name):
    "On a phone with 4 GB: pictures from the camera, by touch; each is let go before the next."
    device = {key: value for key, value in playwright.devices[name].items()
              if key != 'default_browser_type'}
    first = told(deviceMemory=4) if 'Pixel' in name else ''
    page, held = visit(first=first, **device), []
    page.wait_for_selector(READY)
    for number, path in enumerate(camera_files, 1):
        with page.expect_file_chooser() as chooser: page.tap('.mel-btn.primary')
        chooser.value.set_files([path])
        answered(page, number)
        held.append(at_rest(page, megabytes))
    cards = page.locator('.answers article.answer').all_text_contents()
    assert len(cards) == 5 and all('3000 × 4000' in words for words in cards)
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0
    # one may still wait to be collected; each of three that stayed would be 48 MB
    assert min(held[3:]) - held[0] < 90, held


# ---- workers

POOL = """async ({size, files}) => {
    const {Pool, inTurn} = await import(new URL('pool.js', location).href);
    const work = `addEventListener('message', ({data: {type, bytes}}) => {
        if (type === 'load' || type === 'open') return postMessage({type: 'ready', card: type});
        const [wait, dies] = new Uint8Array(bytes);
        if (dies) throw new Error('out of memory');
        setTimeout(() => postMessage({type: 'answer', answer: wait}), wait);
    });`;
    const url = URL.createObjectURL(new Blob([work])), made = [], told = [];
    const create = () => { made.push(1); return new Worker(url); };
    const loaded = new Promise(resolve => {
        window.pool = new Pool(create, size, said => { told.push(said.type); resolve(); });
    });
    pool.load('version', 'cache');
    await loaded;
    const pause = () => new Promise(resolve => { setTimeout(resolve, 5); });
    while (pool.workers.filter(one => one.open).length < size) await pause();
    let busiest = 0;
    const next = inTurn(files, pool.ahead, file => {
        const promised = pool.predict(Uint8Array.from(file).buffer);
        busiest = Math.max(busiest, pool.workers.filter(one => one.job).length);
        return promised;
    });
    const found = [];
    for (const _ of files) found.push(await next());
    return {found, told, busiest, made: made.length, left: pool.workers.length};
}"""


@pytest.fixture
def scripts_page(browser):
    "A page beside the scripts of the static page, without its policy."
    host = Files(PAGE, 'site/')
    page = browser.new_page()
    page.goto(f'{host.url}site.css')
    yield page
    page.close()
    host.stop()


def pooled(page, orders, size):
    "Files are milliseconds to wait, and whether the worker dies of them."
    return page.evaluate(POOL, dict(files=orders, size=size))


@pytest.mark.parametrize('size', [1, 2])
def test_pool_keeps_the_order(scripts_page, size):
    "Slow and quick files: the answers come in the order of the files, from so many at once."
    waits = [90, 5, 40, 5, 5, 60, 1]
    found = pooled(scripts_page, [[wait, 0] for wait in waits], size)
    assert [said['answer'] for said in found['found']] == waits
    assert found['made'] == found['left'] == size
    assert found['busiest'] == size and found['told'] == ['ready']


@pytest.mark.parametrize('size', [1, 2])
def test_pool_replaces_the_dead(scripts_page, size):
    "A worker that dies loses its file, is replaced and told; the other files are answered."
    orders = [[20, 0], [0, 1], [30, 0], [0, 1], [10, 0]]
    found = pooled(scripts_page, orders, size)
    assert [said.get('answer') for said in found['found']] == [20, None, 30, None, 10]
    lost = found['found'][1]
    assert lost['lost'] and reason(lost['why'], language='de').startswith('der Teil der Seite')
    assert found['told'] == ['ready', 'replaced', 'replaced']
    assert found['made'] == size + 2 and found['left'] == size


def test_pool_gives_up(scripts_page):
    "Where no worker opens, the page is told, and nobody waits for an answer."
    found = scripts_page.evaluate("""async () => {
        const {Pool} = await import(new URL('pool.js', location).href), told = [];
        const create = () => new Worker(URL.createObjectURL(new Blob(['throw new Error("no")'])));
        const pool = new Pool(create, 2, said => told.push(said.type));
        pool.load('version', 'cache');
        const file = () => pool.predict(new ArrayBuffer(1)), said = [await file(), await file()];
        return [said.map(one => one.type), told];
    }""")
    assert found == [['problem', 'problem'], ['refused']]


def test_how_many_workers(scripts_page):
    "One where memory or cores are few; two, where memory is not told, too."
    devices = [dict(hardwareConcurrency=8, deviceMemory=2), dict(hardwareConcurrency=1),
               dict(hardwareConcurrency=4), dict(hardwareConcurrency=8, deviceMemory=8), {}]
    found = scripts_page.evaluate("""async devices => {
        const {workersFor} = await import(new URL('pool.js', location).href);
        return devices.map(workersFor);
    }""", devices)
    assert found == [1, 1, 2, 2, 1]


def with_workers(page, n):
    "The page once so many workers have opened the model, and no more."
    page.wait_for_selector(READY)
    while len(page.workers) < n: page.wait_for_timeout(20)
    page.wait_for_timeout(1500)
    assert len(page.workers) == n
    return page


def risks(page):
    "File and figures of each row of the table."
    with page.expect_download() as download: page.click('.take a >> nth=0')
    rows = csv.DictReader(Path(download.value.path()).read_text().splitlines())
    return [(row['file'], row['risk_percent'], row['score']) for row in rows]


def test_workers_answer_as_one(visit):
    "Two workers, each a file or each half of one, give what one gives, in the files' order."
    devices = {2: told(hardwareConcurrency=2, deviceMemory=8),
               1: told(hardwareConcurrency=8, deviceMemory=2)}
    found = {}
    for workers, first in devices.items():
        page = with_workers(visit(first=first), workers)
        choose(page, PHANTOMS[:9])
        answered(page, 9)
        choose(page, PHANTOMS[9:10])  # alone, so that two workers share it
        answered(page, 10)
        found[workers] = risks(page)
    assert [row[0] for row in found[2]] == [path.name for path in PHANTOMS[:10]]
    assert found[2] == found[1]


KILL = """() => {
    const [first] = window.made;
    first.terminate();
    first.dispatchEvent(new ErrorEvent('error', {message: 'out of memory'}));
}"""
REMEMBER = """window.made = [];
    window.Worker = class extends Worker {
        constructor(...words) { super(...words); window.made.push(this); }
    };"""


def test_a_dead_worker_is_replaced(visit):
    "A worker dies over a batch: that is said, one file at most has no answer and may come again."
    page = visit(first=REMEMBER)
    page.wait_for_selector(READY)
    choose(page, PHANTOMS[:6])
    page.wait_for_selector('.answers article', state='attached')
    page.evaluate(KILL)
    answered(page, 6)
    assert 'started again' in page.inner_text('#note')
    problems = page.locator('.answers article.problem')
    assert problems.count() <= 1
    for name in problems.locator('h3').all_text_contents():
        choose(page, [path for path in PHANTOMS if path.name == name])
        answered(page, 7)
    assert problems.count() <= 1


def requests_of(context):
    """What page, workers and service worker of a context ask for from now on: all addresses, and
    those among them that the network answered."""
    asked, answered_by_network = [], []

    def _answered(response):
        if not response.from_service_worker: answered_by_network.append(response.url)

    context.on('request', lambda request: asked.append(request.url))
    context.on('response', _answered)
    return asked, answered_by_network


def kept_page(context, url):
    "The page in a new tab, once its copy for later visits is whole."
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(READY)
    until(page, KEPT)
    return page


def test_a_later_visit_asks_for_one_file(browser, site):
    """The first visit asks its own address for the listed files, the list, the page and sw.js. A
    later one asks for sw.js alone, and answers without it when the server is gone."""
    host, context = Files(site.parent), browser.new_context()
    asked, answered_by_network = requests_of(context)
    kept_page(context, host.url).close()
    listed = json.loads((site/'manifest.json').read_text())['files']
    assert host.asked() == {*listed, '', 'manifest.json', 'sw.js'}
    assert {url.rpartition('/')[2] for url in answered_by_network} >= {'sw.js', 'model.onnx'}
    asked.clear()
    answered_by_network.clear()
    host.lose()
    page = kept_page(context, host.url)
    page.click('.mel-btn.second')
    answered(page, len(examples()))
    page.wait_for_timeout(1000)
    page.close()
    assert f'{host.url}worker.js' in asked and not answered_by_network
    assert not [url for url in asked if not url.startswith((host.url, 'data:', 'blob:'))]
    assert host.asked() == {'sw.js'}
    host.lose(False)
    kept_page(context, host.url).wait_for_timeout(1000)
    assert host.asked() == {'sw.js'}
    context.close()
    host.stop()


def test_a_new_edition_is_offered(browser, site, tmp_path):
    "A reader who comes back keeps the old edition, is told of the new one, and may take it."
    shutil.copytree(site, tmp_path/'melanoma')
    host = Files(tmp_path)
    page = kept_page(browser.new_context(), host.url)
    old = page.get_attribute('html', 'data-version')
    newer(site, tmp_path)
    page.goto(host.url)
    page.wait_for_selector('#update:not([hidden])')
    assert page.get_attribute('html', 'data-version') == old
    page.click('#update button')
    page.wait_for_selector(f"html:not([data-version='{old}'])")
    page.wait_for_selector(READY)
    page.context.close()
    host.stop()


def watched(page):
    "A tab whose questions are written down, and answered as `agrees` says."
    page.questions, page.agrees = [], False

    def _answer(dialog):
        page.questions.append(dialog.type)
        if page.agrees: dialog.accept()
        else: dialog.dismiss()

    page.on('dialog', _answer)
    page.set_default_timeout(60_000)
    return page


@pytest.fixture
def two_tabs(browser, site, tmp_path):
    "A tab with an answer and one of a first visit, when a newer edition has come."
    shutil.copytree(site, tmp_path/'melanoma')
    host, context = Files(tmp_path), browser.new_context()
    context.add_init_script(REMEMBER + told(hardwareConcurrency=2, deviceMemory=8))
    first, second = [watched(kept_page(context, host.url)) for _ in range(2)]
    second.click('.thumb >> nth=0')
    answered(second, 1)
    newer(site, tmp_path)
    first.evaluate('navigator.serviceWorker.ready.then(kept => kept.update())')
    second.wait_for_selector('#update:not([hidden])')
    yield second, first
    context.close()
    host.stop()


def edition(page):
    "The edition that a tab shows, once it is ready."
    page.wait_for_selector(READY)
    return page.get_attribute('html', 'data-version')


def test_one_tab_takes_the_new_edition(two_tabs):
    """Only the tab that asks for the new edition is loaded anew. The other goes on with what it has
    and is offered it too; a worker that dies there is not replaced by one of the new edition."""
    other, asking = two_tabs
    old = edition(other)
    asking.click('#update button')
    asking.wait_for_selector(f"html:not([data-version='{old}'])")
    other.wait_for_timeout(2000)
    assert edition(other) == old != edition(asking) and other.locator('#update').is_visible()
    assert other.locator('article.answer').count() == 1
    other.evaluate(KILL)
    other.click('.thumb >> nth=1')
    answered(other, 2)
    assert other.locator('article.answer').count() == 2
    until(other, "window.made.length == 3")
    other.wait_for_timeout(1000)
    assert len(other.workers) == 1 and not other.questions and not asking.questions


def test_answers_are_not_lost_to_a_new_edition(two_tabs):
    """A tab with answers asks, once, before it takes the new edition; who stays keeps them. A tab
    that was left behind comes after when it likes."""
    page, other = two_tabs
    old = edition(page)
    page.click('#update button')
    page.wait_for_timeout(2000)
    assert edition(page) == edition(other) == old and page.questions == ['confirm']
    assert page.locator('article.answer').count() == 1
    page.agrees = True
    page.click('#update button')
    page.wait_for_selector(f"html:not([data-version='{old}'])")
    assert page.questions == ['confirm', 'confirm'] and edition(other) == old
    other.click('#update button')
    other.wait_for_selector(f"html:not([data-version='{old}'])")
    assert edition(other) == edition(page) and not other.questions
    assert page.locator('#update').is_hidden()


def newer(site, folder):
    "Another edition of the page in the folder: the same model under another name."
    model = folder/'model'
    model.mkdir()
    card = json.loads((site/'card.json').read_text()) | dict(name='second edition')
    write_card(model/'card.json', card)
    for name in ('model.onnx', 'seen.bin'): shutil.copy(site/name, model)
    write_site(folder/'melanoma', model)


@pytest.mark.parametrize('name', ['model.onnx', 'seen.bin', 'card.json', 'facts.json',
                                  'lib/ort.wasm', 'manifest.json'])
def test_a_flipped_bit_is_refused(visit, site, tmp_path, name):
    "A bit flipped in model, card or another part: no answer, and the reason in words."
    shutil.copytree(site, tmp_path/'melanoma')
    data = bytearray((tmp_path/'melanoma'/name).read_bytes())
    data[len(data)//2] ^= 1
    (tmp_path/'melanoma'/name).write_bytes(data)
    host = Files(tmp_path)
    page = visit(host.url)
    page.wait_for_selector('#gone:not([hidden])')
    words = page.inner_text('#gone')
    assert name in words and 'changed or damaged' in words and 'no answer' in words
    assert page.locator(READY).is_hidden()
    host.stop()


def test_the_policy_names_no_other_origin(site):
    "Neither policy nor page, script or style loads from another address."
    page = (site/'index.html').read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1)
    assert 'unsafe-eval' not in policy.replace('wasm-unsafe-eval', '') and 'http' not in policy
    for path in [*site.glob('*.js'), *site.glob('*.css'), site/'index.html']:
        assert not re.search(r'(?:src|href|url|import|fetch)[\s=("\']+https?://', path.read_text())
        assert not re.search(r'(?:src|href)="/', path.read_text()), path


class Tags(HTMLParser):
    "End tags that close nothing, or something else than what was opened last."
    EMPTY = {'br', 'circle', 'img', 'input', 'link', 'meta', 'path'}

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in self.EMPTY: self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.EMPTY: return
        if self.open[-1:] == [tag]: self.open.pop()
        else: self.wrong.append((tag, self.getpos()))


def test_tags_are_closed(site):
    "Each end tag of the page closes what was opened last."
    tags = Tags((site/'index.html').read_text('utf-8'))
    assert tags.wrong == [] and tags.open == []
    assert Tags('<p><b>a</b></span></p>').wrong == [('span', (1, 11))]


def test_a_changed_part_is_not_written(parts, tmp_path, monkeypatch):
    "A part from npm with other bytes stops the writing, and nothing is left."
    shutil.copytree(parts, tmp_path/'parts')
    (tmp_path/'parts'/'lib'/'ort.js').write_text('export default 1')
    monkeypatch.setenv('PATH', '')
    with pytest.raises(MelanomaError, match='npm'):
        write_site(tmp_path/'site', parts=tmp_path/'parts')
    assert not (tmp_path/'site').exists()
