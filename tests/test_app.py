"""The page in a real browser: what people upload gets its answer or its reason, on a laptop and on
a phone, and nothing leaves the machine."""

import base64, os, re, socket, sys, urllib.request
from pathlib import Path

import numpy as np, pytest
from conftest import ROOT, Served, free_port
from PIL import Image

PHANTOMS = sorted((ROOT / 'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
SIZES = dict(laptop=(1280, 800), phone=(390, 844))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A photo, a PNG of 29 MB, a text renamed to .jpg, an empty file"
    d = tmp_path_factory.mktemp('upload')
    Image.open(PHANTOMS[3]).convert('RGB').resize((1500, 1000)).save(d / 'left shoulder <2026>.jpg')
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3220, 3), dtype=np.uint8)
    Image.fromarray(noise).save(d / 'large.png')
    (d / 'notes.jpg').write_text('dear doctor, please find attached')
    (d / 'empty.jpg').write_bytes(b'')
    assert (d / 'large.png').stat().st_size > 28.5e6
    return [d / n for n in ('left shoulder <2026>.jpg', 'large.png', 'notes.jpg', 'empty.jpg')]


@pytest.fixture
def visit(browser, served):
    """Opens the page at a width; at the end no request has left for another host, and the page's
    own scripts raised nothing"""
    pages = []

    def _visit(size='laptop', url=None):
        w, h = SIZES[size]
        page = browser.new_page(viewport=dict(width=w, height=h))
        page.hosts, page.errors = set(), []
        page.on('request', lambda r: page.hosts.add(re.match(r'\w+:(//[^/:]+)?', r.url).group()))
        page.on('websocket', lambda s: page.hosts.add(re.match(r'\w+:(//[^/:]+)?', s.url).group()))
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.set_default_timeout(120_000)
        pages.append(page)
        page.goto(url or served.url, wait_until='commit')
        page.wait_for_selector('.mel-btn.primary')
        return page

    yield _visit
    for p in pages:
        away = {
            h for h in p.hosts if h not in ('http://127.0.0.1', 'ws://127.0.0.1', 'data:', 'blob:')
        }
        assert not away and not p.errors, (away, p.errors)
        p.close()


def choose(page, paths):
    with page.expect_file_chooser() as fc:
        page.click('.mel-btn.primary')
    fc.value.set_files(paths)


def answered(page, n):
    page.wait_for_function(
        f"document.querySelectorAll('article').length == {n} && document.querySelector('.status a')"
    )


def check_cards(page, files):
    "Two answers and two reasons; the first answer has its risk, its sentence and two pictures."
    cards = page.locator('article').all()
    assert [c.get_attribute('class') for c in cards] == ['answer', 'answer', 'problem', 'problem']
    assert [c.locator('h3').inner_text() for c in cards] == [f.name for f in files]
    assert 'text, not an image' in cards[2].inner_text()
    assert 'empty' in cards[3].inner_text()
    first = cards[0].inner_text()
    assert re.search(r'(<1|>99|\d+)%', first)
    for words in ('risk of melanoma', 'Of 100 images', '1500'):
        assert words in first
    pics = cards[0].locator('img')
    assert pics.count() == 2
    for i in range(2):
        assert pics.nth(i).evaluate('i => i.complete && i.naturalWidth') >= 200


@pytest.mark.parametrize('size', SIZES)
def test_upload(visit, files, size, tmp_path_factory):
    """Each of four files gets its result or its reason; the disclaimer is in view all along, and
    nothing is wider than the screen"""
    page = visit(size)
    disclaimer = page.locator('footer.always')

    def in_view():
        b = disclaimer.bounding_box()
        return b and b['y'] >= 0 and b['y'] + b['height'] <= SIZES[size][1] + 1

    assert (
        in_view()
        and 'Not a medical device' in disclaimer.inner_text()
        and 'see a doctor' in disclaimer.inner_text()
    )
    assert 'Nothing is stored' in page.inner_text('.private') and '64 MB' in page.inner_text(
        '.hint'
    )
    choose(page, files)
    answered(page, 4)
    check_cards(page, files)
    assert '2 images answered, 2 files not' in page.inner_text('.status')
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0 and in_view()
    shots = tmp_path_factory.getbasetemp()
    page.screenshot(path=shots / f'page-{size}.png')
    page.screenshot(path=shots / f'page-{size}-whole.png', full_page=True)
    page.mouse.wheel(0, 5000)
    page.wait_for_timeout(300)
    assert in_view()
    last = page.locator('details.more summary').bounding_box()
    assert last['y'] + last['height'] <= disclaimer.bounding_box()['y'], (
        'the end of the page lies under the disclaimer'
    )


