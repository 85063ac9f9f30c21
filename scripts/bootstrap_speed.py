#!/usr/bin/env python3
"""Seconds of 2,000 clustered resamples of the AUC, beside the usual loop over roc_auc_score; the
same with sampling weights.

    OMP_NUM_THREADS=1 python scripts/bootstrap_speed.py
    python scripts/bootstrap_speed.py --rows 2000 --loop 5 --dest runs/try

Run it on an idle machine. The loop is timed on some resamples of the first size and scaled to
2,000. CPU seconds are those of the process, so that other work disturbs little. Writes
speed.csv."""
import resource
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, machine, parser_of
from melanoma_nbdev.core import write_csv
from melanoma_nbdev.evidence.intervals import bootstrap
from melanoma_nbdev.evidence.oof import clusters, simulate_oof
from sklearn.metrics import roc_auc_score

RESAMPLES = 2000


def usual_loop(is_melanoma, scores, cluster, resamples, seed=0):
    "The usual way: draw patients, gather their rows, call roc_auc_score."
    rng = np.random.default_rng(seed)
    order = np.argsort(cluster, kind='stable')
    rows_of = np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1)
    values = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(rows_of), len(rows_of))
        rows = np.concatenate([rows_of[patient] for patient in drawn])
        values.append(roc_auc_score(is_melanoma[rows], scores[rows]))
    return np.array(values)


def timed(call, *arguments, times=1):
    "Result, seconds by the clock and CPU seconds of the fastest of some calls."
    runs = []
    for _ in range(times):
        clock, cpu = time.perf_counter(), time.process_time()
        result = call(*arguments)
        runs.append((result, time.perf_counter() - clock, time.process_time() - cpu))
    return min(runs, key=lambda run: run[2])


def against_loop(data, ours, weighted, resamples):
    "Seconds of the loop, scaled, and how many times faster this project is."
    draws, wall, cpu = timed(usual_loop, *data, resamples, times=2)
    scale = RESAMPLES/resamples
    return dict(
        loop_resamples=resamples, loop_wall_s_for_2000=wall*scale, loop_cpu_s_for_2000=cpu*scale,
        times_faster_wall=wall*scale/ours[1], times_faster_cpu=cpu*scale/ours[2],
        times_faster_weighted_cpu=cpu*scale/weighted[2],
        se_loop=draws.std(), se_boot=ours[0]['auc'].std())


def one_size(rows, loop=None):
    "Seconds and memory for one number of images; with `loop` resamples of the usual way."
    oof = simulate_oof(round(rows/15.0), seed=1).iloc[:rows]
    data = oof['target'].to_numpy(), oof['p_melanoma'].to_numpy(), clusters(oof)
    bootstrap(*data, n_boot=10)
    times = 5 if rows < 200_000 else 2
    ours = timed(bootstrap, *data, times=times)
    weights = np.where(data[0] == 1, 1., 5.862)
    weighted = timed(partial(bootstrap, weights=weights), *data, times=times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    row = dict(rows=len(oof), positives=int(data[0].sum()), clusters=int(data[2].max() + 1),
               resamples=RESAMPLES, wall_s=ours[1], cpu_s=ours[2],
               weighted_cpu_s=weighted[2], peak_mb=peak)
    return row | against_loop(data, ours, weighted, loop) if loop else row


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--rows', type=int, nargs='*', default=[33_126, 100_000, 1_000_000],
                        help='numbers of images; the loop is timed on the first')
    parser.add_argument('--loop', type=int, default=100, help='resamples of the loop')
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence', help='folder of the table')
    return parser.parse_args()


def main():
    "Time each size and write speed.csv."
    given, rows = options(), []
    for place, size in enumerate(given.rows):
        rows.append(one_size(size, given.loop if place == 0 else None))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows).assign(machine=machine('numpy'))
    for name, column in dict(times_rows='rows', times_cpu='cpu_s').items():
        table[name] = table[column]/table[column][0]
    table = table.round(4)
    write_csv(given.dest/'speed.csv', table)
    print(table.T.to_string())


if __name__ == '__main__':
    main()
