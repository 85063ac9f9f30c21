"""Seconds and megabytes of the page: `python scripts/page_timing.py` on an idle machine. Needs
Chromium and Playwright; prints, and writes page_timing.json beside itself."""

import json, os, re, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

ARGS = (
    '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking '
    '--disable-component-update --disable-sync'
).split()
HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def kernels(pid):
    "Resident megabytes of the server's kernels"
    kids = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    return [
        int(re.search(r'VmRSS:\s+(\d+)', Path(f'/proc/{k}/status').read_text()).group(1)) / 1024
        for k in kids
        if 'ipykernel' in Path(f'/proc/{k}/cmdline').read_text()
    ]


with tempfile.TemporaryDirectory() as d, sync_playwright() as pw:
    big, small = (
        Path(d) / 'big.png',
        sorted((HERE.parents[1] / 'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))[0],
    )
    Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (3000, 3220, 3), dtype=np.uint8)
    ).save(big)
    t = time.time()
    p = subprocess.Popen(
        [BIN / 'melanoma_app', '--no_browser', '--port', '8970'],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, 'PYTHONUNBUFFERED': '1'},
    )
    while 'http' not in (line := p.stdout.readline()):
        pass
    url, out = (
        re.search(r'http\S+', line).group(),
        dict(
            server=[time.time() - t],
            ready=[],
            one_image=[],
            big_png=[],
            six_examples=[],
            kernel_mb=[],
        ),
    )
    b = pw.chromium.launch(
        executable_path=os.environ.get('CHROMIUM', '/usr/bin/chromium'), args=ARGS
    )
    for _ in range(6):
        page = b.new_page()
        t = time.time()
        page.goto(url, wait_until='commit')
        page.wait_for_selector('.mel-btn.primary')
        out['ready'].append(time.time() - t)
        n = 0
        for key, f, k in (('one_image', small, 1), ('big_png', big, 1), ('six_examples', None, 6)):
            t = time.time()
            n += k
            if f:
                with page.expect_file_chooser() as fc:
                    page.click('.mel-btn.primary')
                fc.value.set_files([f])
            else:
                page.click('.mel-btn.second')
            page.wait_for_function(
                f"document.querySelectorAll('article').length == {n} && "
                f"document.querySelector('.status a')",
                timeout=120_000,
            )
            out[key].append(time.time() - t)
        out['kernel_mb'].append(max(kernels(p.pid)))
        page.close()
        time.sleep(1)
    b.close()
    p.terminate()
    p.wait()
res = dict(
    first_visit=dict(server=out['server'][0], ready=out['ready'][0]),
    later_visits={
        k: dict(median=statistics.median(v[1:]), lo=min(v[1:]), hi=max(v[1:]))
        for k, v in out.items()
        if k != 'server'
    },
    cores=os.cpu_count(),
    load=os.getloadavg()[0],
)
(HERE / 'page_timing.json').write_text(json.dumps(res, indent=1) + '\n')
print(json.dumps(res, indent=1))
