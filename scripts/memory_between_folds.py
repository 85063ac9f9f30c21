"""Resident memory of one process after each of five folds:

python scripts/memory_between_folds.py --data data/phantom-2000         # writes memory.json beside
this file"""

import argparse, tempfile
from pathlib import Path
import torch
from melanoma_nbdev.training.callbacks import memory_mb
from melanoma_nbdev.core import write_json
from melanoma_nbdev.training.run import plan_run

if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--data', default='data/phantom-2000')
    ap.add_argument('--preset', default='small')
    ap.add_argument('--size', type=int, default=64)
    ap.add_argument('--folds', type=int, default=5)
    a = ap.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as d:
        cfg, tasks = plan_run(
            Path(d) / 'run',
            data=a.data,
            preset=a.preset,
            size=a.size,
            folds=a.folds,
            epochs=1,
            weights='none',
            threads=1,
            quiet=True,
        )
        mem = []
        for t in tasks:
            t()
            mem.append(memory_mb())
            print(t.name, mem[-1], flush=True)
    write_json(
        Path(__file__).with_name('memory.json'),
        dict(
            data=Path(a.data).name,
            preset=a.preset,
            size=a.size,
            memory_mb=[m['memory_mb'] for m in mem],
            last_over_first=round(mem[-1]['memory_mb'] / mem[0]['memory_mb'], 4),
            device='cuda' if torch.cuda.is_available() else 'CPU',
        ),
    )
