#!/usr/bin/env python3
"""Resident memory of a training process after each epoch, on plain glibc.

    MELANOMA_DATA=... python scripts/memory_in_epochs.py
    python scripts/memory_in_epochs.py --data phantom --preset nano --epochs 3 --dest try.json

Two processes: with `ReturnMemory`, as runs have it, and without. No other allocator may be
preloaded. Writes memory_epochs.json, with the growth from the second epoch to the last."""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import RESULTS, machine, parser_of

WAYS = ('returned', 'kept')


def train(given):
    "Train one fold; a line of JSON after each epoch."
    import torch
    from fastai.callback.core import Callback
    from melanoma_nbdev.data.manifest import load_manifest
    from melanoma_nbdev.data.splits import add_groups, make_folds
    from melanoma_nbdev.training.checkpoint import keep_freed_memory, memory_mb
    from melanoma_nbdev.training.learner import make_config, make_learner
    from melanoma_nbdev.training.presets import label_classes

    class Tell(Callback):
        "Memory at the end of an epoch, after all other callbacks."
        order = 95

        def before_fit(self): self.began = time.time()

        def after_epoch(self):
            found = memory_mb() | dict(seconds=round(time.time() - self.began, 1))
            print(json.dumps(found), flush=True)

    torch.set_num_threads(given.threads)
    keep_freed_memory()
    manifest = load_manifest(given.data, missing='drop')
    manifest = manifest.sample(min(given.n, len(manifest)), random_state=0)
    manifest = make_folds(add_groups(manifest), k=5, seed=0)
    more = dict(size=given.size) if given.size else {}
    config = make_config(given.preset, weights='none', data=given.data, target='binary', **more)
    config['classes'] = label_classes(manifest, 'binary')
    with tempfile.TemporaryDirectory() as folder:
        learn = make_learner(config, manifest, 0, folder, quiet=True)
        for name in ('checkpoint', 'epoch_progress'): learn.remove_cb(getattr(learn, name))
        if given.way == 'kept': learn.remove_cb(learn.return_memory)
        learn.add_cb(Tell())
        learn.fit_one_cycle(given.epochs, 1e-3)


def memory_of(way):
    "What the training process says, line by line."
    command = [sys.executable, __file__, *sys.argv[1:], '--way', way]
    environment = {name: value for name, value in os.environ.items()
                   if name != 'LD_PRELOAD' and not name.startswith('MALLOC_')}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        if not line.startswith('{'): continue
        lines.append(json.loads(line))
        print(way, line.strip(), flush=True)
    if process.wait(): raise SystemExit(f'{way}: the process ended with {process.returncode}')
    return lines


def summary(lines):
    "Memory by epoch, and its growth from the second to the last."
    memory = [line['memory_mb'] for line in lines]
    return dict(memory_mb=memory, growth=round(memory[-1]/memory[1] - 1, 4),
                peak_mb=lines[-1]['peak_mb'], seconds=lines[-1]['seconds'])


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='ham10000', help='source or folder of images')
    parser.add_argument('--n', type=int, default=1500, help='images (1500)')
    parser.add_argument('--preset', default='lite0_192')
    parser.add_argument('--size', type=int, help='pixels (those of the preset)')
    parser.add_argument('--epochs', type=int, default=6)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS, help='what is measured')
    parser.add_argument('--dest', type=Path, default=RESULTS/'pipeline'/'memory_epochs.json',
                        help='file that is written')
    parser.add_argument('--way', choices=WAYS, help='for the processes that this one starts')
    return parser.parse_args()


def main():
    "Measure, and write memory_epochs.json."
    given = options()
    if given.way: return train(given)
    from melanoma_nbdev.core import write_json
    found = {way: summary(memory_of(way)) for way in given.ways}
    write_json(given.dest, found | dict(
        data=given.data, images=given.n, preset=given.preset, size=given.size,
        epochs=given.epochs, threads=given.threads, machine=machine('torch')))


if __name__ == '__main__':
    main()
