#!/usr/bin/env python3
"""Which scripts of Voila and the widgets the page loads, in their order: what the server sends in
one piece.

    python scripts/page_scripts.py

To be run when another Voila, ipywidgets or anywidget is pinned. Needs Chromium (CHROMIUM names
another one), Playwright and the full environment. Writes
melanoma_nbdev/bedside/page/voila_scripts.json."""
import os
import re
from importlib.metadata import version

from common import parser_of
from page_timing import FLAGS, PHANTOMS, answer, server, wait_until_still
from playwright.sync_api import sync_playwright

from melanoma_nbdev.bedside.answer import PAGE_FOLDER
from melanoma_nbdev.bedside.serve import SCRIPTS
from melanoma_nbdev.core import write_json

CHUNK = re.compile(r'/voila/(?:static|labextensions)/((?:\S+/)?\d+\.\w+\.js)(?:\?v=\w+)?$')
"The address of a piece; a library's entry, which loads its pieces, stays a file of its own"


def versions():
    "Library -> version, of those whose scripts are listed."
    return {name: version(name) for name in ('voila', 'ipywidgets', 'anywidget')}


def options():
    "What the command line asks for: nothing."
    return parser_of(__doc__).parse_args()


def main():
    "Open the page with Voila's scripts one by one, and write their names."
    options()
    write_json(PAGE_FOLDER/SCRIPTS, dict(versions=versions(), names=[]))
    chromium, asked = os.environ.get('CHROMIUM', '/usr/bin/chromium'), []
    with server(8974, spares=0) as (process, url), sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=FLAGS)
        wait_until_still(process, 0)
        page = browser.new_page()
        page.on('request', lambda request: asked.extend(CHUNK.findall(request.url)))
        page.goto(url)
        answer(page, [PHANTOMS[0]], 1)
        browser.close()
    write_json(PAGE_FOLDER/SCRIPTS, dict(versions=versions(), names=asked))
    print(f'{len(asked)} scripts of', versions())


if __name__ == '__main__':
    main()
