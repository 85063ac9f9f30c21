#!/usr/bin/env python3
"""`melanoma_predict` beside the loop that people write, and beside batches with its symmetries.

    MELANOMA_DATA=... python scripts/predict_speed.py        # an idle machine
    python scripts/predict_speed.py --data phantom --n 8 --large 1 --rounds 1 --dest try.json

Each way is a process of its own that answers for the same files: images of the source at random,
and drawn JPEGs of 12 megapixels. Rounds take turns, so that other work disturbs all ways alike.

predict   the command as it is installed, symmetries as the card says
loop      timm and torch, eager, one image after another, no symmetries
batched   the same network, timm's transforms in a DataLoader with a worker a core, batches of 32,
          the card's symmetries

All three see the same architecture at the same size. Seconds are of the whole process, imports and
all, by the clock and of the processor; the first result is the first row on disk or stdout. Memory
is the peak of the largest process. Writes predict_speed.json."""
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, ROOT, inherited, machine, parser_of
from melanoma_nbdev.core import write_json
from PIL import Image

WAYS = ('predict', 'loop', 'batched')
EXAMPLES = ROOT/'melanoma_nbdev'/'examples'/'jpeg'/'train'
CARD = json.loads((ROOT/'melanoma_nbdev'/'weights'/'card.json').read_text())
LARGE = (4000, 3000)
DRAWN = 20  # different ones; the others are links to them


# ---- the files

def draw_large(folder, n, seed):
    "Write JPEGs of 12 megapixels: phantom lesions, enlarged, with grain."
    random, examples = np.random.default_rng(seed), sorted(EXAMPLES.glob('*.jpg'))
    for number in range(n):
        path = folder/f'{number}.jpg'
        if number >= DRAWN:
            os.link(folder/f'{number % DRAWN}.jpg', path)
            continue
        picture = Image.open(examples[number % len(examples)]).convert('RGB').resize(LARGE)
        grain = random.normal(0, 4, (LARGE[1], LARGE[0], 1))
        pixels = (np.asarray(picture) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=92)


def in_a_process(function, *args):
    """Call in a process of its own: what a process has taken once is counted into the peak of those
    that it starts."""
    process = multiprocessing.get_context('spawn').Process(target=function, args=args)
    process.start()
    process.join()
    if process.exitcode: raise SystemExit(f'{function.__name__} ended with {process.exitcode}')


def list_files(given, folder):
    "Write a CSV with the paths of the source's images and the large ones, mixed."
    from melanoma_nbdev.data.manifest import load_manifest
    draw_large(folder, given.large, given.seed)
    manifest = load_manifest(given.data, missing='drop')
    chosen = manifest.sample(min(given.n, len(manifest)), random_state=given.seed)
    paths = [Path(path).absolute() for path in chosen.path]
    paths += sorted(folder.glob('*.jpg'))
    order = np.random.default_rng(given.seed).permutation(len(paths))
    pd.DataFrame(dict(path=[paths[i] for i in order])).to_csv(folder/'list.csv', index=False)


# ---- the ways of others, each run as a process of its own

def make_network():
    "The card's architecture, and timm's transforms for it."
    import timm
    from timm.data import create_transform
    network = timm.create_model(CARD['arch'], num_classes=len(CARD['classes'])).eval()
    size = CARD['size']
    transform = create_transform(input_size=(3, size, size), mean=CARD['mean'], std=CARD['std'],
                                 interpolation='bilinear', crop_pct=1.)
    return network, transform


def by_loop(paths):
    "One image after another."
    import torch
    network, transform = make_network()
    with torch.inference_mode():
        for path in paths:
            picture = transform(Image.open(path).convert('RGB'))
            risks = network(picture[None]).softmax(1)[0]
            print(path, risks.tolist(), flush=True)


class Pictures:
    "What a DataLoader asks for pictures."

    def __init__(self, paths, transform): self.paths, self.transform = paths, transform

    def __len__(self): return len(self.paths)

    def __getitem__(self, i): return self.transform(Image.open(self.paths[i]).convert('RGB'))


