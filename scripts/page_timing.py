#!/usr/bin/env python3
"""Seconds and megabytes of the page, in a browser.

    python scripts/page_timing.py
    python scripts/page_timing.py --rounds 1 --torch 0 --dest try.json

Three pages take turns: with a process that is started for the visitor, with one that waited, and
the same page with torch and timm. Run it on an idle machine; the load before and after is written.
Needs Chromium (CHROMIUM names another one), Playwright and the full environment."""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import nbformat
import psutil
from common import RESULTS, ROOT, inherited, machine, parser_of
from PIL import Image

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()
READY = '.mel-btn.primary:not(:disabled)'
ANSWERED = f"""cards => document.querySelectorAll('.answers article').length >= cards
    && document.querySelector('{READY}') && !document.querySelector('.status .work')"""
"So many cards are there, and the page is free; asked seldom, as Playwright's waiting is not"
PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
SERVE = """
import sys
from melanoma_nbdev.bedside.serve import make_server
make_server(int(sys.argv[1]), **eval(sys.argv[2])).start()
"""


# ---- the server and its kernels

@contextmanager
def server(port, **options):
    "The page's process and its address."
    command = [sys.executable, '-c', SERVE, str(port), repr(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
                               env=inherited(PYTHONUNBUFFERED='1'))
    try:
        next(line for line in process.stdout if 'http' in line)
        yield process, f'http://127.0.0.1:{port}/'
    finally:
        process.terminate()
        process.wait()


def kernels(process):
    "The kernels of a server, the oldest first."
    return [one for one in psutil.Process(process.pid).children(recursive=True) if is_kernel(one)]


def is_kernel(process):
    "Is this a kernel, and alive?"
    try: return 'ipykernel_launcher' in ' '.join(process.cmdline())
    except psutil.Error: return False


def megabytes(process):
    "Resident memory of a process."
    return process.memory_info().rss/2**20


def wait_until_still(process, number, seconds=60):
    "Wait until a server has so many kernels and none of them works."
    end, before = time.time() + seconds, None
    while time.time() < end:
        try: now = [sum(kernel.cpu_times()[:2]) for kernel in kernels(process)]
        except psutil.Error: now = []
        if len(now) == number and now == before: return
        before = now
        time.sleep(1)
    raise RuntimeError(f'{len(kernels(process))} processes run, not {number}')


def kernel_of(page, process):
    "The kernel behind a page."
    config = json.loads(page.text_content('#jupyter-config-data'))
    return next(one for one in kernels(process) if config['kernelId'] in ' '.join(one.cmdline()))


# ---- what a visitor does

def answer(page, images, cards):
    "Hand over images, wait for so many answers in all; seconds."
    began = time.time()
    with page.expect_file_chooser() as chooser: page.click(READY)
    chooser.value.set_files(images)
    while not page.evaluate(ANSWERED, cards): page.wait_for_timeout(50)
    took = time.time() - began
    if page.query_selector('.answers .problem:not([id])'):
        raise RuntimeError(f'the page failed: {page.text_content(".answers .problem:not([id])")}')
    return took


def opened(browser, url):
    "A page whose widgets are ready, and the seconds that it took."
    page, began = browser.new_page(), time.time()
    page.set_default_timeout(300_000)
    page.goto(url, wait_until='commit')
    page.wait_for_selector(READY)
    return page, time.time() - began


def visit(browser, url, process, spares, big):
    "One visit: seconds until ready and for an image of each kind, megabytes of the kernel."
    wait_until_still(process, spares)
    page, ready = opened(browser, url)
    kernel = kernel_of(page, process)
    found = dict(ready_s=ready, ready_mb=megabytes(kernel))
    found['first_image_s'] = answer(page, [PHANTOMS[0]], 1)
    found['big_jpeg_s'] = answer(page, [big], 2)
    found['visitor_mb'] = megabytes(kernel)
    page.close()
    return found


def four_batches(browser, process, url, folder, size=60):
    "Seconds for each of four batches of different files on one page, and the kernel's memory."
    wait_until_still(process, 0)
    page, _ = opened(browser, url)
    kernel, seconds, held = kernel_of(page, process), [], []
    for batch in range(4):
        seconds.append(answer(page, different(folder, batch, size), (batch + 1)*size))
        held.append(megabytes(kernel))
    page.close()
    return dict(size=size, seconds=seconds, megabytes=held)


def different(folder, batch, size):
    "The same images in each batch, but no file twice: a number stands behind the image's end."
    paths = [Path(folder)/f'{batch}-{path.name}' for path in PHANTOMS[:size]]
    for number, path in enumerate(paths):
        source = PHANTOMS[number].read_bytes()
        path.write_bytes(source + f'{batch} {number}'.encode())
    return paths


def big_jpeg(folder):
    "A JPEG of 12 megapixels, as a phone takes it."
    path = Path(folder)/'big.jpg'
    Image.open(PHANTOMS[3]).convert('RGB').resize((4000, 3000)).save(path, quality=92)
    return path


def torch_notebook(folder):
    "A notebook that shows the page with torch and timm."
    lines = ['import sys', f'sys.path.insert(0, {str(ROOT/"scripts")!r})',
             'from torch_page import page', 'page()']
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell('\n'.join(lines))])
    notebook.metadata['kernelspec'] = dict(name='python3', display_name='python3',
                                           language='python')
    path = Path(folder)/'torch.ipynb'
    nbformat.write(notebook, path)
    return str(path)


