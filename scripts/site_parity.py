#!/usr/bin/env python3
"""The static page beside Python: answers, seconds, megabytes.

    MELANOMA_DATA=... python scripts/site_parity.py
    MELANOMA_DATA=... python scripts/site_parity.py --browser firefox
    python scripts/site_parity.py --n 10 --rounds 1 --dest try.json
    MELANOMA_DATA=... python scripts/site_parity.py --only memory

Without MELANOMA_DATA only the embedded examples are answered. Needs npm, and Chromium (CHROMIUM
names another one) with Playwright, or Firefox (Debian's firefox-esr; FIREFOX names another one).
Writes parity.json or parity_firefox.json; with --only, that part of it, and the day to `anew`."""
import base64
import contextlib
import datetime
import functools
import gzip
import json
import os
import re
import shutil
import statistics
import tempfile
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from common import RESULTS, ROOT, machine, parser_of

from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.bedside.site import write_site
from melanoma_nbdev.core import data_home, read_json, write_json
from melanoma_nbdev.evidence.decisions import conformal_sets, set_words
from melanoma_nbdev.images import read_image

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
PROBE = (ROOT/'scripts'/'site_probe.js').read_text()
READY = '.mel-btn.primary'
FILES = 'input[multiple]'
CLEAR = '.mel-btn.third.clear'
CARDS = '.answers article'
FOLDERS = dict(ham10000='ham10000/images', siim2020='siim-isic-2020-300/jpeg')


class Counting(SimpleHTTPRequestHandler):
    "A plain file server that counts the bytes of the bodies it sends."
    sent = 0
    def log_message(self, *_): pass

    def copyfile(self, source, outputfile):
        data = source.read()
        Counting.sent += len(data)
        outputfile.write(data)


def served(folder):
    "A server of a folder, and its address."
    handler = functools.partial(Counting, directory=folder)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f'http://127.0.0.1:{server.server_port}/'


def stop(server):
    server.shutdown()
    server.server_close()


# ---- browsers

@contextlib.contextmanager
def chromium():
    "Chromium under Playwright."
    from playwright.sync_api import sync_playwright
    program = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        with contextlib.closing(browser): yield browser


@contextlib.contextmanager
def firefox():
    "The machine's own Firefox."
    from firefox import Firefox
    browser = Firefox(os.environ.get('FIREFOX', 'firefox-esr'))
    with contextlib.closing(browser): yield browser


BROWSERS = dict(chromium=chromium, firefox=firefox)


def pages_of(browser):
    "The processes that draw a browser's pages."
    if hasattr(browser, 'page_processes'): return browser.page_processes()
    session = browser.new_browser_cdp_session()
    processes = session.send('SystemInfo.getProcessInfo')['processInfo']
    session.detach()
    return [one['id'] for one in processes if one['type'] == 'renderer']


# ---- answers

def pictures(n, seed):
    "Source -> paths: the embedded examples, and images at random of each source at hand; n each."
    found = dict(examples=sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))[:n])
    home, random = data_home(), np.random.default_rng(seed)
    for name, folder in FOLDERS.items() if home else []:
        paths = sorted((home/folder).rglob('*.jpg'))
        picks = random.choice(len(paths), min(n, len(paths)), replace=False)
        found[name] = [paths[i] for i in sorted(picks)]
    return found


def as_text(data):
    return base64.b64encode(data).decode()


def expected(card, answer):
    "What Python says, in the form of the page's answer."
    if answer['error']: return dict(refused=answer['error'])
    p = answer['p_melanoma']
    thresholds = [point['threshold'] for point in card['operating_points']]
    called = [p >= threshold for threshold in thresholds if threshold is not None]
    word = str(set_words(conformal_sets([p], card['conformal']))[0])
    return dict(probs=answer['probs'], called=called, conformal=word, warnings=answer['warnings'])


def compared(page, python):
    "Two answers: largest difference of a probability, and which words differ."
    refused = [page.get('error'), python.get('refused')]
    same = dict.fromkeys(('decisions', 'conformal', 'order', 'warnings'), False)
    if any(refused):
        verdict = dict(refused=all(refused), refusals=refused[0] != refused[1])
        return same | verdict | dict(apart=0.0)
    order = [sorted(one['probs'], key=lambda name: -one['probs'][name]) for one in (page, python)]
    apart = max(abs(page['probs'][name] - p) for name, p in python['probs'].items())
    return dict(apart=apart, refused=False, refusals=False,
                decisions=page['called'] != python['called'],
                conformal=page['conformal'] != python['conformal'], order=order[0] != order[1],
                warnings=page['warnings'] != python['warnings'])


