#!/usr/bin/env python3
"""Pictures of the page to look at, and of the report as it is printed.

    python scripts/page_screens.py screens
    python scripts/page_screens.py screens --face static --width 360

Each face at three widths, in light and dark: empty, with one example, with twelve, with files that
get no answer. The report of the twelve is printed to A4. All images are drawn. Needs npm, Chromium
(CHROMIUM names another one) and Playwright."""
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from common import parser_of
from page_timing import FLAGS, PHANTOMS, READY, answer, server
from PIL import Image, ImageEnhance
from site_parity import served, stop

from melanoma_nbdev.bedside.site import write_site

FACES = ('voila', 'static')
WIDTHS = {360: 740, 768: 1024, 1440: 900}
THEMES = ('light', 'dark')


def refused_files(folder):
    "A picture that is too dark, one without structure, and a text."
    dark, flat, text = (Path(folder)/name for name in ('dark.png', 'flat.png', 'notes.jpg'))
    ImageEnhance.Brightness(Image.open(PHANTOMS[5]).convert('RGB')).enhance(.1).save(dark)
    Image.new('RGB', (300, 240), (170, 120, 90)).save(flat)
    text.write_text('dear doctor, please find attached')
    return [dark, flat, text]


def states(folder):
    "What is on the page: name -> files."
    return dict(empty=[], one=PHANTOMS[3:4], twelve=PHANTOMS[:12], refused=refused_files(folder))


def opened(browser, url, width, theme):
    "A page of a width, in light or in dark, without movement."
    page = browser.new_page(viewport=dict(width=width, height=WIDTHS[width]))
    page.set_default_timeout(300_000)
    page.emulate_media(color_scheme=theme, reduced_motion='reduce')
    page.goto(url, wait_until='commit')
    page.wait_for_selector(READY)
    return page


def shoot(page, dest, name):
    "The window, the whole page, and the whole page with its folds open."
    page.wait_for_timeout(500)
    page.screenshot(path=dest/f'{name}.png')
    page.evaluate("document.querySelector('footer.always').style.position = 'static'")
    page.screenshot(path=dest/f'{name}-whole.png', full_page=True)
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    page.screenshot(path=dest/f'{name}-open.png', full_page=True)


def print_report(browser, page, dest, name):
    "The report that the page gives away, with pictures, as a PDF of A4 and as a picture."
    page.get_by_label('with pictures').check()
    page.wait_for_timeout(1000)
    with page.expect_download() as taken: page.locator('.take a').nth(1).click()
    report = browser.new_page(viewport=dict(width=794, height=1123))
    report.set_content(Path(taken.value.path()).read_text())
    report.emulate_media(media='print')
    report.pdf(path=dest/f'{name}.pdf', format='A4', prefer_css_page_size=True)
    report.screenshot(path=dest/f'{name}.png', full_page=True)
    report.close()


def shoot_face(browser, face, url, given, folder):
    "All pictures of one face."
    for width in given.width or WIDTHS:
        for theme in THEMES:
            for state, files in states(folder).items():
                page = opened(browser, url, width, theme)
                if files: answer(page, files, len(files))
                shoot(page, given.dest, f'{face}-{width}-{theme}-{state}')
                if state == 'twelve' and width == max(WIDTHS) and theme == 'light':
                    print_report(browser, page, given.dest, f'{face}-report')
                page.close()


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('dest', type=Path, help='folder for the pictures')
    parser.add_argument('--face', choices=FACES, action='append', help='one of them')
    parser.add_argument('--width', type=int, choices=WIDTHS, action='append', help='one of them')
    parser.add_argument('--port', type=int, default=8995)
    return parser.parse_args()


def main():
    "Open the page in all its states and keep what it looks like."
    given = options()
    given.dest.mkdir(parents=True, exist_ok=True)
    from playwright.sync_api import sync_playwright
    chromium = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for face in given.face or FACES:
            if face == 'voila': _, url = stack.enter_context(server(given.port))
            else:
                host, url = served(write_site(Path(folder)/'page'))
                stack.callback(stop, host)
            shoot_face(browser, face, url, given, folder)
        browser.close()
    print(len(list(given.dest.iterdir())), 'files in', given.dest)


if __name__ == '__main__':
    main()
