#!/usr/bin/env python3
"""Milliseconds from the change of a control to the last change of the tiles, on both faces.

    python scripts/page_redraw.py
    python scripts/page_redraw.py --n 4 --dest try.json

A page with twelve answers, in Chromium; share and threshold are changed in turns. `tiles` is the
time to the last change among the tiles, `page` to the last one of tiles, cards, status and links.
The load before and after is written. Needs npm, Chromium (CHROMIUM names another one) and
Playwright."""
import os
import statistics
import tempfile
from pathlib import Path

from common import RESULTS, machine, parser_of
from page_timing import FLAGS, PHANTOMS, READY, answer, server, wait_until_still
from site_parity import served, stop

from melanoma_nbdev.bedside.site import write_site
from melanoma_nbdev.core import write_json

LESIONS = 12
CHANGE = """([place, quiet]) => new Promise(done => {
    const control = document.querySelectorAll('.controls select')[place];
    const last = {tiles: 0, page: 0}, began = performance.now();
    const watch = new MutationObserver(changes => {
        const now = performance.now() - began;
        const inTiles = ({target}) => target.nodeType && target.parentElement?.closest('.overview')
            || target.matches?.('.overview');
        last.page = now;
        if (changes.some(inTiles)) last.tiles = now;
        clearTimeout(over);
        over = setTimeout(end, quiet);
    });
    const end = () => { watch.disconnect(); done(last); };
    let over = setTimeout(end, 5000);
    for (const part of ['.overview', '.answers', '.bar']) {
        watch.observe(document.querySelector(part),
            {childList: true, subtree: true, attributes: true, characterData: true});
    }
    control.selectedIndex = (control.selectedIndex + 1) % 2;
    for (const name of ['input', 'change']) control.dispatchEvent(new Event(name, {bubbles: true}));
})"""
"Changes a control; when nothing has changed for some milliseconds, says when the last change was"


def changes_of(browser, url, number, quiet=700):
    "The times of so many changes on a page with twelve answers."
    page = browser.new_page()
    page.set_default_timeout(300_000)
    page.goto(url, wait_until='commit')
    page.wait_for_selector(READY)
    answer(page, PHANTOMS[:LESIONS], LESIONS)
    page.wait_for_timeout(quiet)
    found = [page.evaluate(CHANGE, [turn % 2, quiet]) for turn in range(number)]
    page.close()
    return found


def median_and_most(found):
    "Of what was timed: how often, the median and the most, in milliseconds."
    rows = {}
    for what in found[0]:
        values = [one[what] for one in found]
        rows[what] = dict(n=len(values), median_ms=round(statistics.median(values), 1),
                          max_ms=round(max(values), 1))
    return rows


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--n', type=int, default=40, help='changes on each face')
    parser.add_argument('--port', type=int, default=8990)
    parser.add_argument('--dest', type=Path, default=RESULTS/'page'/'redraw.json',
                        help='file that is written')
    return parser.parse_args()


def measure(browser, given, folder):
    "Both faces, one after the other."
    with server(given.port, spares=0) as (process, url):
        wait_until_still(process, 0)
        voila = changes_of(browser, url, given.n)
    host, url = served(write_site(Path(folder)/'page'))
    static = changes_of(browser, url, given.n)
    stop(host)
    return dict(voila=median_and_most(voila), static=median_and_most(static))


def main():
    "Change the controls, print and write what was found."
    given = options()
    from playwright.sync_api import sync_playwright
    chromium = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        faces = measure(browser, given, folder)
        browser.close()
    said = dict(lesions=LESIONS, faces=faces, cores=os.cpu_count(),
                load=[*load, os.getloadavg()[0]], machine=machine('voila', 'onnxruntime'))
    write_json(given.dest, said)
    print(said)


if __name__ == '__main__':
    main()