def of_pixels(page, predictor, path):
    "From the same pixels."
    image, _ = read_image(path)
    python = expected(predictor.card, predictor.run([(image, [])])[0])
    pixels = dict(data=as_text(image.tobytes()), width=image.width, height=image.height)
    return compared(page.evaluate('pixels => fromPixels(pixels)', pixels), python)


def of_file(page, predictor, path):
    "From the file, which each decodes by itself; with the seconds that the page took."
    python = expected(predictor.card, predictor.predict(path))
    found = page.evaluate('data => fromFile(data)', as_text(path.read_bytes()))
    return compared(found, python) | dict(seconds=found.get('seconds'))


def summed(rows):
    "Largest and 99th percentile of the differences, and how many words differ."
    apart = [row['apart'] for row in rows]
    words = {name: sum(row[name] for row in rows)
             for name in ('decisions', 'conformal', 'order', 'warnings', 'refusals', 'refused')}
    seconds = [row['seconds'] for row in rows if row.get('seconds')]
    timing = dict(ms_an_image=1000*statistics.median(seconds)) if seconds else {}
    spread = dict(n=len(rows), largest=max(apart), p99=float(np.quantile(apart, .99)))
    return spread | words | timing


def answers(browser, url, found):
    "Source -> what differs, from pixels and from files."
    page, predictor = browser.new_page(), load_artefact()
    page.goto(url)
    page.evaluate(PROBE)  # the engine alone, in the page's own thread
    ways, result = dict(pixels=of_pixels, files=of_file), {}
    for source, paths in found.items():
        result[source] = {way: summed([judge(page, predictor, path) for path in paths])
                          for way, judge in ways.items()}
        print(source, json.dumps(result[source]), flush=True)
    page.close()
    return result | dict(symmetries=predictor.views)


# ---- seconds and megabytes

def sizes(folder):
    "Megabytes of the folder, plain and with each file compressed by gzip."
    files = [path.read_bytes() for path in folder.rglob('*') if path.is_file()]
    packed = sum(len(gzip.compress(data, 9)) for data in files)
    return dict(plain_mb=sum(map(len, files))/1e6, gzip_mb=packed/1e6)


def visits(browser, url, n=5):
    "Seconds until ready on a first visit and on a second one; megabytes sent by a first one."
    first, second, sent = [], [], []
    for _ in range(n):
        context, before = browser.new_context(), Counting.sent
        for seconds in (first, second):
            page, began = context.new_page(), time.time()
            page.goto(url, wait_until='commit')
            page.wait_for_selector(READY)
            seconds.append(time.time() - began)
            page.evaluate('navigator.serviceWorker.ready.then(() => true)')
            if seconds is first: sent.append((Counting.sent - before)/1e6)
            page.close()
        context.close()
    return dict(first_s=statistics.median(first), second_s=statistics.median(second),
                sent_mb=max(sent), visits=n)


def megabytes(browser):
    "Proportional megabytes of each process that draws a page."
    texts = [Path(f'/proc/{process}/smaps_rollup').read_text() for process in pages_of(browser)]
    return [int(re.search(r'\nPss:\s+(\d+)', text).group(1))/1024 for text in texts]


WATCH = "() => { addEventListener('change', () => { window.began = performance.now(); }, true); }"
DONE = """cards => new Promise(resolve => {
    const look = () => {
        const there = document.querySelectorAll('.answers article').length >= cards;
        const working = document.querySelector('.mel-btn.primary').disabled;
        if (there && !working) resolve(performance.now() - window.began);
        else setTimeout(look, 2);
    };
    look();
})"""


def answered(page, paths):
    "Milliseconds from the choice of files until all have their card."
    page.set_input_files(FILES, paths)
    return page.evaluate(DONE, len(paths))


def opened(browser, url):
    "The page in a new tab, ready."
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector(READY)
    page.evaluate(WATCH)
    page.wait_for_timeout(2000)  # the second worker opens the model after the page is ready
    return page


def speed(browser, url, paths, n=20):
    "Milliseconds an image, many together and one alone, by the page's workers; medians."
    page, together, alone = opened(browser, url), [], []
    workers = int(page.evaluate('document.documentElement.dataset.workers'))
    for _ in range(3):
        together.append(answered(page, paths[:n])/n)
        page.click(CLEAR)
    for path in paths[:n]:
        alone.append(answered(page, [path]))
        page.click(CLEAR)
    page.close()
    return dict(workers=workers, images=n, ms_an_image=statistics.median(together),
                ms_one_alone=statistics.median(alone))


