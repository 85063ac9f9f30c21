"""The page in a real browser: what people upload gets its answer or its reason, on a laptop and on
a phone, and nothing leaves the machine."""

import base64, http.client, json, os, re, shutil, socket, subprocess, sys, time, urllib.request
from html import unescape
from importlib.metadata import version
from pathlib import Path

import pandas as pd, psutil, pytest
from conftest import PAGE, ROOT, Served, free_port, run, until
from PIL import Image

from melanoma_nbdev.bedside.answer import PAGE_FOLDER
from melanoma_nbdev.report.seen import TRAINED_ON
from melanoma_nbdev.bedside.serve import SCRIPTS
from melanoma_nbdev.bedside.texts import reason, text
from melanoma_nbdev.core import read_json, write_card
from melanoma_nbdev.phantom.dataset import draw_row, phantom_table

PHANTOMS = sorted((ROOT / 'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
SIZES = dict(laptop=(1280, 800), phone=(390, 844))
NARROW_AND_WIDE = dict(narrow=(360, 740), wide=(1440, 900))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "A photo, a PNG of 29 MB, a text renamed to .jpg, an empty file"
    d = tmp_path_factory.mktemp('upload')
    Image.open(PHANTOMS[3]).convert('RGB').resize((1500, 1000)).save(d / 'left shoulder <2026>.jpg')
    large = Image.open(PHANTOMS[5]).convert('RGB').resize((3220, 3000))
    large.save(d / 'large.png', compress_level=0)
    (d / 'notes.jpg').write_text('dear doctor, please find attached')
    (d / 'empty.jpg').write_bytes(b'')
    assert (d / 'large.png').stat().st_size > 28.5e6
    return [d / n for n in ('left shoulder <2026>.jpg', 'large.png', 'notes.jpg', 'empty.jpg')]


@pytest.fixture(scope='module')
def learnt(tmp_path_factory):
    "One of the drawn lesions that the model in the package was trained on, drawn again."
    table = phantom_table(n_images=600, n_patients=150, size=160, prevalence=0.2, seed=1)
    path = tmp_path_factory.mktemp('learnt') / 'learnt.jpg'
    picture, _ = draw_row(table.iloc[0], 1, 160)
    picture.save(path, 'JPEG', quality=88)
    return path


@pytest.fixture
def visit(browser, served):
    """Opens the page at a width; at the end no request has left for another host, and the page's
    own scripts raised nothing"""
    pages = []

    def _visit(size='laptop', url=None, query=''):
        w, h = (SIZES | NARROW_AND_WIDE)[size]
        page = browser.new_page(viewport=dict(width=w, height=h))
        page.hosts, page.errors = set(), []
        page.on('request', lambda r: page.hosts.add(re.match(r'\w+:(//[^/:]+)?', r.url).group()))
        page.on('websocket', lambda s: page.hosts.add(re.match(r'\w+:(//[^/:]+)?', s.url).group()))
        page.on('pageerror', lambda e: page.errors.append(str(e)))
        page.set_default_timeout(120_000)
        pages.append(page)
        page.goto((url or served.url) + query, wait_until='commit')
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
    "Wait until so many files have their card and the page is free again."
    until(
        page,
        f"document.querySelectorAll('.answers article').length == {n}"
        " && !document.querySelector('.mel-btn.primary').disabled"
        " && !document.querySelector('.status .work')",
    )


def check_cards(page, files):
    "Two answers and two reasons, in the tiles and as cards; the open card has all it should."
    tiles = page.locator('.tile').all()
    assert len(tiles) == 4 and 'No answer' in tiles[2].inner_text() + tiles[3].inner_text()
    cards = page.locator('.answers article').all()
    assert [c.locator('h3').text_content() for c in cards] == [f.name for f in files]
    assert 'text, not an image' in cards[2].text_content()
    assert 'empty' in cards[3].text_content()
    assert page.locator('.answers article:visible').count() == 1
    first = page.locator('.answers article:visible')
    said = first.inner_text()
    assert re.search(r'(<0\.1|[\d.]+)%\s+risk of melanoma', said)
    for words in ('95% interval', 'threshold for 95% sensitivity', 'px'):
        assert words in said, said
    picture = first.locator('.zoom img').first
    assert picture.evaluate('i => i.complete && i.naturalWidth') == 640


BAR_IN_VIEW = """(() => {
    const {top, bottom} = document.querySelector('.bar').getBoundingClientRect();
    return top >= -1 && bottom <= innerHeight;
})()"""


def shoot(page, folder):
    "Pictures of the window and of the whole page, under the names of face and width."
    face = 'static' if page.locator('body.site').count() else 'voila'
    name = f"page-{face}-{page.viewport_size['width']}"
    page.screenshot(path=folder / f'{name}.png')
    page.screenshot(path=folder / f'{name}-whole.png', full_page=True)


@pytest.mark.parametrize('size', NARROW_AND_WIDE)
def test_upload(visit, files, size, tmp_path_factory):
    """Each of four files gets its result or its reason, below the bar that has come into view; the
    disclaimer is in view all along, and nothing is wider than the screen"""
    page = visit(size)
    disclaimer = page.locator('footer.always')

    def in_view():
        b = disclaimer.bounding_box()
        return b and b['y'] >= 0 and b['y'] + b['height'] <= page.viewport_size['height'] + 1

    said = disclaimer.inner_text()
    assert in_view() and 'Not a medical device' in said and 'see a doctor' in said
    assert 'Nothing is stored' in page.inner_text('.private')
    assert '64 MB' in page.inner_text('.hint')
    assert page.inner_text('.mel-btn.primary') == 'Choose images'
    choose(page, files)
    answered(page, 4)
    check_cards(page, files)
    assert '2 images answered, 2 files without an answer' in page.inner_text('.status')
    until(page, BAR_IN_VIEW)
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0 and in_view()
    shoot(page, tmp_path_factory.getbasetemp())
    page.mouse.wheel(0, 9000)
    page.wait_for_timeout(300)
    assert in_view()
    last = page.locator('details.more summary').last.bounding_box()
    assert last['y'] + last['height'] <= disclaimer.bounding_box()['y'], (
        'the end of the page lies under the disclaimer'
    )


def test_journey(visit, files):
    """One example opens by itself; a tile opens its card; the same file is noticed; controls
    redraw; table and report are downloaded; Clear can be undone"""
    page = visit()
    open_one_by_keyboard(page)
    page.click('.mel-btn.second')
    answered(page, 6)
    note = page.locator('#note', has_text='Already here')  # it comes after the tiles
    note.wait_for(state='visible')
    assert 'Example 3' in note.inner_text()
    page.click('#note button')
    page.locator('.tile').last.click()
    name = page.locator('.tile').last.locator('.name').inner_text()
    assert page.locator('h3:visible').inner_text() == name
    page.locator('article:visible details summary').click()
    assert 'melanocytic nevus' in page.locator('article:visible').inner_text()
    check_downloads(page)
    before = page.inner_text('.tiles')
    page.locator('.controls select').nth(1).select_option(index=1)
    until(page, 't => document.querySelector(".tiles").innerText !== t', before)
    page.wait_for_selector('article:visible >> text=Where 1.8% of the lesions')
    page.click('.mel-btn.clear')
    until(page, "!document.querySelector('.answers article')")
    page.click('.mel-btn.undo')
    answered(page, 6)


def open_one_by_keyboard(page):
    "The third example, reached with Tab, which shows where it is, and opened with Enter."
    thumb = page.locator('.thumb').nth(2)
    page.locator('.mel-btn.second').focus()
    for _ in range(3):
        page.keyboard.press('Tab')
    assert thumb.evaluate('e => e === document.activeElement')
    assert thumb.evaluate('e => getComputedStyle(e).outlineStyle') == 'solid'
    page.keyboard.press('Enter')
    answered(page, 1)
    assert page.locator('h3:visible').inner_text() == 'Example 3'


def check_downloads(page):
    "The table has a row per file and says which model; the report stands by itself."
    with page.expect_download() as taken:
        page.click('.take a >> nth=0')
    table = pd.read_csv(taken.value.path())
    assert taken.value.suggested_filename == 'risks.csv' and len(table) == 6
    assert table.sha256.nunique() == 1 and (table.low_percent <= table.risk_percent).all()
    assert (table.risk_percent <= table.high_percent).all()
    with page.expect_download() as taken:
        page.click('.take a >> nth=1')
    report = Path(taken.value.path()).read_text()
    assert report.count('<tr') == 7 and 'Not a medical device' in report
    unsure = (table.not_sure == 'yes').any()  # said where it is so
    assert ('Not sure: ' in report) == unsure
    phone = page.context.browser.new_page(viewport=dict(width=360, height=740))
    phone.set_content(report)
    assert phone.evaluate('document.documentElement.scrollWidth') <= 360
    narrowest = 'Math.min(...[...document.querySelectorAll("td")].map(cell => cell.offsetWidth))'
    assert phone.evaluate(narrowest) > 200
    phone.close()
    assert not re.search('<script|https?:', report)


def test_shares_of_others(visit):
    """Both published shares are offered beside the study's; each moves the open card, which says
    whose share it is, and stays chosen in another language."""
    page = visit()
    page.click('.thumb >> nth=0')
    answered(page, 1)
    places = page.locator('.controls select').nth(1)
    shown = [choice.inner_text() for choice in places.locator('option').all()]
    assert [words.replace('\xa0', ' ') for words in shown[2:]] == [
        'primary care: 2.5%', 'pigmented-lesion clinic: 2.2%', 'your own figure']
    places.select_option(index=2)
    page.wait_for_selector('article:visible >> text=Where 2.5% of the lesions are melanomas, as')
    places.select_option(index=3)
    page.wait_for_selector('article:visible >> text=as was counted per patient in a clinic')
    with page.expect_download() as taken:
        page.click('.take a >> nth=0')
    table = pd.read_csv(taken.value.path())
    assert set(table.prevalence_percent) == {2.18} and set(table.counted_on) == {'study'}
    assert table.prevalence_from[0].startswith('lesion_clinic: 96 of 4399, counted per patient')
    page.locator('.controls select').last.select_option(label='Deutsch')
    page.wait_for_selector('article:visible >> text=je Patient in einer Sprechstunde')


FOCUS = """() => {
    const element = document.activeElement;
    const {outlineStyle, outlineWidth} = getComputedStyle(element);
    const {top, bottom, width} = element.getBoundingClientRect();
    return {outlined: outlineStyle !== 'none' && parseFloat(outlineWidth) > 0,
        onScreen: width > 0 && bottom > 0 && top < innerHeight,
        nowhere: element === document.body, what: element.outerHTML.slice(0, 120)};
}"""


def seen_focus(page):
    "Whether the focus is on something; if so it shows there, in the window."
    page.wait_for_timeout(20)
    found = page.evaluate(FOCUS)
    if not found['nowhere']:
        assert found['outlined'] and found['onScreen'], found
    return not found['nowhere']


def tab_to(page, selector, backwards=False, most=80):
    "Press Tab until the focus is on what the selector names; it shows at each stop on the way."
    for _ in range(most):
        page.keyboard.press('Shift+Tab' if backwards else 'Tab')
        there = 'what => document.activeElement.matches(what)'
        if seen_focus(page) and page.evaluate(there, selector):
            return
    raise AssertionError(f'{selector} was not reached with {most} times Tab')


def taken_by_enter(page):
    "The text of the download that Enter on a link begins."
    with page.expect_download() as taken:
        page.keyboard.press('Enter')
    return Path(taken.value.path()).read_text()


def choose_by_keyboard(page):
    "Files, then the examples, whose answers are waited for."
    page.on('filechooser', lambda _: None)  # taken from now on: an Enter is sooner than the request
    tab_to(page, '.mel-btn.primary')
    with page.expect_file_chooser() as chooser:
        page.keyboard.press('Enter')
    chooser.value.set_files(PHANTOMS[:2])
    answered(page, 2)
    tab_to(page, '.mel-btn.second', backwards=page.evaluate(
        "!document.activeElement.matches('body, .mel-btn.primary')"))
    page.keyboard.press('Space')
    answered(page, 8)


def controls_by_keyboard(page):
    "Another share, another threshold; tiles and open card follow."
    before = page.locator('article:visible').inner_text()
    tab_to(page, '.controls > :nth-child(1) select', backwards=True)
    page.keyboard.press('ArrowDown')
    until(page, "before => ![...document.querySelectorAll('article')].some("
          "card => card.innerText === before)", before)
    assert seen_focus(page)
    tab_to(page, '.controls > :nth-child(2) select')
    page.keyboard.press('ArrowDown')
    page.wait_for_selector('article:visible >> text=Where 1.8% of the lesions')
    assert seen_focus(page)


def clear_and_undo_by_keyboard(page):
    "Clear hands the focus to Undo, and Undo to Clear."
    tab_to(page, '.mel-btn.clear', backwards=True)
    page.keyboard.press('Enter')
    until(page, "!document.querySelector('.answers article')")
    until(page, "document.activeElement.matches('.mel-btn.undo')", seconds=5)
    assert seen_focus(page)
    page.keyboard.press('Enter')
    answered(page, 8)
    until(page, "document.activeElement.matches('.mel-btn.clear')", seconds=5)
    assert seen_focus(page)


def test_by_keyboard(visit):
    """The whole journey with keys alone: files, examples, tiles, a card, controls, table, report,
    what is folded, Clear and Undo. At each stop it shows where the focus is."""
    page = visit()
    page.emulate_media(reduced_motion='reduce')
    choose_by_keyboard(page)
    tab_to(page, '.tile')
    tab_to(page, '.tile')
    name = page.evaluate("document.activeElement.querySelector('.name').textContent")
    page.keyboard.press('Enter')
    until(page, "document.activeElement.matches('article.answer')")
    assert seen_focus(page) and page.locator('h3:visible').inner_text() == name
    controls_by_keyboard(page)
    tab_to(page, '.take a')
    assert taken_by_enter(page).count('\n') == 9
    tab_to(page, '.take a')
    assert 'Not a medical device' in taken_by_enter(page)
    for place, said in enumerate(('Fingerprint', 'The threshold')):
        tab_to(page, 'details.more summary')
        page.keyboard.press('Enter')
        assert said in page.locator('details.more').nth(place).inner_text()
    clear_and_undo_by_keyboard(page)


SETTLED = """Promise.allSettled(document.getAnimations()
    .filter(one => one.effect.getComputedTiming().endTime < Infinity).map(one => one.finished))"""
AXE = """async () => {
    const {violations, incomplete} = await axe.run(document);
    const contrast = incomplete.filter(one => one.id === 'color-contrast');
    const where = nodes => nodes.slice(0, 5).map(node => node.target.join(' '));
    return [...violations, ...contrast].map(({id, impact, nodes}) => [id, impact, where(nodes)]);
}"""


def faults(page, axe):
    """What axe-core finds: violations of any severity, and contrasts that it could not measure. A
    colour that is just changing has not the contrast that it will have."""
    page.evaluate(axe)
    page.evaluate(SETTLED)
    return page.evaluate(AXE)


def too_wide(page):
    "The widths from 320 to 1920 pixels at which the page has to be moved sideways."
    before, found = page.viewport_size, []
    for width in (320, 600, 768, 1024, 1920):
        page.set_viewport_size(before | dict(width=width))
        page.wait_for_timeout(200)
        if page.evaluate('document.documentElement.scrollWidth > innerWidth'):
            found.append(width)
    page.set_viewport_size(before)
    return found


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('size', NARROW_AND_WIDE)
def test_axe(visit, files, axe, size, theme):
    """axe-core finds nothing, in light and in dark, on the empty page and with answers, folds
    open; nothing has to be moved sideways."""
    page = visit(size)
    page.emulate_media(color_scheme=theme, reduced_motion='reduce')
    page.wait_for_timeout(500)
    assert page.get_attribute('html', 'data-theme') == theme
    assert faults(page, axe) == [] and too_wide(page) == []
    choose(page, [*files, *PHANTOMS[:3]])
    answered(page, 7)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    assert faults(page, axe) == [] and too_wide(page) == []
    page.click('.tile.problem >> nth=0')
    assert faults(page, axe) == []


def reason_shown(page, language):
    "Why the file of text got no answer: its card says it in the language; the first card is open."
    english = 'it holds text, not an image; choose the photo itself (JPEG or PNG)'
    why = reason(english, language=language)
    page.click('.tile.problem')
    assert why in page.locator('article.problem:visible').inner_text()
    page.click('.tile >> nth=0')
    page.get_by_role('button', name=text('zoom', language=language)).click()
    page.get_by_role('button', name=text('zoom.close', language=language), exact=True).click()
    page.evaluate('scrollTo(0, 0)')  # half under the disclaimer, contrast cannot be measured
    return why


@pytest.mark.parametrize('language,choose_words,decimal', [
    ('de', 'Bilder auswählen', r'\d,\d\s%'), ('fr', 'Choisir des images', r'\d,\d\s%'),
    ('es', 'Elegir imágenes', r'\d,\d\s%')])
def test_language(visit, files, axe, language, choose_words, decimal):
    """The address chooses the language; the choice on the page changes it, answers and frame, and
    keeps what was chosen besides; the report is in the same language."""
    page = visit('narrow', query=f'?lang={language}')
    page.wait_for_selector(f'.mel-btn.primary >> text={choose_words}')
    assert page.get_attribute('html', 'lang') == language
    choose(page, [files[0], files[2]])
    answered(page, 2)
    said = page.locator('article:visible').inner_text()
    assert re.search(decimal, said) and 'risk of melanoma' not in said
    why = reason_shown(page, language)
    assert 'medical device' not in page.inner_text('footer.always')
    assert faults(page, axe) == [] and too_wide(page) == []
    page.locator('.controls select').nth(0).select_option(index=2)
    with page.expect_download() as taken:
        page.click('.take a >> nth=1')
    report = Path(taken.value.path()).read_text()
    sentence = f"{text('no_answer', language=language)}.</b> {why[0].upper()}{why[1:]}"
    assert f'<html lang="{language}">' in report and sentence in report
    page.locator('.controls select').last.select_option(label='English')
    page.wait_for_selector('.mel-btn.primary >> text=Choose images')
    until(page, "document.documentElement.lang == 'en'")
    page.wait_for_selector('article:visible >> text=risk of melanoma')
    said = page.locator('article:visible').inner_text()
    assert 'threshold for 98% sensitivity' in said
    assert 'Not a medical device' in page.inner_text('footer.always')


def shown_map(page, where):
    "How strongly the map covers the picture, 0 to 1, as drawn."
    return float(page.locator(f'{where} .over').evaluate('e => getComputedStyle(e).opacity'))


@pytest.mark.parametrize('theme', ['light', 'dark'])
@pytest.mark.parametrize('size', NARROW_AND_WIDE)
def test_picture(visit, axe, size, theme):
    """The map fades over the picture by keyboard, and stays so when the card is made anew; Enter on
    the picture opens both large, the disclaimer in view, and Escape gives the focus back."""
    page = visit(size)
    page.emulate_media(color_scheme=theme, reduced_motion='reduce')
    page.click('.thumb >> nth=0')
    answered(page, 1)
    slider = page.get_by_role('slider', name='How strongly the map covers the picture')
    assert shown_map(page, 'article:visible') == 0
    slider.focus()
    for _ in range(12):
        page.keyboard.press('ArrowRight')
    assert shown_map(page, 'article:visible') == .6
    page.locator('.controls select').nth(1).select_option(index=1)
    page.wait_for_selector('article:visible >> text=Where 1.8% of the lesions')
    assert slider.input_value() == '60' and shown_map(page, 'article:visible') == .6
    check_large(page, axe)


def check_large(page, axe):
    "The window with the large picture, from its opening to its end."
    page.locator('article:visible .zoom').focus()
    page.keyboard.press('Enter')
    page.wait_for_selector('dialog:modal')
    box = page.locator('dialog .stack').bounding_box()
    assert min(box['width'], box['height']) > 300 and abs(box['width'] - box['height']) < 2
    footer = page.locator('footer.always').bounding_box()['y']
    dialog = page.locator('dialog').bounding_box()
    assert dialog['y'] >= 0 and dialog['y'] + dialog['height'] <= footer
    assert shown_map(page, 'dialog') == .6 and faults(page, axe) == [] and too_wide(page) == []
    page.locator('dialog input').focus()
    page.keyboard.press('End')
    assert shown_map(page, 'dialog') == shown_map(page, 'article:visible') == 1
    page.keyboard.press('Escape')
    until(page, "!document.querySelector('dialog')")
    assert page.evaluate("document.activeElement.matches('article .zoom')")
    page.click('article:visible .zoom')
    page.get_by_role('button', name='Close', exact=True).click()
    until(page, "!document.querySelector('dialog')")


def test_patient_fields(visit, files):
    "What is typed of a patient is in table and report, as text, and nowhere else on the page."
    page = visit()
    choose(page, files[:1])
    answered(page, 1)
    for field, words in zip(page.locator('.patient input').all(), ['=1+1', '71', ''], strict=True):
        field.fill(words)
    site = page.locator('article:visible .body-site input')
    site.fill('<script>document.title = "caught"</script>')
    site.press('Tab')
    page.wait_for_timeout(500)
    with page.expect_download() as taken:
        page.click('.take a >> nth=0')
    table = pd.read_csv(taken.value.path())
    assert taken.value.suggested_filename == 'risks.csv'
    assert table[['patient', 'age']].iloc[0].tolist() == ["'=1+1", 71]
    assert table.site[0].startswith('<script>')
    with page.expect_download() as taken:
        page.click('.take a >> nth=1')
    report = Path(taken.value.path()).read_text()
    assert '<script' not in report and '=1+1' in report and '&lt;script&gt;' in report
    assert 'caught' not in page.title() and '=1+1' not in page.inner_text('body')
    choose(page, files[:1])  # known already; and these, too, would go to the patient who is named
    until(page, "document.querySelector('#note').innerText.includes('one patient: =1+1')")
    page.keyboard.press('Escape')
    until(page, "document.querySelector('#note').hidden")
    clear_and_undo(page)


def clear_and_undo(page):
    "Clear takes the patient's words along, and Undo brings them back; by keyboard alone."
    words = "document.querySelector('.patient input').value"
    site = "document.querySelector('.body-site input').value"
    until(page, "!document.querySelector('.mel-btn.clear').disabled")
    page.focus('.mel-btn.clear')
    page.keyboard.press('Enter')
    until(page, f"!{words} && !document.querySelector('.answers article')")
    until(page, "document.activeElement.matches('.undo')")
    page.keyboard.press('Enter')
    answered(page, 1)
    until(page, f"{words} === '=1+1' && document.activeElement.matches('.clear')")
    assert page.evaluate(site).startswith('<script>')


def taken_away(page):
    "Table and report, as they are downloaded."
    paths = []
    for link in range(2):
        with page.expect_download() as taken:
            page.click(f'.take a >> nth={link}')
        paths.append(Path(taken.value.path()))
    return pd.read_csv(paths[0]), unescape(paths[1].read_text())


def test_site_of_each_lesion(visit, files):
    """Each card takes the site of its lesion, typed or chosen. Tile, table and report have it, and
    neither a change of language nor a further image takes it away."""
    page = visit()
    choose(page, files[:2])
    answered(page, 2)
    offered = page.locator('#sites option').evaluate_all('all => all.map(one => one.value)')
    assert 'palms/soles' in offered and len(offered) == 8
    for number, site in ((1, 'palms/soles'), (2, 'left arm')):
        page.click(f'.tile[data-lesion="{number}"]')
        page.fill(f'#lesion-{number} .body-site input', site)
    page.click('.tile[data-lesion="1"]')  # leaves the field by a click on another tile
    page.wait_for_selector('.tile[data-lesion="2"] >> text=left arm')
    page.wait_for_selector('.tile[data-lesion="1"][aria-current]')
    choose(page, files[2:3])  # no picture
    answered(page, 3)
    page.click('.tile[data-lesion="1"]')
    page.locator('.controls .language select, #language').last.select_option(label='Deutsch')
    page.wait_for_selector(f"article:visible >> text={text('site', language='de')}")
    written = "[...document.querySelectorAll('.body-site input')].map(one => one.value).join()"
    assert page.evaluate(written) == 'palms/soles,left arm'
    table, report = taken_away(page)
    assert table.site.fillna('').tolist() == ['palms/soles', 'left arm', '']
    assert 'left arm' in report and 'palms/soles' in report


def test_clear_twice(visit, files):
    """Two presses of Clear take no more away than one; what comes back is in the language that was
    chosen meanwhile."""
    page = visit()
    choose(page, files[:1])
    answered(page, 1)
    page.dblclick('.mel-btn.clear')
    until(page, "!document.querySelector('.answers article')")
    page.locator('.controls .language select, #language').last.select_option(label='Deutsch')
    page.get_by_role('button', name=text('undo', language='de')).dblclick()
    answered(page, 1)
    assert text('benign', language='de') in page.inner_text('article:visible')
    until(page, "/^1 Bild/.test(document.querySelector('.status').innerText)")
    assert not page.locator('.errors article').count()


@pytest.fixture(scope='module')
def dark(tmp_path_factory):
    "A picture that is refused, with remarks that say how to take it again."
    path = tmp_path_factory.mktemp('dark') / 'dark.png'
    Image.new('RGB', (400, 300), (24, 14, 10)).save(path)
    return path


def test_refused_picture(visit, files, dark, axe):
    """A picture that gets no answer is shown on its tile, on its card, large, and in the report;
    the card says how to take it again, in the language of the page."""
    page = visit('narrow', query='?lang=de')
    choose(page, [dark, *files[:1]])
    answered(page, 2)
    page.click('.tile.problem')
    card = page.locator('article.problem:visible')
    assert reason('it is darker than almost all training images: use more light',
                  language='de')[1:] in card.locator('.warn').inner_text()
    for picture in (card.locator('.zoom img'), page.locator('.tile.problem img')):
        assert picture.evaluate('image => image.complete && image.naturalWidth') > 100
    assert faults(page, axe) == [] and too_wide(page) == []
    card.locator('.zoom').click()
    assert page.locator('dialog img').bounding_box()['width'] > 250
    page.keyboard.press('Escape')
    page.get_by_label(text('with_pictures', language='de')).check()
    until(page, "document.querySelector('.take').innerHTML !== window.before", seconds=5)
    page.wait_for_timeout(500)
    with page.expect_download() as taken:
        page.click('.take a >> nth=1')
    rows = Path(taken.value.path()).read_text().split('<tr')[2:]
    assert len(rows) == 2 and all('<img' in row for row in rows) and 'dark.png' in rows[1]


def test_training_image(visit, learnt, axe):
    """A picture that the model was trained on: its card, tile, report and table say so; those of
    another one do not."""
    page = visit('narrow', query='?lang=de')
    choose(page, [learnt, PHANTOMS[3]])
    answered(page, 2)
    said, remark = text('trained_on', language='de'), reason(TRAINED_ON, language='de')
    page.click('.tile:has(.learnt)')
    card = page.locator('article:visible')
    assert learnt.name in card.locator('h3').inner_text()
    assert card.locator('.mark.learnt').inner_text() == said
    assert remark[1:] in card.locator('.warn').inner_text()
    assert page.locator('.learnt').all_text_contents() == [said] * 2
    page.locator('.tile .learnt').evaluate("one => one.scrollIntoView({block: 'center'})")
    assert faults(page, axe) == [] and too_wide(page) == []
    table = table_of(page).set_index('file').warning.fillna('')
    assert TRAINED_ON in table[learnt.name] and TRAINED_ON not in table[PHANTOMS[3].name]
    with page.expect_download() as taken:
        page.click('.take a >> nth=1')
    assert Path(taken.value.path()).read_text().count(remark) == 1


def messages_follow_the_language(page, lines):
    "Messages that are still open are said anew in each language, with the names in them, and back."
    choice = page.locator('.controls .language select')
    for name, wait in (('Deutsch', 'Schon da'), ('Français', 'Déjà ici'), ('Español', 'Ya están')):
        choice.select_option(label=name)
        page.wait_for_selector(f'#note >> text={wait}')
        said = page.locator('#note p').all_inner_texts()
        assert len(said) == 2 and 'whole slide.tif' in said[0] and 'left shoulder' in said[1]
        assert not any(words in lines for words in said) and 'Save it' not in said[0]
    choice.select_option(label='English')
    page.wait_for_selector('#note >> text=Already here')
    assert page.locator('#note p').all_inner_texts() == lines


def test_messages_gather(visit, files, tmp_path):
    """A message does not take the place of one that was not closed yet; all are closed at once, and
    a later one stands alone."""
    big = tmp_path / 'whole slide.tif'
    with open(big, 'wb') as f:
        f.truncate(80 * 2**20)
    page = visit()
    for _ in range(2):
        choose(page, [files[0], big])
        page.wait_for_timeout(300)
        answered(page, 1)
    page.wait_for_selector('#note >> text=Already here')
    lines = page.locator('#note p').all_inner_texts()
    assert len(lines) == 2 and 'whole slide.tif' in lines[0] and 'left shoulder' in lines[1]
    messages_follow_the_language(page, lines)
    page.click('#note button')
    assert page.locator('#note').is_hidden()
    choose(page, files[:1])
    page.wait_for_selector('#note >> text=Already here')
    assert page.locator('#note p').count() == 1


LISTEN = """() => {
    window.heard = [];
    window.region = document.querySelector('[role=status]:not(#loading):not(#update)');
    new MutationObserver(() => heard.push(region.textContent))
        .observe(region, {childList: true, characterData: true, subtree: true});
}"""


def test_what_is_read_aloud(visit):
    """One element, which stays, tells a screen reader how the work begins and ends, and not each of
    many images; the line that is seen is none of these."""
    page = visit()
    page.evaluate(LISTEN)
    choose(page, PHANTOMS[:30])
    answered(page, 30)
    until(page, "heard.at(-1) === '30 images answered.'")
    heard = page.evaluate('heard')
    assert heard[0].startswith('Looking at 1 of 30') and 2 <= len(heard) <= 6, heard
    assert page.evaluate('region.isConnected')
    assert page.locator('.mel [role=status], .mel [aria-live]').count() == 0


def test_theme(visit):
    "The page follows the system until its button is pressed; what is printed is light."
    page = visit()
    paper = 'getComputedStyle(document.body).backgroundColor'
    light = page.evaluate(paper)
    page.emulate_media(color_scheme='dark')
    page.wait_for_selector('html[data-theme=dark]')
    assert page.evaluate(paper) != light
    page.emulate_media(color_scheme='dark', media='print')
    assert page.evaluate(paper) == light
    page.emulate_media(color_scheme='dark', media='screen')
    button = page.get_by_role('button', name='Dark page')
    assert button.get_attribute('aria-pressed') == 'true'
    button.click()
    assert page.evaluate(paper) == light and button.get_attribute('aria-pressed') == 'false'
    page.emulate_media(color_scheme='light')
    button.click()
    assert page.get_attribute('html', 'data-theme') == 'dark'


def test_forced_colours(visit):
    "Where the system sets the colours, bars and borders are still there."
    page = visit()
    page.emulate_media(forced_colors='active')
    page.click('.thumb >> nth=0')
    answered(page, 1)
    shown = """selector => {
        const style = getComputedStyle(document.querySelector(`article ${selector}`));
        return [style.backgroundColor, style.borderTopStyle];
    }"""
    canvas = page.evaluate('getComputedStyle(document.body).backgroundColor')
    for part in ('.scale .line', '.scale b', '.scale .range'):
        assert page.evaluate(shown, part)[0] not in (canvas, 'rgba(0, 0, 0, 0)')
    assert page.evaluate(shown, '.mark')[1] == 'solid'


def test_stop(visit):
    "A long batch can be stopped; what was answered stays, what was not is said; others wait."
    page = visit()
    choose(page, PHANTOMS[:60])
    page.wait_for_selector('.answers article', state='attached')
    assert page.locator('.mel-btn.primary').is_disabled()
    page.click('.mel-btn.stop')
    page.wait_for_selector('#note', state='visible')
    assert re.search(r'Stopped: \d+ of 60 files were not looked at', page.inner_text('#note'))
    page.wait_for_selector('.mel-btn.primary:not(:disabled)')
    assert 0 < page.locator('.answers article').count() < 60


def test_leaving_asks_first(visit, files):
    "Whoever leaves with answers on the page is asked; who stays keeps page and kernel."
    page = visit()
    choose(page, files[:1])
    answered(page, 1)
    asked = []
    page.on('dialog', lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.mouse.click(5, 5)
    page.evaluate("setTimeout(() => location.assign('about:blank'), 0)")
    page.wait_for_timeout(4000)
    assert asked == ['beforeunload']
    page.click('.mel-btn.second')
    answered(page, 7)


def test_too_much_at_once(visit, files, tmp_path):
    """A file that is too large is named with its size before anything is sent, and the rest is
    answered, in one go even where all together are larger; nothing dies in silence"""
    big = tmp_path / 'whole slide.tif'
    with open(big, 'wb') as f:
        f.truncate(80 * 2**20)
    page = visit()
    choose(page, [files[0], big])
    answered(page, 1)
    note = page.inner_text('#note')
    assert 'whole slide.tif (80 MB)' in note and '64 MB' in note
    choose(page, [big])
    until(page, "document.getElementById('note').textContent.includes('Save it smaller')")
    assert page.locator('.answers article').count() == 1
    choose(page, files[2:3])
    answered(page, 2)
    assert page.locator('#note').is_visible()  # it stays until it is closed
    page.click('#note button')
    assert page.locator('#note').is_hidden()


@pytest.fixture(scope='module')
def several(tmp_path_factory):
    "A page with two models to choose from, and one that was changed; files of at most 3 MB."
    folder = tmp_path_factory.mktemp('several')
    for name in ('first', 'second', 'changed'):
        shutil.copytree(ROOT / 'melanoma_nbdev/weights', folder / 'models' / name)
    with open(folder / 'models/changed/model.onnx', 'ab') as file:
        file.write(b'!')
    path = folder / 'models/second/card.json'
    card = json.loads(path.read_text())
    card |= dict(name='milder', calibration=dict(card['calibration'], temperature=9.0))
    write_card(path, card)
    command = [*PAGE, '--port', free_port(), '--no_browser', '--models', folder / 'models']
    server = Served([*command, '--max_upload', 3], folder, folder / 'log', wait=180)
    yield server
    server.stop()


def table_of(page):
    "The table that the page gives away."
    with page.expect_download() as taken:
        page.click('.take a >> nth=0')
    return pd.read_csv(taken.value.path())


def test_models(visit, several, files):
    """Of three models two are offered, and the changed one is named with the reason; another one
    answers anew what is on the page, which card and table say."""
    page = visit(url=several.url)
    assert 'changed is not offered: model.onnx has the hash' in several.log()
    assert 'changed' in page.inner_text('.refused') and 'hash' in page.inner_text('.refused')
    shown = page.locator('.controls select >> nth=2').locator('option').all_inner_texts()
    names = [name.replace('\xa0', ' ') for name in shown]
    assert [name.split()[0] for name in names] == ['first', 'second']
    choose(page, [PHANTOMS[3], files[2]])
    answered(page, 2)
    hashes = [re.search(r'\(\w{12}\)', name).group() for name in names]
    before = table_of(page)
    assert f'{before.model[0]} {hashes[0]}' in page.inner_text('article:visible')
    page.locator('.controls select >> nth=2').select_option(index=1)
    page.wait_for_selector(f'article:visible >> text=milder {hashes[1]}')
    answered(page, 2)
    after = table_of(page)
    assert set(after.model) == {'milder'} != set(before.model)
    assert after.score[0] != before.score[0] and after.file.tolist() == before.file.tolist()


def test_max_upload(visit, several, files):
    """The limit that the server was given is said, and holds for each file before it is sent; a
    batch may be larger."""
    page = visit(url=several.url)
    assert 'up to 3 MB each' in page.inner_text('.hint')
    copies = [files[0].read_bytes() + bytes(2**21 + number) for number in range(3)]
    large = dict(name='large.png', mimeType='image/png', buffer=files[1].read_bytes())
    choose(page, [large, *(dict(name=f'{number}.jpg', mimeType='image/jpeg', buffer=copy)
                           for number, copy in enumerate(copies))])
    answered(page, 3)
    assert 'large.png (28 MB)' in page.inner_text('#note')
    assert page.locator('.answers article.answer').count() == 3


GIVE = """([event, files]) => {
    const data = new DataTransfer();
    for (const [text, name] of files) {
        const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
        data.items.add(new File([bytes], name, {type: 'image/jpeg'}));
    }
    const options = {bubbles: true, cancelable: true};
    const made = event === 'drop' ? new DragEvent('drop', {dataTransfer: data, ...options})
        : new ClipboardEvent('paste', {clipboardData: data, ...options});
    document.querySelector('.drop').dispatchEvent(made);
}"""


def give(page, event, *files):
    "Files (name, bytes) by another way than the file chooser: `drop` or `paste`."
    packed = [[base64.b64encode(content).decode(), name] for name, content in files]
    page.evaluate(GIVE, [event, packed])


def test_drop(visit, files):
    "Files that are dropped on the page, or pasted, are taken as if they had been chosen."
    page = visit()
    for number, event in enumerate(('drop', 'paste'), 1):
        give(page, event, (f'{event}.jpg', PHANTOMS[number].read_bytes()))
        answered(page, number)
        page.wait_for_selector(f'h3:visible >> text={event}.jpg')


def test_nothing_is_taken_meanwhile(visit, files):
    "What is dropped while others are looked at is not taken, which is said."
    page = visit()
    choose(page, PHANTOMS[:20])
    page.wait_for_selector('.answers article', state='attached')
    give(page, 'drop', ('late.jpg', files[0].read_bytes()))
    page.wait_for_selector('#note >> text=still being looked at')
    answered(page, 20)
    assert 'late.jpg' not in page.locator('.answers h3').all_inner_texts()


PROGRESS = """() => {
    window.progress = new Set();
    new MutationObserver(() => {
        const bar = document.querySelector('.sending:not([hidden]) progress');
        if (bar) progress.add([bar.getAttribute('aria-label'), bar.value/bar.max].join('|'));
    }).observe(document.body, {childList: true, subtree: true, attributes: true});
}"""


def progress_of(page, paths):
    "The bar that stands on the page while files are taken: [(words, 0 to 1)]."
    page.evaluate(PROGRESS)
    choose(page, paths)
    answered(page, len(paths))
    lines = [line.rsplit('|', 1) for line in page.evaluate('[...progress]')]
    return [(words, float(part)) for words, part in lines]


def test_progress(visit, files):
    "Each file is named in the bar with its place, while it is taken; then the bar goes."
    page = visit()
    seen = progress_of(page, files)
    for place, path in enumerate(files, 1):
        named = [words for words, _ in seen if path.name in words]
        assert named and all(f'{place} of 4' in words for words in named), seen
    assert all(0 <= part <= 1 for _, part in seen) and page.locator('.sending').is_hidden()


def test_a_large_file_in_pieces(visit, files):
    "The bar of a file of 29 MB grows while the file is sent, and says how much of it is there."
    seen = progress_of(visit(), files[1:2])
    parts = [part for _, part in seen]
    assert len(set(parts)) > 20 and parts == sorted(parts) and parts[0] == 0 and parts[-1] == 1
    assert 'Sending 1 of 1: large.png (10 MB / 28 MB)' in [words for words, _ in seen]


STOP = """() => new MutationObserver((_, watch) => {
    const bar = document.querySelector('.sending:not([hidden]) progress');
    if (!(bar?.value > 0 && bar.value < bar.max)) return;
    watch.disconnect();
    document.querySelector('.mel-btn.stop').click();
}).observe(document.body, {childList: true, subtree: true, attributes: true})"""


TILES = "() => [...document.querySelectorAll('.tile')].map(tile => tile.dataset.lesion)"


def test_tiles_stay_while_more_come(visit):
    """A further image gets its tile in its place; those that are there stay, with the focus, and
    the order is that of tiles drawn anew."""
    page = visit()
    choose(page, PHANTOMS[:3])
    answered(page, 3)
    page.wait_for_timeout(200)  # until the page has marked the tile to be looked at first
    page.evaluate("""() => {
        const tiles = [...document.querySelectorAll('.tile:not([aria-current])')];
        window.before = tiles.map(tile => tile.closest('li'));
        window.before[1].querySelector('a').focus();
    }""")
    give(page, 'drop', *[(path.name, path.read_bytes()) for path in PHANTOMS[3:12]])
    answered(page, 12)
    assert page.evaluate('() => window.before.map(tile => tile.isConnected)') == [True, True]
    assert page.evaluate('() => window.before[1].contains(document.activeElement)')
    one_by_one = page.evaluate(TILES)
    page.locator('.controls select').nth(1).select_option(index=1)
    until(page, '!window.before[0].isConnected')
    assert one_by_one == page.evaluate(TILES) and len(one_by_one) == 12


SHOWN = """() => [...document.querySelectorAll('.tile')].filter(tile => tile.checkVisibility())
    .map(tile => [Number(tile.dataset.lesion), tile.querySelector('.name').textContent])"""


def shown_tiles(page):
    "Number and name of each tile that is to be seen, in their order."
    return [(number, name) for number, name in page.evaluate(SHOWN)]


def test_order_of_tiles(visit, files, axe):
    """The reader chooses by keyboard how tiles are ordered and whether only those to look at are
    shown; that holds for images that come later, too, and in another language. One image alone has
    nothing to choose."""
    page = visit('narrow')
    choose(page, files[2:3])
    answered(page, 1)
    assert not page.locator('.sorting').count()
    choose(page, [PHANTOMS[place] for place in (4, 0, 3, 2)])
    answered(page, 5)
    by_risk = shown_tiles(page)
    assert by_risk[-1] == (1, 'notes.jpg') and by_risk != sorted(by_risk)
    page.focus('.sorting select')
    page.keyboard.press('ArrowDown')
    assert shown_tiles(page) == sorted(by_risk)
    choose(page, PHANTOMS[1:2])
    answered(page, 6)
    assert [number for number, _ in shown_tiles(page)] == [1, 2, 3, 4, 5, 6]
    page.focus('.sorting select')
    page.keyboard.press('ArrowDown')
    names = [name for _, name in shown_tiles(page)]
    assert names == ['notes.jpg', *(path.name for path in PHANTOMS[:5])]
    only_those_to_look_at(page)
    assert faults(page, axe) == [] and too_wide(page) == []


def only_those_to_look_at(page):
    """What is under the threshold goes from the tiles, at a lower one too, and in German; the order
    stays."""
    count = len(shown_tiles(page))
    page.focus('.sorting input')
    page.keyboard.press('Space')
    some = shown_tiles(page)
    under = page.locator('.tile.below:visible, .tile.near:visible')
    assert 0 < len(some) < count
    assert all(text('unsure') in words for words in under.all_inner_texts())
    page.locator('.controls .language select, #language').last.select_option(label='Deutsch')
    page.wait_for_selector(f".sorting >> text={text('to_look_at', language='de')}")
    assert shown_tiles(page) == some and page.is_checked('.sorting input')
    assert page.input_value('.sorting select') == 'name'
    page.focus('.sorting input')
    page.keyboard.press('Space')
    assert len(shown_tiles(page)) == count


def test_stop_in_the_middle(visit, files):
    "Stop while a file is on its way: nothing of it is answered, and the page goes on."
    page = visit()
    page.evaluate(STOP)
    choose(page, [files[1], *PHANTOMS[:3]])
    page.wait_for_selector('#note', state='visible')
    left = re.search(r'Stopped: (\d) of 4 files', page.inner_text('#note'))
    page.wait_for_selector('.mel-btn.primary:not(:disabled)')
    assert page.locator('.sending').is_hidden()
    before = 4 - int(left[1])
    assert page.locator('.answers article').count() == before < 4
    choose(page, PHANTOMS[5:6])
    answered(page, before + 1)


def test_camera(visit, files):
    "A phone has a button for the camera at its back; where a mouse is at hand, there is none."
    page = visit('phone')
    camera = page.get_by_role('button', name='Take a photo')
    assert camera.count() == 0
    phone = dict(width=390, height=844, deviceScaleFactor=1, mobile=True)
    session = page.context.new_cdp_session(page)
    session.send('Emulation.setDeviceMetricsOverride', phone)
    session.send('Emulation.setTouchEmulationEnabled', dict(enabled=True))
    camera.wait_for(state='visible')
    assert camera.bounding_box()['height'] >= 40
    with page.expect_file_chooser() as chooser:
        camera.click()
    assert chooser.value.element.get_attribute('capture') == 'environment'
    assert not chooser.value.is_multiple()
    chooser.value.set_files(files[0])
    answered(page, 1)


def test_real_photo(visit):
    "A real dermoscopic JPEG, where the data is at hand"
    home = os.environ.get('MELANOMA_DATA')
    photos = sorted(Path(home).glob('ham10000/**/ISIC_*.jpg')) if home else []
    if not photos:
        pytest.skip('MELANOMA_DATA names no folder with HAM10000: no real photo was uploaded')
    page = visit()
    choose(page, photos[:3])
    answered(page, 3)
    assert page.locator('.answers article.answer').count() == 3


def test_no_inline_script_runs(visit):
    "A script that gets into the page, in an element or in an attribute, is stopped by the policy."
    page = visit()
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.harmed = 1';
        const image = document.createElement('img');
        image.setAttribute('onerror', 'window.harmed = 2');
        image.src = 'data:,';
        document.body.append(script, image);
    }""")
    page.wait_for_timeout(500)
    assert page.evaluate('window.harmed') is None


def test_scripts_come_in_one_piece(browser, served, files):
    """The scripts of Voila and the widgets come in one piece. In other versions than those that are
    listed some may come by themselves; here they are the listed ones."""
    listed = read_json(PAGE_FOLDER / SCRIPTS)
    assert listed['versions'] == {name: version(name) for name in listed['versions']}, (
        'run scripts/page_scripts.py')
    page, asked = browser.new_page(), []
    page.on('request', lambda request: asked.append(request.url))
    page.goto(served.url)
    page.wait_for_selector('.mel-btn.primary')
    choose(page, files[:1])
    answered(page, 1)
    pieces = [url for url in asked if re.search(r'/\d+\.\w+\.js', url)]
    assert pieces == [] and sum('page-scripts.js' in url for url in asked) == 1
    page.close()


def test_two_visitors(visit, files):
    "What one visitor uploads is not on another's page"
    a, b = visit(), visit('phone')
    choose(a, files[:1])
    answered(a, 1)
    assert b.locator('.answers article').count() == 0


def test_only_this_machine(served):
    """The page's rule for the browser names no other host, and the server listens on the loopback
    address alone"""
    r = urllib.request.urlopen(served.url, timeout=120)
    csp, html = r.headers['Content-Security-Policy'], r.read().decode()
    assert (
        "default-src 'none'" in csp
        and 'http:' not in csp
        and 'https:' not in csp
        and '*' not in csp
    )
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?:https?:)?//', html)
    scripts = re.search('script-src ([^;]*)', csp).group(1)
    assert 'unsafe-inline' not in scripts and 'data:' not in scripts
    inline = [tag for tag in re.findall('<script[^>]*>', html) if 'src=' not in tag]
    assert inline and all('json' in tag for tag in inline), inline
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
            [*PAGE, '--port', taken, '--no_browser'],
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
        page.click('.mel-btn.second')  # busy, and scrolled away
        page.mouse.wheel(0, 5000)
        srv.stop()
        until(page, "/connection .* is gone/.test(document.getElementById('gone').innerText)",
              seconds=5)
        assert page.locator('footer.always').is_visible()
        page.close()
    finally:
        srv.stop()
    assert 'Traceback' not in srv.log(), srv.log()[-2000:]


def test_options_with_hyphens(tmp_path):
    "Options may be written with hyphens as well; another one is an error, and so is a bad value."
    known = ['--no-browser', '--max-upload', 20, '--max-kernels', 4, '--idle-timeout=600']
    for more, why in ((['--max-files', 3], 'unrecognized arguments'),
                      (['--max-memory', 'much'], 'invalid int value'),
                      (['--host', '192.0.2.1', '--port', 0], 'no address of this machine')):
        done = run([*PAGE, *known, *more], ROOT)
        assert done.returncode in (1, 2) and why in done.stderr, done.stderr


# ---- nothing left behind


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    "A page for three visitors, with little patience and no process ahead of them."
    folder = tmp_path_factory.mktemp('small')
    command = [*PAGE, '--port', free_port(), '--no-browser']
    command += ['--max-kernels', 3, '--patience', 8, '--spares', 0]
    server = Served(command, folder, folder / 'log', wait=180)
    yield server
    server.stop()


def is_kernel(process):
    "Is this a kernel, and alive?"
    try:
        return 'ipykernel_launcher' in ' '.join(process.cmdline())
    except psutil.Error:
        return False


def kernels(server):
    "The kernels that a server runs."
    return list(filter(is_kernel, psutil.Process(server.process.pid).children(recursive=True)))


def wait_for_kernels(server, number, seconds=5):
    "Wait until so many kernels run."
    end = time.time() + seconds
    while time.time() < end and len(kernels(server)) != number:
        time.sleep(0.1)
    assert len(kernels(server)) == number


def ask(server, path='/', **headers):
    "The answer to a plain request: (status, headers, text)."
    port = int(re.search(r':(\d+)', server.url[6:]).group(1))
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=60)
    connection.request('GET', path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


def test_leaving_ends_the_kernel(visit, small):
    "After a visit no kernel is left within 5 s, however it ended; after a reload there is one."
    wait_for_kernels(small, 0, 90)
    page = visit(url=small.url)
    wait_for_kernels(small, 1)
    page.reload(wait_until='commit')
    page.wait_for_selector('.mel-btn.primary')
    wait_for_kernels(small, 1)
    page.goto('about:blank')
    wait_for_kernels(small, 0)
    page = visit(url=small.url)
    page.close()
    wait_for_kernels(small, 0)


def come_and_go(visit, server, visits):
    """So many visits, one after another; how many files and sockets the server has open when the
    browser, too, has let go of its connections."""
    for _ in range(visits):
        page = visit(url=server.url)
        page.click('.thumb')
        answered(page, 1)
        page.close(run_before_unload=False)
        wait_for_kernels(server, 0)
    time.sleep(2)
    return psutil.Process(server.process.pid).num_fds()


def test_leaving_closes_what_the_server_opened(visit, small):
    "After five more visits the server has no more open than before; each connects four sockets."
    wait_for_kernels(small, 0, 90)
    before = come_and_go(visit, small, 1)
    assert come_and_go(visit, small, 5) < before + 8


def test_plain_request_leaves_no_kernel(small):
    "A request without a browser behind it starts no kernel that stays, and no cookie does either."
    wait_for_kernels(small, 0, 90)
    status, headers, text = ask(small)
    assert status == 200 and 'Not a medical device' in text
    assert text.index('Not a medical device') < text.index('id="jupyter-config-data"')
    cookies = headers.get_all('Set-Cookie')
    assert [cookie.split('=')[0] for cookie in cookies] == ['_xsrf']
    assert 'expires' not in cookies[0].lower() and 'samesite=strict' in cookies[0].lower()
    wait_for_kernels(small, 0, 90)


def test_token(tmp_path):
    """Who gives the token, gets a cookie in its place, which ends with the browser and goes with no
    request of another site; `--port 0` takes a port that is free and says which."""
    command = [*PAGE, '--port', 0, '--no_browser', '--spares', 0, '--token', 'a-word']
    server = Served(command, tmp_path, tmp_path / 'log', wait=180)
    try:
        assert ask(server)[0] == 302  # to the page that asks for the token
        status, headers, text = ask(server, '/?token=a-word')
        assert status == 200 and 'Not a medical device' in text
        cookies = headers.get_all('Set-Cookie')
        known = next(cookie for cookie in cookies if cookie.startswith('username-'))
        assert {cookie.split('=')[0].split('-')[0] for cookie in cookies} == {'_xsrf', 'username'}
        for cookie in cookies:
            assert 'expires' not in cookie.lower() and 'max-age' not in cookie.lower()
            assert 'samesite=strict' in cookie.lower()
        assert 'httponly' in known.lower()
        assert ask(server, Cookie=known.split(';')[0])[0] == 200
        assert ask(server, Cookie='username-127-0-0-1=another')[0] == 302
    finally:
        server.stop()


@pytest.fixture(scope='module')
def patient(tmp_path_factory):
    "A page whose lost connections may come back for two minutes."
    folder = tmp_path_factory.mktemp('patient')
    command = [*PAGE, '--port', free_port(), '--no_browser']
    command += ['--max_kernels', 4, '--patience', 120, '--spares', 0]
    server = Served(command, folder, folder / 'log', wait=180)
    wait_for_kernels(server, 0, 40)
    yield server
    server.stop()


def break_off(server, enough):
    "Ask for the page, and hang up once so much of it has come."
    port = int(re.search(r':(\d+)', server.url[6:]).group(1))
    with socket.create_connection(('127.0.0.1', port), timeout=60) as connection:
        connection.sendall(b'GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n' % port)
        come = b''
        while enough not in come:
            come += connection.recv(2**16)


def test_leaving_early_frees_the_place(visit, patient):
    """Who leaves before the socket is open, during the request or after it, keeps no place, while
    another stays on the page and answers."""
    page = visit(url=patient.url)
    stays = kernels(patient)
    for enough in (b'200 OK', b'kernelId'):
        break_off(patient, enough)
        wait_for_kernels(patient, 1, 8)
    context = page.context.browser.new_context(java_script_enabled=False)
    context.new_page().goto(patient.url)  # all of it has come, and nobody asks for its kernel
    assert len(kernels(patient)) == 2
    wait_for_kernels(patient, 1, 45)
    context.close()
    leaver = page.context.browser.new_page()
    leaver.route('**/channels*', lambda route: route.abort())
    leaver.goto(patient.url, wait_until='domcontentloaded')
    assert len(kernels(patient)) == 2
    leaver.close()
    wait_for_kernels(patient, 1, 45)
    assert kernels(patient) == stays and page.locator('#gone').is_hidden()
    page.click('.thumb >> nth=0')
    answered(page, 1)


@pytest.mark.parametrize('host', ['evil.example', 'localhost.evil.example:80', '10.1.2.3'])
def test_wrong_host_is_refused(small, host):
    "Who asks by another name gets nothing, and starts nothing."
    before = len(kernels(small))
    status, _, text = ask(small, Host=host)
    assert status == 403 and 'jupyter-config-data' not in text
    assert ask(small, '/voila/api/shutdown/0', Host=host)[0] in (403, 405)
    assert len(kernels(small)) == before


def test_wrong_origin_is_refused(visit, small):
    "A socket that another site opens is refused; so is a shutdown without the cookie."
    page = visit(url=small.url)
    kernel = kernel_of(page)
    upgrade = dict(
        Connection='Upgrade', Upgrade='websocket', Origin='http://evil.example',
        **{'Sec-WebSocket-Version': '13', 'Sec-WebSocket-Key': 'x' * 22 + '=='},
    )
    assert ask(small, f'/api/kernels/{kernel}/channels', **upgrade)[0] == 403
    request = urllib.request.Request(f'{small.url}voila/api/shutdown/{kernel}', b'')
    with pytest.raises(urllib.error.HTTPError, match='403'):
        urllib.request.urlopen(request)
    assert len(kernels(small)) == 1


def test_socket_stays_open(visit, small):
    "A page that is only looked at keeps its connection over the first ping."
    page = visit(url=small.url)
    page.wait_for_timeout(35_000)
    assert 'ping' not in small.log() and page.locator('#gone').is_hidden()


def kernel_of(page):
    "The name of a page's kernel."
    text = page.text_content('#jupyter-config-data')
    return re.search(r'"kernelId": "([\w-]+)"', text).group(1)


def next_kernel(server, before, seconds):
    "The one process of a server, once those of before are gone."
    end = time.time() + seconds
    while time.time() < end:
        found = kernels(server)
        if len(found) == 1 and found[0].pid not in before: return found[0]
        time.sleep(.1)
    raise AssertionError(f'no new process after {seconds} s: {found}')


def spare_of(server):
    "The process that waits, once that of a request which is no visitor's has come and gone."
    ask(server)
    seen, since, end = [], time.time(), time.time() + 90
    while time.time() < end:
        found = [kernel.pid for kernel in kernels(server)]
        if found != seen:
            seen, since = found, time.time()
        if len(found) == 1 and time.time() - since > 10:  # longer than a page may be silent
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f'no process waits alone: {seen}')


def test_one_waits(visit, tmp_path):
    """One process is there before its visitor, who gets it; then the next is started, as long as
    there is room. One that dies is replaced."""
    command = [*PAGE, '--port', free_port(), '--no_browser', '--max_kernels', 2]
    server = Served([*command, '--patience', 8], tmp_path, tmp_path / 'log', wait=180)
    try:
        first = spare_of(server)
        page = visit(url=server.url)
        wait_for_kernels(server, 2, 20)
        assert first in [kernel.pid for kernel in kernels(server)]
        other = visit(url=server.url)
        assert kernel_of(page) != kernel_of(other)
        assert ask(server)[0] == 503
        visitors = {kernel.pid for kernel in kernels(server)}
        page.close()
        other.close()
        waiting = next_kernel(server, visitors, 20)
        waiting.kill()
        waiting.wait(10)
        wait_for_kernels(server, 1, 20)
        assert visit(url=server.url).locator('.mel-btn.primary').is_visible()
    finally:
        server.stop()
    assert 'Traceback' not in server.log(), server.log()[-2000:]


GROW = """
import sys
from jupyter_client import BlockingKernelClient
client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file()
client.start_channels()
client.execute(f'import numpy; held = numpy.ones({sys.argv[2]} * 2**20, numpy.uint8)')
client.get_shell_msg(timeout=3)
"""


def grow(kernel, megabytes):
    "Let a kernel hold so much more, as its owner could by no click."
    words = kernel.cmdline()
    file = words[words.index('-f') + 1]
    subprocess.Popen([sys.executable, '-c', GROW, file, str(megabytes)], stderr=subprocess.DEVNULL)


def test_too_much_memory(visit, tmp_path):
    "A process that holds more than it may is ended, its page says so within 5 s, others stay."
    command = [*PAGE, '--port', free_port(), '--no_browser', '--max_memory', 400, '--spares', 0]
    server = Served(command, tmp_path, tmp_path / 'log', wait=180)
    try:
        page = visit(url=server.url)
        other = visit(url=server.url)
        name = kernel_of(page)
        large = next(one for one in kernels(server) if name in ' '.join(one.cmdline()))
        grow(large, 350)
        large.wait(20)
        page.wait_for_selector('#gone', state='visible', timeout=5000)
        assert 'too much memory' in page.inner_text('#gone')
        assert not large.is_running() and other.locator('#gone').is_hidden()
        assert '--max_memory 400' in server.log()
    finally:
        server.stop()


def test_memory_of_a_visitor(visit, files, small):
    "After large pictures a visitor's process holds at most 220 MB."
    wait_for_kernels(small, 0, 90)
    page = visit(url=small.url)
    choose(page, files[:2])
    answered(page, 2)
    assert kernels(small)[0].memory_info().rss < 220 * 2**20


def test_full(visit, small):
    """The fourth visitor of a page for three is told so, in a language of theirs, and gets in when
    one has left."""
    wait_for_kernels(small, 0, 90)
    pages = [visit(url=small.url) for _ in range(3)]
    status, headers, told = ask(small)
    assert status == 503 and headers['Retry-After'] and 'full for the moment' in told
    language = {'Accept-Language': 'pt-BR, de-AT;q=0.8, en;q=0.5'}
    for path, code in (('/', 'de'), ('/?lang=es', 'es'), ('/?lang=<b>', 'de')):
        told = ask(small, path, **language)[2]
        assert f'lang="{code}"' in told and text('full', language=code) in told, path
        assert text('not_device.lead', language=code) in told
    pages[0].close()
    wait_for_kernels(small, 2)
    assert visit(url=small.url).locator('.mel-btn.primary').is_visible()
    assert len(kernels(small)) == 3


@pytest.mark.parametrize('state', ['idle', 'busy'])
def test_dead_kernel_is_said(visit, small, state):
    "A kernel that dies is said within 5 s, in view wherever the reader is; a reload helps."
    wait_for_kernels(small, 0, 90)
    page = visit(url=small.url)
    if state == 'busy':
        choose(page, PHANTOMS[:60])
        page.wait_for_selector('.answers article', state='attached')
        page.mouse.wheel(0, 5000)
    kernels(small)[0].kill()
    page.wait_for_selector('#gone', state='visible', timeout=5000)
    box = page.locator('#gone').bounding_box()
    assert 0 <= box['y'] and box['y'] + box['height'] <= SIZES['laptop'][1]
    assert 'process behind this page has ended' in page.inner_text('#gone')
    page.mouse.click(600, 500)
    page.wait_for_timeout(1500)
    assert page.locator('#gone').is_visible() and not page.locator('.status .work').count()
    assert not page.locator('.sending:visible').count()
    page.click('#reload')
    page.wait_for_selector('.mel-btn.primary')
    assert page.locator('#gone').is_hidden()
