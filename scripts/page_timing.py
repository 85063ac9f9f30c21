#!/usr/bin/env python3
"""Seconds and megabytes of the page, in a browser.

    python scripts/page_timing.py
    python scripts/page_timing.py --visits 2 --dest try.json

Run it on an idle machine. Needs Chromium (CHROMIUM names another one) and Playwright. The first
visit stands apart. Writes page_timing.json."""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from common import RESULTS, ROOT, parser_of
from PIL import Image

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
READY = '.mel-btn.primary'
EXAMPLES = '.mel-btn.second'


def kernel_megabytes(server):
    "Resident megabytes of each of the server's kernels."
    children = Path(f'/proc/{server}/task/{server}/children').read_text().split()
    kernels = [child for child in children
               if 'ipykernel' in Path(f'/proc/{child}/cmdline').read_text()]
    sizes = [re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{child}/status').read_text())
             for child in kernels]
    return [int(size.group(1))/1024 for size in sizes]


@contextmanager
def server(port):
    "The page's process, its address, and the seconds until it answered."
    began, program = time.time(), [sys.executable, '-m', 'melanoma_nbdev.bedside.serve']
    process = subprocess.Popen(
        [*program, '--no_browser', '--port', str(port)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'})
    try:
        line = next(line for line in process.stdout if 'http' in line)
        yield process, re.search(r'http\S+', line).group(), time.time() - began
    finally:
        process.terminate()
        process.wait()


def answer(page, image, cards):
    "Hand over an image (the examples where None), wait for so many answers in all; seconds."
    began = time.time()
    if image is None: page.click(EXAMPLES)
    else:
        with page.expect_file_chooser() as chooser: page.click(READY)
        chooser.value.set_files([image])
    done = (f"document.querySelectorAll('article').length == {cards} "
            "&& document.querySelector('.status a')")
    page.wait_for_function(done, timeout=120_000)
    return time.time() - began


def visit(browser, url, images, process):
    "One visit: seconds until ready and for each task, and megabytes of the kernel."
    page, cards = browser.new_page(), 0
    began = time.time()
    page.goto(url, wait_until='commit')
    page.wait_for_selector(READY)
    record = dict(ready=time.time() - began)
    for name, (image, more) in images.items():
        cards += more
        record[name] = answer(page, image, cards)
    record['kernel_mb'] = max(kernel_megabytes(process.pid))
    page.close()
    time.sleep(1)
    return record


def pictures(folder):
    "Task -> image (the six examples where None) and how many answers it adds."
    big = Path(folder)/'big.png'
    pixels = np.random.default_rng(0).integers(0, 256, (3000, 3220, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(big)
    small = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))[0]
    return dict(one_image=(small, 1), big_png=(big, 1), six_examples=(None, 6))


def summary(seconds, visits):
    "The first visit, and median and range of the later ones."
    later = {}
    for name in visits[0]:
        values = [record[name] for record in visits[1:]]
        later[name] = dict(median=statistics.median(values), lo=min(values), hi=max(values))
    return dict(first_visit=dict(server=seconds, ready=visits[0]['ready']), later_visits=later,
                cores=os.cpu_count(), load=os.getloadavg()[0])


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--visits', type=int, default=6, help='two at least')
    parser.add_argument('--port', type=int, default=8970)
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence'/'page_timing.json',
                        help='file that is written')
    return parser.parse_args()


def main():
    "Visit the page, print and write the seconds."
    given = options()
    from playwright.sync_api import sync_playwright
    chromium = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        images = pictures(folder)
        with server(given.port) as (process, url, seconds):
            browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            visits = [visit(browser, url, images, process) for _ in range(given.visits)]
            browser.close()
    found = json.dumps(summary(seconds, visits), indent=1)
    given.dest.write_text(found + '\n')
    print(found)


if __name__ == '__main__':
    main()
