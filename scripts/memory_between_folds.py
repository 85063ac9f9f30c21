#!/usr/bin/env python3
"""Resident memory of one process after each of its folds.

    python scripts/memory_between_folds.py --data data/phantom-2000
    python scripts/memory_between_folds.py --data phantom --preset nano --folds 2 --dest try.json

Writes memory.json."""
import tempfile
from pathlib import Path

import torch
from common import RESULTS, parser_of
from melanoma_nbdev.core import write_json
from melanoma_nbdev.training.checkpoint import memory_mb
from melanoma_nbdev.training.run import plan_run


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='data/phantom-2000', help='source or folder of images')
    parser.add_argument('--preset', default='small')
    parser.add_argument('--size', type=int, default=64, help='pixels')
    parser.add_argument('--folds', type=int, default=5)
    parser.add_argument('--dest', type=Path, default=RESULTS/'pipeline'/'memory.json',
                        help='file that is written')
    return parser.parse_args()


def measure(given):
    "MiB after each fold of a run that is thrown away."
    found = []
    with tempfile.TemporaryDirectory() as folder:
        _, tasks = plan_run(
            Path(folder)/'run', data=given.data, preset=given.preset, size=given.size,
            folds=given.folds, epochs=1, weights='none', threads=1, quiet=True)
        for task in tasks:
            task()
            found.append(memory_mb()['memory_mb'])
            print(task.name, found[-1], flush=True)
    return found


def main():
    "Measure, and write memory.json."
    given = options()
    torch.set_num_threads(1)
    found = measure(given)
    write_json(given.dest, dict(
        data=Path(given.data).name, preset=given.preset, size=given.size, memory_mb=found,
        last_over_first=round(found[-1]/found[0], 4),
        device='cuda' if torch.cuda.is_available() else 'CPU'))


if __name__ == '__main__':
    main()
