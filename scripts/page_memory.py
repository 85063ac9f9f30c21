#!/usr/bin/env python3
"""Megabytes of a visitor's process, and what each measure against them saves.

    python scripts/page_memory.py
    python scripts/page_memory.py --dest try.json

A kernel is started as the server starts it, without and with each measure: that pandas, and with it
pyarrow, is not loaded; that large blocks are given back; that the network keeps nothing. It shows
the page and answers a drawn example, a photograph of 12 megapixels and a batch of 30. Resident
memory (RSS) and its proportional share (PSS, which counts what several processes use in parts) are
read from outside, on Linux with glibc. The first lines are timed in seconds of processor."""
import json
from pathlib import Path

import psutil
from common import RESULTS, inherited, machine, parser_of
from jupyter_client.manager import start_new_kernel

from melanoma_nbdev.bedside.serve import FIRST_LINE, LARGE_BLOCK

NO_LIMIT = FIRST_LINE.format('None')
STEPS = dict(
    page="""
from melanoma_nbdev.bedside.app import MelanomaPage, load_artefact, own_model, package_dir
if not {lean}: own_model.cache_clear()
page = MelanomaPage(own_model() if {lean} else load_artefact(lean=False))""",
    example='page.example(0)',
    photograph="""
import io
from PIL import Image
files = sorted((package_dir() / 'examples/jpeg/train').glob('*.jpg'))
large, bytes_of = Image.open(files[3]).convert('RGB').resize((4000, 3000)), io.BytesIO()
large.save(bytes_of, 'jpeg', quality=92)
del large
page.answer([('large.jpg', bytes_of.getvalue(), '')])
del bytes_of""",
    batch='page.answer([(file.name, file, "") for file in files[5:35]])')
ALL = dict(tables=False, give_back=True, lean=True)
NONE = dict(tables=True, give_back=False, lean=False)
KINDS = dict(
    without=NONE, no_tables=NONE | dict(tables=False), give_back=NONE | dict(give_back=True),
    give_back_and_lean=NONE | dict(give_back=True, lean=True), with_all=ALL)


def environment(give_back):
    "What a kernel inherits."
    blocks = dict(MALLOC_MMAP_THRESHOLD_=str(LARGE_BLOCK)) if give_back else {}
    return inherited('MALLOC_', **blocks)


def held(process):
    "Megabytes of a process."
    found = process.memory_full_info()
    return dict(rss_mb=found.rss/2**20, pss_mb=found.pss/2**20)


def visit(tables, give_back, lean):
    "Name of a step -> megabytes after it; and seconds of processor until the page is there."
    manager, client = start_new_kernel(env=environment(give_back))
    process, found = psutil.Process(manager.provisioner.pid), {}
    first = f'import pandas; {NO_LIMIT}' if tables else NO_LIMIT
    for name, lines in dict(started=first, **STEPS).items():
        reply = client.execute_interactive(lines.format(lean=lean), timeout=600)
        if reply['content']['status'] != 'ok': raise RuntimeError(reply['content'])
        found[name] = held(process)
        if name == 'page': found['cpu_s'] = sum(process.cpu_times()[:2])
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    return found


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--dest', type=Path, default=RESULTS/'page'/'memory.json',
                        help='file that is written')
    return parser.parse_args()


def main():
    "Measure each kind, print and write."
    given, found = options(), {}
    for name, kind in KINDS.items():
        found[name] = visit(**kind)
        print(name, found[name], flush=True)
    words = machine('ipykernel', 'onnxruntime', 'pandas', 'pyarrow')
    text = json.dumps(dict(kinds=found, large_block=LARGE_BLOCK, machine=words), indent=1)
    given.dest.parent.mkdir(parents=True, exist_ok=True)
    given.dest.write_text(text + '\n')


if __name__ == '__main__':
    main()