def by_batches(paths):
    "Batches, averaged over the card's symmetries."
    import torch
    network, transform = make_network()
    loader = torch.utils.data.DataLoader(
        Pictures(paths, transform), batch_size=32, num_workers=len(os.sched_getaffinity(0)))
    done = 0
    with torch.inference_mode():
        for pictures in loader:
            views = [torch.rot90(pictures.flip(-1) if k >= 4 else pictures, k % 4, (-2, -1))
                     for k in range(CARD.get('symmetries', 8))]
            risks = sum(network(view).softmax(1) for view in views)/len(views)
            for row in risks.tolist(): print(paths[done], row, flush=True)
            done += len(pictures)


# ---- measuring

THREADS = 'OMP_', 'GOMP_', 'MKL_', 'KMP_'
"What sets the threads of libraries; a user has none of it"


def first_line(part):
    "Whether the first row is on disk."
    return part.is_file() and part.read_bytes().count(b'\n') >= 2


def measured(command, has_begun):
    "Seconds by the clock and of the processor, until the first result and in all; MB at most."
    began = time.time()
    process = subprocess.Popen(command, env=inherited(*THREADS), stdout=subprocess.PIPE)
    while not has_begun(process): time.sleep(.005)
    first = time.time() - began
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: a picture was refused
        raise SystemExit(f'{command[0]} ended with {process.returncode}')
    return dict(seconds=time.time() - began, first_s=first, cpu_s=used.ru_utime + used.ru_stime,
                peak_mb=used.ru_maxrss/1024)


def measure(way, listed):
    "One way, once."
    if way != 'predict':
        command = [sys.executable, __file__, '--way', way, '--list', str(listed)]
        return measured(command, lambda process: process.stdout.readline() or True)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder)/'risks.csv'
        part = table.with_name('risks.csv.part')
        program = str(Path(sys.executable).with_name('melanoma_predict'))
        return measured([program, str(listed), '--out', str(table)],
                        lambda process: first_line(part) or process.poll() is not None)


def summary(rows, files):
    "Medians of each way, and how many times as fast `predict` is as the others."
    table = pd.DataFrame(rows)
    table['images_per_s'] = files/table.seconds
    table['after_first_per_s'] = (files - 1)/(table.seconds - table.first_s)
    found = {way: part.drop(columns=['way', 'round', 'load']).median().round(3).to_dict()
             for way, part in table.groupby('way', sort=False)}
    by_round = table.pivot(index='round', columns='way', values=['images_per_s', 'cpu_s'])
    for other in set(found) - {'predict'} if 'predict' in found else ():
        faster = by_round['images_per_s']['predict']/by_round['images_per_s'][other]
        thrift = by_round['cpu_s'][other]/by_round['cpu_s']['predict']
        found[f'times_{other}'] = dict(median=faster.median(), least=faster.min(),
                                       most=faster.max(), in_processor_time=thrift.median())
    return found


# ---- the command

def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='ham10000', help='source or folder of images')
    parser.add_argument('--n', type=int, default=1000, help='images of it (1000)')
    parser.add_argument('--large', type=int, default=100, help='of 12 megapixels (100)')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS, help='what is measured')
    parser.add_argument('--seed', type=int, default=0, help='which images, and their order')
    parser.add_argument('--dest', type=Path, default=RESULTS/'pipeline'/'predict_speed.json',
                        help='file that is written')
    parser.add_argument('--way', choices=WAYS[1:], help='for the processes that this one starts')
    parser.add_argument('--list', type=Path, help='for them: the files')
    return parser.parse_args()


def main():
    "Measure round by round, print and write."
    given, rows = options(), []
    if given.way:
        paths = pd.read_csv(given.list).path.tolist()
        return dict(loop=by_loop, batched=by_batches)[given.way](paths)
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(list_files, given, Path(folder))
        listed = Path(folder)/'list.csv'
        files = len(pd.read_csv(listed))
        for number in range(given.rounds):
            for way in given.ways:
                load = os.getloadavg()[0]
                row = dict(way=way, round=number, load=load) | measure(way, listed)
                rows.append(row)
                print(json.dumps(row), flush=True)
    found = summary(rows, files) | dict(
        data=given.data, files=files, large=given.large, seed=given.seed, rounds=given.rounds,
        arch=CARD['arch'], size=CARD['size'], symmetries=CARD.get('symmetries', 8))
    write_json(given.dest, found | dict(
        rows=rows, cores=len(os.sched_getaffinity(0)),
        machine=machine('Pillow', 'onnxruntime', 'torch', 'timm')))
    print(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()
