#!/usr/bin/env python3
"""Whether operating points and conformal sets keep what they promise, by simulation.

    python scripts/simulate_decisions.py
    python scripts/simulate_decisions.py --sims 10 --positives 50 --dest runs/try
    python scripts/simulate_decisions.py --sims 1000 --positives 581 --icc .3 --first 30000 \\
        --ways promise --dest results/evidence/more

The scores are normal, so the true sensitivity and specificity of any threshold are known by
formula and need no second sample. Writes decisions.csv."""
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import log_odds, write_csv
from melanoma_nbdev.evidence.decisions import conformal_fit, safe_threshold
from melanoma_nbdev.evidence.oof import clusters
from simulate_auc import PREVALENCE, TRUE_AUC, simulated

NORMAL = NormalDist()
SHIFT = 2**.5*NORMAL.inv_cdf(TRUE_AUC)
GOALS = dict(sensitivity=.95, specificity=.90)
WAYS = ('promise', 'promise_worst', 'promise_images', 'plain')


def truth(threshold):
    "True sensitivity and specificity of calling melanoma at `p_melanoma >= threshold`."
    if not np.isfinite(threshold): return (1., 0.) if threshold < 0 else (0., 1.)
    score = (log_odds(threshold, 0) - log_odds(PREVALENCE, 0) + SHIFT*SHIFT/2)/SHIFT
    return 1 - NORMAL.cdf(score - SHIFT), NORMAL.cdf(score)


def threshold_of(way, goal, is_melanoma, scores, cluster):
    "The threshold that one way of promising takes for a goal, e.g. dict(sensitivity=.95)."
    if way == 'plain':
        return safe_threshold(is_melanoma, scores, None, **goal, confidence=None, icc=0.)
    if way == 'promise_images':
        return safe_threshold(is_melanoma, scores, None, **goal, confidence=.95, icc=0.)
    icc = 1. if way == 'promise_worst' else None
    return safe_threshold(is_melanoma, scores, cluster, **goal, confidence=.95, icc=icc)


def one_set(positives, icc, seed, ways=WAYS):
    "True sensitivity and specificity of every threshold that is set on one simulated set."
    oof = simulated(positives, icc, seed)
    data = oof['target'].to_numpy(), oof['p_melanoma'].to_numpy()
    row = {}
    for place, (kind, share) in enumerate(GOALS.items()):
        for way in ways:
            threshold = threshold_of(way, {kind: share}, *data, clusters(oof))
            reached = truth(threshold) if np.isfinite(threshold) else (np.nan, np.nan)
            row[f'{kind} {way}'], row[f'{kind} {way} other'] = reached[place], reached[1 - place]
    limits = conformal_fit(*data, .1)
    row['conformal cover_melanoma'] = truth(limits['melanoma'])[0]
    row['conformal cover_benign'] = truth(np.nextafter(limits['benign'], 1))[1]
    return row


def point_row(sets, kind, way):
    "How often one kind of threshold was there, and how often it kept its promise."
    reached = sets[f'{kind} {way}'].dropna()
    other = sets[f'{kind} {way} other'].dropna()
    kept = round((reached >= GOALS[kind]).mean(), 4) if len(reached) else np.nan
    return dict(what=f'{kind} {way}', target=GOALS[kind], simulations=len(sets),
                reachable=round(len(reached)/len(sets), 4), kept=kept,
                mean=round(reached.mean(), 4), mean_other=round(other.mean(), 4))


def conformal_row(sets, what):
    "Mean share of a class that the conformal sets cover."
    return dict(what=what, target=.9, simulations=len(sets), reachable=1., kept=np.nan,
                mean=round(sets[what].mean(), 4), mean_other=np.nan)


def summary(sets, ways):
    "One row a kind of threshold or set."
    rows = [point_row(sets, kind, way) for kind in GOALS for way in ways]
    covers = ('conformal cover_melanoma', 'conformal cover_benign')
    return rows + [conformal_row(sets, what) for what in covers]


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--sims', type=int, default=1000, help='simulated sets of each setting')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=list(WAYS), help='of promising')
    parser.add_argument('--first', type=int, default=10_000, help='seed of the first set')
    parser.add_argument('--positives', type=int, nargs='*', default=[50, 200, 581],
                        help='melanomas, about')
    parser.add_argument('--icc', type=float, nargs='*', default=[.3, .6],
                        help="share of the scores' variance that lies between patients")
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence', help='folder of the table')
    return parser.parse_args()


def main():
    "Simulate and write decisions.csv."
    given, rows = options(), []
    for positives in given.positives:
        for icc in given.icc:
            seeds = range(given.first, given.first + given.sims)
            sets = pd.DataFrame([one_set(positives, icc, seed, given.ways) for seed in seeds])
            rows += [dict(positives=positives, icc=icc, **row) for row in summary(sets, given.ways)]
            print(positives, icc, flush=True)
    table = pd.DataFrame(rows)
    write_csv(given.dest/'decisions.csv', table)
    print(table.to_string())


if __name__ == '__main__':
    main()
