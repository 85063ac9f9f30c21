#!/usr/bin/env python3
"""How often 95% intervals of the AUC cover the truth, by simulation.

    python scripts/simulate_auc.py
    python scripts/simulate_auc.py --sims 20 --positives 50 --raw runs/try/raw.csv --dest runs/try

Patients are clustered as in SIIM-ISIC 2020: 16 images of a patient on average, 1.76% melanomas.
Each simulated set is one line of a raw file, so that a stopped run goes on where it was.
coverage.csv is made from all lines that are there."""
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import write_csv
from melanoma_nbdev.evidence.auc import RocSteps, auc
from melanoma_nbdev.evidence.intervals import auc_interval, bootstrap, delong, percentile_interval
from melanoma_nbdev.evidence.oof import clusters, simulate_oof

TRUE_AUC = .90
PREVALENCE = .0176
IMAGES_PER_PATIENT = 16.
METHODS = dict(
    patients='patients resampled, logit scale (used here)',
    percentile='patients resampled, percentiles',
    images='images resampled, percentiles',
    delong='DeLong (images independent)',
    obuchowski='Obuchowski (clustered DeLong)')


def simulated(positives, icc, seed):
    "An out-of-fold file with about so many melanomas and a known AUC."
    patients = max(20, round(positives/PREVALENCE/IMAGES_PER_PATIENT))
    return simulate_oof(
        patients, IMAGES_PER_PATIENT, PREVALENCE, TRUE_AUC, icc=icc, seed=seed)


def auc_of_image_draws(is_melanoma, scores, n_boot, seed):
    """AUC of each bootstrap sample of single images, (n_boot,).

    Only the counts at the curve's levels matter, and those are multinomial. There are no ties: the
    simulated scores are continuous."""
    steps = RocSteps(is_melanoma, scores, np.zeros(len(scores), int))
    counts = [np.asarray(part.todense()).ravel() for part in (steps.melanoma, steps.benign)]
    shares = np.concatenate(counts)/len(scores)
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(scores), shares, size=n_boot).T.astype(float)
    melanoma, benign = draws[:steps.n_levels], draws[steps.n_levels:]
    lower = benign.sum(0) - benign.cumsum(0)[:-1]
    return (melanoma*lower).sum(0)/(melanoma.sum(0)*benign.sum(0))


def intervals(is_melanoma, scores, cluster, n_boot, seed):
    "Method -> its 95% interval on one simulated set."
    by_patient = bootstrap(is_melanoma, scores, cluster, n_boot=n_boot, seed=seed)['auc']
    by_image = auc_of_image_draws(is_melanoma, scores, n_boot, seed)
    value = auc(is_melanoma, scores)
    return dict(
        patients=auc_interval(by_patient, is_melanoma, cluster, value),
        percentile=percentile_interval(by_patient),
        images=percentile_interval(by_image),
        delong=delong(is_melanoma, scores),
        obuchowski=delong(is_melanoma, scores, cluster))


def one_set(positives, icc, seed, n_boot=2000):
    "One simulated set and its intervals, as a row of the raw file."
    oof = simulated(positives, icc, seed)
    is_melanoma, scores = oof['target'].to_numpy(), oof['p_melanoma'].to_numpy()
    cluster = clusters(oof)
    row = dict(positives=positives, icc=icc, seed=seed, n=len(oof),
               n_pos=int(is_melanoma.sum()), n_patients=int(cluster.max() + 1))
    for method, interval in intervals(is_melanoma, scores, cluster, n_boot, seed).items():
        row[f'{method}_lo'], row[f'{method}_hi'] = interval['lo'], interval['hi']
    return row


def coverage_of(sets, method):
    "How often one method covered the truth, with the 95% interval of a proportion."
    low, high = sets[f'{method}_lo'], sets[f'{method}_hi']
    share = ((low <= TRUE_AUC) & (TRUE_AUC <= high)).mean()
    margin = 1.96*np.sqrt(share*(1 - share)/len(sets))
    return dict(
        method=method, name=METHODS[method], simulations=len(sets), coverage=round(share, 4),
        coverage_lo=round(share - margin, 4), coverage_hi=round(share + margin, 4),
        above=round((low > TRUE_AUC).mean(), 4), below=round((high < TRUE_AUC).mean(), 4),
        width=round((high - low).mean(), 5), mean_n=round(sets['n'].mean()),
        mean_patients=round(sets['n_patients'].mean()))


def summary(raw):
    "One row a setting and method: coverage, mean width, on which side the truth was missed."
    settings = raw.groupby(['positives', 'icc'])
    return pd.DataFrame([
        dict(positives=positives, icc=icc, **coverage_of(sets, method))
        for (positives, icc), sets in settings for method in METHODS])


def simulate(positives, icc, sims, raw):
    "Add to the raw file the sets that it lacks, twenty at a time."
    seen = pd.read_csv(raw) if raw.exists() else pd.DataFrame(columns=['positives', 'icc', 'seed'])
    done = set(seen.loc[(seen['positives'] == positives) & (seen['icc'] == icc), 'seed'])
    missing = [seed for seed in range(sims) if seed not in done]
    for start in range(0, len(missing), 20):
        rows = [one_set(positives, icc, seed) for seed in missing[start:start + 20]]
        pd.DataFrame(rows).to_csv(raw, mode='a', header=not raw.exists(), index=False)


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--sims', type=int, default=1000, help='simulated sets of each setting')
    parser.add_argument('--positives', type=int, nargs='*', default=[50, 200, 581],
                        help='melanomas, about')
    parser.add_argument('--icc', type=float, nargs='*', default=[.3],
                        help="share of the scores' variance that lies between patients")
    parser.add_argument('--raw', type=Path, default='.cache/coverage_raw.csv',
                        help='file with one line a simulated set')
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence', help='folder of the table')
    return parser.parse_args()


def main():
    "Simulate and write coverage.csv."
    given = options()
    given.raw.parent.mkdir(parents=True, exist_ok=True)
    for positives in given.positives:
        for icc in given.icc:
            began = time.time()
            simulate(positives, icc, given.sims, given.raw)
            print(positives, icc, f'{time.time() - began:.0f} s', flush=True)
    table = summary(pd.read_csv(given.raw))
    write_csv(given.dest/'coverage.csv', table)
    print(table.to_string())


if __name__ == '__main__':
    main()
