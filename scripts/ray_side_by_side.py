#!/usr/bin/env python3
"""The same run one fold after another, on two Ray workers, and on two of which one is killed.

    python scripts/ray_side_by_side.py --data data/phantom-2000
    python scripts/ray_side_by_side.py --data phantom --folds 2 --epochs 2 --dest try.json

Run it on a machine that does nothing else. Written are seconds, and whether the bytes are equal.
Start-up (imports, Ray itself) is in the seconds, as it is in a user's. Writes ray.json."""
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import RESULTS, machine, parser_of
from melanoma_nbdev.core import sha256, write_json

FILES = dict(oof_sha256='oof.csv', oof_best_sha256='oof_best.csv')
ON_RAY = ('--engine', 'ray', '--workers', '2')


def worker_of(process):
    "A worker of Ray that trains a fold."
    children = psutil.Process(process.pid).children(recursive=True)
    return next(child for child in children
                if any('fold' in word for word in child.cmdline()[:1]))


def run(out, words, kill=False):
    "Train; seconds, and the hashes of what was written. `kill`: end a worker in epoch 2."
    command = [str(Path(sys.executable).parent/'melanoma_train'), *words, '--out', str(out)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'}
    began, killed, seen = time.time(), None, []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=environment)
    for line in process.stdout:
        seen.append(line)
        if kill and not killed and 'epoch 2/' in line:
            killed = worker_of(process)
            killed.kill()
    if process.wait(): sys.exit(''.join(seen)[-3000:])
    record = dict(seconds=round(time.time() - began, 1))
    record |= {name: sha256(out/file) for name, file in FILES.items()}
    return record | dict(worker_killed=killed is not None) if kill else record


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='data/phantom-2000', help='source or folder of images')
    parser.add_argument('--epochs', default='3')
    parser.add_argument('--folds', default='4')
    parser.add_argument('--dest', type=Path, default=RESULTS/'pipeline'/'ray.json',
                        help='file that is written')
    return parser.parse_args()


def main():
    "Train three times, compare, and write ray.json."
    given = options()
    more = f'--preset nano --folds {given.folds} --epochs {given.epochs} --threads 1'.split()
    words = ['--data', given.data, *more]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        found = dict(
            sequential=run(folder/'sequential', words), ray=run(folder/'ray', [*words, *ON_RAY]),
            ray_killed=run(folder/'killed', [*words, *ON_RAY], kill=True))
    first = found['sequential']
    equal = {f'{name}_equals_sequential': all(found[name][file] == first[file] for file in FILES)
             for name in ('ray', 'ray_killed')}
    command = ['melanoma_train', '--data', Path(given.data).name, *more, *ON_RAY]
    write_json(given.dest, found | equal | dict(
        ray_over_sequential=round(found['ray']['seconds']/first['seconds'], 3), workers=2,
        cores=os.cpu_count(), command=' '.join(command), machine=machine()))
    print(given.dest.read_text())


if __name__ == '__main__':
    main()