def memory(browser, url, paths, rounds):
    "Megabytes of the tab when ready, and after each round of all images, which are then cleared."
    page, found = opened(browser, url), []
    ready = max(megabytes(browser))
    for _ in range(rounds):
        answered(page, paths)
        found.append(max(megabytes(browser)))
        page.click(CLEAR)
    page.close()
    return dict(ready_mb=ready, after_60_images_mb=found, most_mb=max(found))


# ---- manners

def offline(browser, site):
    "Answers of a second visit with the server gone."
    context, (server, url) = browser.new_context(), served(site)
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(READY)
    page.evaluate('navigator.serviceWorker.ready.then(kept => kept.active.state)')
    page.wait_for_timeout(500)
    stop(server)
    page.close()
    page = context.new_page()
    page.goto(url)
    page.wait_for_selector(READY)
    page.click('.mel-btn.second')
    page.wait_for_selector('.take a')
    found = page.evaluate(f"document.querySelectorAll('{CARDS}').length")
    context.close()
    return found


def refused(browser, site, name):
    "What the page says with a bit flipped in one of its files."
    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder)/'site'
        shutil.copytree(site, damaged)
        data = bytearray((damaged/name).read_bytes())
        data[len(data)//2] ^= 1
        (damaged/name).write_bytes(data)
        (server, url), page = served(damaged), browser.new_page()
        page.goto(url)
        page.wait_for_selector('#gone p')
        words = page.evaluate("document.querySelector('#gone p').textContent")
        page.close()
        stop(server)
    return words


def manners(browser, site):
    "Without a network, and with a changed file."
    parts = 'model.onnx', 'seen.bin', 'card.json'
    return dict(offline_answers=offline(browser, site),
                flipped_bit={name: refused(browser, site, name) for name in parts})


# ---- the command

def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--browser', choices=BROWSERS, default='chromium')
    parser.add_argument('--n', type=int, default=300, help='images of each source')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rounds', type=int, default=10, help='of 60 images, for the memory')
    parser.add_argument('--only', choices=[*MEASURES, 'sizes'],
                        help='this part of a file that is there')
    parser.add_argument('--dest', type=Path, help='file that is written')
    given = parser.parse_args()
    name = 'parity.json' if given.browser == 'chromium' else f'parity_{given.browser}.json'
    given.dest = given.dest or RESULTS/'site'/name
    return given


def some_images(given):
    "60 images that differ, since a repeated file would get no card."
    return [*pictures(60, given.seed).values()][-1]


MEASURES = dict(
    visits=lambda browser, url, given: visits(browser, url),
    speed=lambda browser, url, given: speed(browser, url, some_images(given)),
    memory=lambda browser, url, given: memory(browser, url, some_images(given), given.rounds),
    answers=lambda browser, url, given: answers(browser, url, pictures(given.n, given.seed)))


def measured(browser, site, given):
    "Name of each part that is asked for -> what was found of the page in one browser."
    server, url = served(site)
    parts = {name: measure(browser, url, given) for name, measure in MEASURES.items()
             if given.only in (None, name)}
    stop(server)
    return parts


def everything(browser, site, given):
    "All that the file holds."
    result = dict(n=given.n, seed=given.seed, machine=machine('Pillow', 'onnxruntime'),
                  cores=os.cpu_count(), sizes=sizes(site))
    result |= {given.browser: browser.version} | measured(browser, site, given)
    return result | manners(browser, site) | dict(load=os.getloadavg()[0])


def one_part(browser, site, given):
    "The file with one part measured anew."
    old, today = read_json(given.dest), datetime.date.today().isoformat()
    anew = old.get('anew', {}) | {given.only: today}
    found = (dict(sizes=sizes(site)) if given.only == 'sizes'
             else measured(browser, site, given))
    return old | found | dict(anew=anew)


def main():
    "Write the page, open it, print and write what was found."
    given = options()
    with tempfile.TemporaryDirectory() as folder, BROWSERS[given.browser]() as browser:
        site = write_site(Path(folder)/'site')
        result = (one_part if given.only else everything)(browser, site, given)
    given.dest.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.dest, result)
    print(given.dest.name)


if __name__ == '__main__':
    main()