# ---- the measurement

def median_and_range(visits):
    "Name -> median and range over visits."
    return {name: dict(median=statistics.median(values), lo=min(values), hi=max(values),
                       n=len(values))
            for name in visits[0] for values in [[found[name] for found in visits]]}


def summary(visits, batches, load):
    "Each page's figures, and how the page with torch compares."
    found = {name: median_and_range(of) for name, of in visits.items() if of}
    middle = {name: {what: row['median'] for what, row in of.items()} for name, of in found.items()}
    ratios = {}
    if 'torch' in middle:
        ratios = dict(ready=middle['torch']['ready_s']/middle['waiting']['ready_s'],
                      memory=middle['waiting']['visitor_mb']/middle['torch']['visitor_mb'])
    fourth = batches['seconds'][3]/batches['seconds'][0] if batches else None
    return dict(pages=found, ratios=ratios, batches=batches, fourth_to_first=fourth,
                cores=os.cpu_count(), load=load, machine=machine('voila', 'onnxruntime'))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--rounds', type=int, default=5, help='visits of each page')
    parser.add_argument('--torch', type=int, default=3, help='visits of the page with torch')
    parser.add_argument('--port', type=int, default=8970, help='and the two after it')
    parser.add_argument('--dest', type=Path, default=RESULTS/'page'/'timing.json',
                        help='file that is written')
    return parser.parse_args()


def measure(browser, given, folder):
    "Visits of each page in turns, then four batches on one page."
    big, visits = big_jpeg(folder), dict(new=[], waiting=[], torch=[])
    heavy = dict(spares=0, notebook=torch_notebook(folder), first_line='pass')
    kinds = dict(new=dict(spares=0), waiting=dict(spares=1), torch=heavy)
    if not given.torch: kinds.pop('torch')
    with ExitStack() as stack:
        pages = {name: (stack.enter_context(server(given.port + place, **kind)), kind['spares'])
                 for place, (name, kind) in enumerate(kinds.items())}
        for turn in range(given.rounds):
            for name, ((process, url), spares) in pages.items():
                if name == 'torch' and turn >= given.torch: continue
                visits[name].append(visit(browser, url, process, spares, big))
                print(name, visits[name][-1], flush=True)
        (process, url), _ = pages['new']
        return visits, four_batches(browser, process, url, folder)


def main():
    "Visit the pages, print and write what was found."
    given = options()
    from playwright.sync_api import sync_playwright
    chromium = os.environ.get('CHROMIUM', '/usr/bin/chromium')
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        visits, batches = measure(browser, given, folder)
        browser.close()
    found = json.dumps(summary(visits, batches, [*load, os.getloadavg()[0]]), indent=1)
    given.dest.parent.mkdir(parents=True, exist_ok=True)
    given.dest.write_text(found + '\n')
    print(found)


if __name__ == '__main__':
    main()