def test_examples_then_more(visit, files):
    """The built-in examples are answered and said to be drawn; a second upload stands above them;
    Clear forgets all; the table downloads"""
    page = visit()
    page.click('.mel-btn.second')
    answered(page, 6)
    assert all('drawn as' in t for t in page.locator('article').all_inner_texts())
    page.locator('article details summary').first.click()
    assert 'melanocytic nevus' in page.locator('article').first.inner_text()
    choose(page, files[:1])
    answered(page, 7)
    assert files[0].name in page.locator('article').first.inner_text()
    with page.expect_download() as d:
        page.click('.status a')
    table = Path(d.value.path()).read_text()
    assert (
        d.value.suggested_filename == 'risks.csv'
        and len(table.splitlines()) == 8
        and table.startswith('file,p_melanoma,error')
    )
    choose(page, files[:1])
    answered(page, 8)  # the same file a second time
    page.click('.mel-btn.third')
    page.wait_for_function("!document.querySelector('article')")


def test_too_much_at_once(visit, files, tmp_path):
    """What does not fit into one upload is named with its size, and the rest is answered; nothing
    dies in silence"""
    big = tmp_path / 'whole slide.tif'
    with open(big, 'wb') as f:
        f.truncate(80 * 2**20)
    page = visit()
    choose(page, [files[0], big])
    answered(page, 1)
    note = page.inner_text('#note')
    assert 'whole slide.tif (80 MB)' in note and '64 MB' in note
    choose(page, [big])
    page.wait_for_function(
        "document.getElementById('note').textContent.includes('Save it smaller')"
    )
    assert page.locator('article').count() == 1
    choose(page, files[2:3])
    answered(page, 2)
    assert page.locator('#note').is_hidden()


def test_drop(visit, files):
    "Files that are dropped on the page are taken as if they had been chosen"
    page = visit()
    b = base64.b64encode(files[0].read_bytes()).decode()
    page.evaluate(
        """([b, name]) => { const d = new DataTransfer();
        const bytes = Uint8Array.from(atob(b), c => c.charCodeAt(0));
        d.items.add(new File([bytes], name, {type: 'image/jpeg'}));
        const event = {dataTransfer: d, bubbles: true, cancelable: true};
        document.querySelector('.drop').dispatchEvent(new DragEvent('drop', event)); }""",
        [b, 'dropped.jpg'],
    )
    answered(page, 1)
    assert page.locator('h3').inner_text() == 'dropped.jpg'


def test_real_photo(visit):
    "A real dermoscopic JPEG, where the data is at hand"
    home = os.environ.get('MELANOMA_DATA')
    photos = sorted(Path(home).glob('ham10000/**/ISIC_*.jpg')) if home else []
    if not photos:
        pytest.skip('MELANOMA_DATA names no folder with HAM10000: no real photo was uploaded')
    page = visit()
    choose(page, photos[:3])
    answered(page, 3)
    assert page.locator('article.answer').count() == 3


def test_two_visitors(visit, files):
    "What one visitor uploads is not on another's page"
    a, b = visit(), visit('phone')
    choose(a, files[:1])
    answered(a, 1)
    assert b.locator('article').count() == 0


def test_only_this_machine(served):
    """The page's rule for the browser names no other host, and the server listens on the loopback
    address alone"""
    r = urllib.request.urlopen(served.url, timeout=120)
    csp, html = r.headers['Content-Security-Policy'], r.read().decode()
    assert (
        "default-src 'self'" in csp
        and 'http:' not in csp
        and 'https:' not in csp
        and '*' not in csp
    )
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?:https?:)?//', html)
    port = int(re.search(r':(\d+)', served.url[6:]).group(1))
    for ip in {i[4][0] for i in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {
        '127.0.0.1'
    }:
        with pytest.raises(OSError):
            socket.create_connection((ip, port), timeout=2).close()


def test_taken_port_and_lost_server(browser, tmp_path):
    "A taken port is said and the next one used; when the server is gone, the open page says so"
    with socket.socket() as s:
        s.bind(('127.0.0.1', free_port()))
        s.listen()
        taken = s.getsockname()[1]
        srv = Served(
            [Path(sys.executable).parent / 'melanoma_app', '--port', taken, '--no_browser'],
            tmp_path,
            tmp_path / 'log',
        )
    try:
        assert f'port {taken} is taken' in srv.log() and f':{taken}/' not in srv.url
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.goto(srv.url, wait_until='commit')
        page.wait_for_selector('.mel-btn.primary')
        page.wait_for_timeout(1000)
        srv.stop()
        page.wait_for_function(
            "/connection .* is gone/.test(document.getElementById('note').textContent)",
            timeout=30_000,
        )
        assert page.locator('footer.always').is_visible()
        page.close()
    finally:
        srv.stop()
    assert 'Traceback' not in srv.log(), srv.log()[-2000:]
