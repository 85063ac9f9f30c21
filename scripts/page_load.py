#!/usr/bin/env python3
"""Visitors by the dozen: is each answered or told that the page is full, and is all given back?

    python scripts/page_load.py
    python scripts/page_load.py --in_turn 2 --at_once 2 --leaving 4 --dest try.json

Twenty visitors in turn with five images each, eight at once with five each, forty who come and
leave. `--limit MB` puts server and kernels into a memory group of that size (Linux, as root).
Needs Chromium (CHROMIUM names another one) and Playwright. The load of the machine is written."""
import json
import os
import random
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
from common import RESULTS, machine, parser_of
from page_timing import FLAGS, READY, answer, different, server, wait_until_still

GROUP = Path('/sys/fs/cgroup/memory/melanoma_page')


def held(process):
    "Resident megabytes of the server and all it started."
    total = 0
    try:
        parent = psutil.Process(process.pid)
        everyone = [parent, *parent.children(recursive=True)]
    except psutil.Error: return 0
    for one in everyone:
        try: total += one.memory_info().rss
        except psutil.Error: continue
    return total/2**20


@contextmanager
def memory_group(process, limit):
    "Server and kernels in a group that may hold so many MB (None: no group)."
    if limit:
        GROUP.mkdir(exist_ok=True)
        (GROUP/'memory.limit_in_bytes').write_text(str(limit*2**20))
        (GROUP/'cgroup.procs').write_text(str(process.pid))
    yield
    if limit: print('the group held at most', peak_of_group(), 'MB', flush=True)


def peak_of_group():
    "The most that the group held, in MB."
    return int((GROUP/'memory.max_usage_in_bytes').read_text())/2**20


class Watch(threading.Thread):
    "Notes the most that a server and its kernels hold."
    def __init__(self, process):
        super().__init__(daemon=True)
        self.process, self.peak, self.over = process, 0, False

    def run(self):
        while not self.over:
            self.peak = max(self.peak, held(self.process))
            time.sleep(.25)


# ---- visitors

def enter(browser, url):
    "A page on its way, and whether it is full."
    page = browser.new_page()
    page.set_default_timeout(300_000)
    reply = page.goto(url, wait_until='commit')
    return page, reply.status == 503


def ask(page, images):
    "Whether all images were answered."
    page.wait_for_selector(READY)
    answer(page, images, len(images))
    return True


def in_turn(browser, url, number, images):
    "Visitors one after another."
    found = dict(name='in turn', visitors=number, answered=0, full=0)
    for _ in range(number):
        page, is_full = enter(browser, url)
        found['full'] += is_full
        if not is_full: found['answered'] += ask(page, images)
        page.close()
    return found


def at_once(browser, url, number, images):
    "Visitors side by side: all have come before the first is answered."
    found = dict(name='at once', visitors=number, answered=0, full=0)
    pages = [enter(browser, url) for _ in range(number)]
    found['full'] = sum(is_full for _, is_full in pages)
    waiting = [page for page, is_full in pages if not is_full]
    for page in waiting:
        with page.expect_file_chooser() as chooser: page.click(READY)
        chooser.value.set_files(images)
    for page in waiting:
        last = page.locator('.answers article').nth(len(images) - 1)
        last.wait_for(state='attached', timeout=300_000)
        page.wait_for_selector(READY, timeout=300_000)
        found['answered'] += 1
    for page, _ in pages: page.close()
    return found


def leaving(browser, url, number, seed=0):
    "Visitors who leave within two seconds; who got the page counts as answered."
    found, draw = dict(name='leaving', visitors=number, answered=0, full=0), random.Random(seed)
    for _ in range(number):
        page, is_full = enter(browser, url)
        found['full'] += is_full
        found['answered'] += not is_full
        page.wait_for_timeout(2000*draw.random())
        page.close()
    return found


# ---- the measurement

def summary(rounds, before, after, peak, load, limits):
    "What became of the visitors, and of the memory."
    lost = sum(found['visitors'] - found['answered'] - found['full'] for found in rounds)
    return dict(rounds=rounds, lost=lost, before_mb=before, afterwards_mb=after, peak_mb=peak,
                afterwards_to_start=after/before, **limits, cores=os.cpu_count(),
                load=load, machine=machine('voila', 'onnxruntime'))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--in_turn', type=int, default=20)
    parser.add_argument('--at_once', type=int, default=8)
    parser.add_argument('--leaving', type=int, default=40)
    parser.add_argument('--max_kernels', type=int, default=8)
    parser.add_argument('--limit', type=int, help='MB for server and kernels together')
    parser.add_argument('--port', type=int, default=8980)
    parser.add_argument('--dest', type=Path, default=RESULTS/'page'/'load.json',
                        help='file that is written')
    return parser.parse_args()


def measure(browser, given, process, url, images):
    "All rounds, between two looks at the memory."
    wait_until_still(process, 1)
    at_once(browser, url, 1, images)  # the first visit loads what stays
    wait_until_still(process, 1)
    before, watch, load = held(process), Watch(process), [os.getloadavg()[0]]
    watch.start()
    rounds = []
    for name in ('in_turn', 'at_once', 'leaving'):
        more = () if name == 'leaving' else (images,)
        rounds.append(globals()[name](browser, url, getattr(given, name), *more))
        print(rounds[-1], flush=True)
        wait_until_still(process, 1, 120)
    watch.over = True
    load.append(os.getloadavg()[0])
    limits = dict(limit_mb=given.limit, max_kernels=given.max_kernels)
    return summary(rounds, before, held(process), watch.peak, load, limits)


def main():
    "Send the visitors, print and write what became of them."
    given = options()
    from playwright.sync_api import sync_playwright
    chromium = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, \
            server(given.port, max_kernels=given.max_kernels) as (process, url), \
            memory_group(process, given.limit):
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        found = measure(browser, given, process, url, different(folder, 0, 5))
        browser.close()
    text = json.dumps(found, indent=1)
    given.dest.parent.mkdir(parents=True, exist_ok=True)
    given.dest.write_text(text + '\n')
    print(text)


if __name__ == '__main__':
    main()
