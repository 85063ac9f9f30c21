#!/usr/bin/env python3
"""Pictures of the page, to be looked at: empty, with one lesion, with twelve, with a refused one;
on a phone, a tablet and a laptop; light and dark; and the report as it comes out on A4.

    python scripts/page_screens.py --dest runs/screens
    python scripts/page_screens.py --widths 360 --themes dark --lesions 3 --dest runs/screens

Drawn lesions only. Each picture is of the whole page; a name ends in -window where it is of what
is in view. Needs Chromium (CHROMIUM names another one), Playwright and the full environment."""
import os
import tempfile
from pathlib import Path

from common import parser_of
from page_timing import FLAGS, PHANTOMS, answer, opened, server
from PIL import Image

HEIGHTS = {360: 740, 768: 1024, 1440: 900}


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--widths', type=int, nargs='+', default=list(HEIGHTS), help='pixels')
    parser.add_argument('--themes', nargs='+', default=['light', 'dark'], help='light, dark')
    parser.add_argument('--lesions', type=int, default=12, help='of the full page')
    parser.add_argument('--port', type=int, default=8893)
    parser.add_argument('--dest', type=Path, default=Path('runs/screens'), help='folder')
    return parser.parse_args()


def shoot(page, name, given):
    "The page at every width, whole and as it is in view."
    for width in given.widths:
        page.set_viewport_size(dict(width=width, height=HEIGHTS.get(width, 900)))
        page.wait_for_timeout(400)
        page.screenshot(path=given.dest/f'{name}-{width}-window.png')
        page.screenshot(path=given.dest/f'{name}-{width}.png', full_page=True)


def too_dark(folder):
    "A picture that is refused."
    path = Path(folder)/'too dark.png'
    Image.new('RGB', (400, 300), (24, 14, 10)).save(path)
    return path


def print_report(browser, page, given):
    "The report of the page as a PDF of A4, and how it looks."
    with page.expect_download() as taken: page.click('.take a >> nth=1')
    report = given.dest/'report.html'
    taken.value.save_as(report)
    paper = browser.new_page(viewport=dict(width=794, height=1123))
    paper.goto(report.resolve().as_uri())
    paper.emulate_media(media='print')
    paper.screenshot(path=given.dest/'report.png', full_page=True)
    paper.pdf(path=given.dest/'report.pdf', format='A4')
    paper.close()


def visit(browser, url, theme, folder, given):
    "All states of the page in one theme."
    page, _ = opened(browser, url)
    page.emulate_media(color_scheme=theme, reduced_motion='reduce')
    shoot(page, f'{theme}-1-empty', given)
    answer(page, [PHANTOMS[0]], 1)
    shoot(page, f'{theme}-2-one', given)
    answer(page, PHANTOMS[1:given.lesions], given.lesions)
    shoot(page, f'{theme}-3-many', given)
    if theme == given.themes[0]: print_report(browser, page, given)
    answer(page, [too_dark(folder)], given.lesions + 1)
    shoot(page, f'{theme}-4-refused', given)
    page.close()


def main():
    "Open the page and take the pictures."
    from playwright.sync_api import sync_playwright

    given = options()
    given.dest.mkdir(parents=True, exist_ok=True)
    program = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play, \
            server(given.port) as (_, url):
        browser = play.chromium.launch(executable_path=program, args=FLAGS)
        for theme in given.themes: visit(browser, url, theme, folder, given)
        browser.close()
    print(f"{len(list(given.dest.glob('*.png')))} pictures in {given.dest}")


if __name__ == '__main__':
    main()
