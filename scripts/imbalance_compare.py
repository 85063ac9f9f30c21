#!/usr/bin/env python3
"""The arms of the imbalance study against plain cross-entropy.

    python scripts/imbalance_compare.py
    python scripts/imbalance_compare.py --n_boot 50 --dest runs/try

Reads the out-of-fold probabilities that imbalance_train.py wrote. Writes <set>-ranking.csv,
<set>-calibration.csv, <set>-threshold.csv and summary.json.

Differences are paired on the same images and averaged over seeds. Their intervals are the
package's: whole groups (lesions and duplicates, or patients) are resampled, alike for both arms and
all seeds, with Student's quantile for the groups that hold a melanoma. They hold for the networks
that were trained: what another seed would change is not in them, so each seed's difference stands
beside. `p_holm` allows for all the arms that are compared with plain cross-entropy on one measure
(Holm 1979)."""
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import read_json, write_csv, write_json
from melanoma_nbdev.evidence.auc import measure_scores
from melanoma_nbdev.evidence.intervals import (
    bootstrap, groups_that_count, measure_interval, rarer_groups)
from melanoma_nbdev.evidence.calibration import brier_parts, calibration_error
from melanoma_nbdev.evidence.recalibration import prior_shift, recalibrate
from melanoma_nbdev.evidence.comparison import paired_difference
from melanoma_nbdev.training.losses import class_weights
from scipy.stats import t as student

MEASURES = ('auc', 'pauc80', 'ap', 'sens_at_spec95')
PLAIN = 'bce'


# ---- ranking

def holm(p_values):
    "Holm's adjusted p-values (1979) of several comparisons."
    p_values = np.asarray(p_values, float)
    order, adjusted = np.argsort(p_values), np.empty(len(p_values))
    steps = p_values[order]*np.arange(len(p_values), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted


def scores_of(table, arm, seeds):
    "The out-of-fold probabilities of an arm, one array a seed."
    return [table[f'{arm}|{seed}'].to_numpy() for seed in seeds]


def measured(table, arm, seeds, n_boot):
    "Measures of each seed, and value and resamples of each measure as means over seeds."
    is_melanoma, group = table.target.to_numpy(), table.group.factorize()[0]
    runs = scores_of(table, arm, seeds)
    by_seed = [measure_scores(is_melanoma, scores, MEASURES) for scores in runs]
    draws = [bootstrap(is_melanoma, scores, group, MEASURES, n_boot, 0) for scores in runs]
    return dict(
        by_seed=by_seed, data=(is_melanoma, group),
        value={name: np.mean([one[name] for one in by_seed]) for name in MEASURES},
        draws={name: np.mean([one[name] for one in draws], 0) for name in MEASURES})


def ranking_row(arm, name, found, seeds):
    "One arm and measure: the value, its difference from plain cross-entropy, and of each seed."
    own, plain = found[arm], found[PLAIN]
    interval = measure_interval(name, own['draws'][name], *own['data'], own['value'][name])
    gap = paired_difference(own['draws'][name], plain['draws'][name],
                            [own['value'][name], plain['value'][name]],
                            groups_that_count(name, rarer_groups(*own['data'])))
    pairs = zip(seeds, own['by_seed'], plain['by_seed'], strict=True)
    return dict(
        arm=arm, measure=name, value=own['value'][name], lo=interval['lo'], hi=interval['hi'],
        diff=gap['diff'], diff_lo=gap['lo'], diff_hi=gap['hi'], se=gap['se'],
        detectable=gap['detectable'], p=np.nan if arm == PLAIN else gap['p'],
        **{f'diff_seed{seed}': ours[name] - theirs[name] for seed, ours, theirs in pairs})


def ranking(table, arms, seeds, n_boot=2000):
    "One row an arm and measure, with Holm's p-value."
    found = {arm: measured(table, arm, seeds, n_boot) for arm in arms}
    rows = pd.DataFrame(
        [ranking_row(arm, name, found, seeds) for arm in arms for name in MEASURES])
    rows['p_holm'] = np.nan
    for name in MEASURES:
        others = rows.index[(rows.measure == name) & (rows.arm != PLAIN)]
        rows.loc[others, 'p_holm'] = holm(rows.p[others])
    return rows


# ---- calibration

def odds_factor(arm, prevalence, n):
    "By what an arm multiplies the odds of melanoma in training."
    loss, numbers = arm.get('loss', 'ce'), arm.get('loss_args', {})
    factor = arm.get('times', 1)
    if loss == 'weighted': return factor*numbers['pos_weight']
    if loss != 'class_balanced': return factor
    weights = class_weights([n*(1 - prevalence), n*prevalence], numbers['beta'])
    return factor*weights[1]/weights[0]


def trained_prior(arm, prevalence, n):
    "The prevalence that an arm's probabilities assume; None where no formula says."
    loss = arm.get('loss', 'ce')
    if loss in ('auc_margin', 'focal'): return None
    if 'pos_rate' in arm: return arm['pos_rate']
    if loss == 'logit_adjusted': return .5
    odds = prevalence/(1 - prevalence)*odds_factor(arm, prevalence, n)
    return odds/(1 + odds)


def corrected(table, arm, seed, priors):
    "Way of correcting -> risks of one arm and seed; `priors`: assumed and true prevalence."
    risks = table[f'{arm}|{seed}'].to_numpy().clip(1e-9, 1 - 1e-9)
    oof = pd.DataFrame(dict(image_id=table.image_id, target=table.target.to_numpy(),
                            fold=table[f'fold|{seed}'], group=table.group, p_melanoma=risks))
    ways = {'as trained': risks}
    if priors[0] is not None: ways['prior corrected'] = prior_shift(risks, *priors)
    for way, method in (('temperature', 'temperature'), ('Platt', 'platt')):
        ways[way] = recalibrate(oof, method)[0].p_melanoma.to_numpy()
    return ways


def calibration_row(arm, way, is_melanoma, risks, prevalence):
    "Brier score, debiased ECE, and mean risk over prevalence, of one arm, seed and way."
    return dict(
        arm=arm, way=way, brier=brier_parts(is_melanoma, risks)['brier'],
        ece=calibration_error(is_melanoma, risks)['debiased'],
        mean_over_observed=risks.mean()/prevalence)


def brier_differences(table, rows, losses):
    "Each row's Brier score against plain cross-entropy's after the same correction."
    group = table.group.factorize()[0]
    n_groups, groups = group.max() + 1, rarer_groups(table.target, group)
    for place, row in rows.iterrows():
        gap = losses[row.arm, row.way] - losses[PLAIN, row.way]
        sums = np.bincount(group, gap - gap.mean(), n_groups)
        se = np.sqrt((sums*sums).sum()*groups/(groups - 1))/len(group)
        half = student.ppf(.975, groups - 1)*se
        bounds = gap.mean() - half, gap.mean() + half
        rows.loc[place, ['brier_diff', 'brier_diff_lo', 'brier_diff_hi']] = gap.mean(), *bounds
    return rows


def calibration(table, info):
    "One row an arm and way of correcting, means over seeds."
    prevalence, seeds = info['prevalence'], info['seeds']
    is_melanoma = table.target.to_numpy()
    trained_on = info['n']*(1 - 1/info['settings']['folds'])
    rows, losses = [], {}
    for arm, spec in info['arms'].items():
        priors = trained_prior(spec, prevalence, trained_on), prevalence
        for seed in seeds:
            for way, risks in corrected(table, arm, seed, priors).items():
                rows.append(calibration_row(arm, way, is_melanoma, risks, prevalence))
                loss = (risks - is_melanoma)**2/len(seeds)
                losses[arm, way] = losses.get((arm, way), 0) + loss
    means = pd.DataFrame(rows).groupby(['arm', 'way'], sort=False).mean().reset_index()
    means = means.assign(base_rate_brier=prevalence*(1 - prevalence))
    return brier_differences(table, means, losses)


# ---- threshold

def called(table, arm, seeds, threshold):
    "Sensitivity and specificity of an arm at a threshold, means over seeds."
    melanoma = table.target.to_numpy() == 1
    shares = []
    for scores in scores_of(table, arm, seeds):
        above = scores >= threshold
        shares.append([above[melanoma].mean(), (~above)[~melanoma].mean()])
    return dict(zip(('sensitivity', 'specificity'), np.mean(shares, 0), strict=True))


def threshold(table, info):
    "Every arm at 0.5, and plain cross-entropy at a threshold moved to the prevalence."
    seeds, moved = info['seeds'], info['prevalence']
    rows = [dict(arm=arm, threshold=.5, **called(table, arm, seeds, .5)) for arm in info['arms']]
    rows.append(dict(arm='bce, moved', threshold=moved, **called(table, PLAIN, seeds, moved)))
    table = pd.DataFrame(rows)
    return table.assign(balanced_accuracy=(table.sensitivity + table.specificity)/2)


# ---- summary

def outside(table, low, high):
    "Where an interval leaves out zero."
    return (table[low] > 0) | (table[high] < 0)


def ranking_summary(rows):
    "The AUC's differences, in figures and names."
    by_arm = rows[rows.measure == 'auc'].set_index('arm')
    others, every = by_arm.drop(index=PLAIN), rows[rows.arm != PLAIN]
    holds = others.p_holm < .05
    beyond = every[outside(every, 'diff_lo', 'diff_hi')]
    words = [f'{row.arm} {row.measure} {row["diff"]:+.3f}' for _, row in beyond.iterrows()]
    return dict(
        bce_auc=by_arm.value[PLAIN], bce_lo=by_arm.lo[PLAIN], bce_hi=by_arm.hi[PLAIN],
        better=sorted(others.index[(others['diff'] > 0) & holds]),
        worse=sorted(others.index[(others['diff'] < 0) & holds]),
        beyond_own_interval=words, beyond=len(words), comparisons=len(every),
        diff_min=others['diff'].min(), diff_max=others['diff'].max(),
        detectable_min=others.detectable.min(), detectable_max=others.detectable.max())


def calibration_summary(rows):
    "The calibration errors, in figures and names."
    errors = rows.pivot(index='arm', columns='way', values='ece')
    stated = rows.set_index(['arm', 'way']).mean_over_observed
    platt = rows[(rows.way == 'Platt') & (rows.arm != PLAIN)]
    trained = errors['as trained']
    return dict(
        ece_bce=trained[PLAIN], stated_bce=stated[PLAIN, 'as trained'],
        platt_differs=sorted(platt.arm[outside(platt, 'brier_diff_lo', 'brier_diff_hi')]),
        ece_worst=trained.max(), ece_worst_arm=trained.idxmax(),
        ece_corrected_max=errors['prior corrected'].max(), ece_platt_max=errors['Platt'].max())


def truth_summary(path):
    "Bounds of a synthetic set and the distances from them, under one name each."
    if not path.exists(): return {}
    truth = read_json(path)
    return {f'{bound}_{name}': value for bound in ('z', 'picture')
            for name, value in truth[bound].items()}


def six_digits(value):
    "A number with six digits; anything else as it is."
    return float(f'{value:.6g}') if isinstance(value, float) else value


def compare(folder, dest, name, n_boot):
    "Write the three tables of a set; what the summary says of it."
    table = pd.read_csv(folder/f'{name}.csv.gz', dtype={'image_id': str, 'group': str})
    info = read_json(folder/f'{name}.json')
    ranks = ranking(table, list(info['arms']), info['seeds'], n_boot)
    risks = calibration(table, info)
    tables = dict(ranking=ranks, calibration=risks, threshold=threshold(table, info))
    for what, rows in tables.items():
        write_csv(dest/f'{name}-{what}.csv', rows.map(six_digits))
    counts = dict(n=info['n'], n_pos=info['n_pos'], seeds=len(info['seeds']),
                  arms=len(info['arms']))
    truth = truth_summary(folder/f'{name}-truth.json')
    return counts | ranking_summary(ranks) | calibration_summary(risks) | truth


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--sets', nargs='*', default=['ham10000', 'phantom'])
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of groups')
    parser.add_argument('--source', type=Path, default=RESULTS/'imbalance',
                        help='folder of imbalance_train.py')
    parser.add_argument('--dest', type=Path, default=RESULTS/'imbalance',
                        help='folder of the tables')
    return parser.parse_args()


def main():
    "Compare the arms of each set that is there and write summary.json."
    given = options()
    here = [name for name in given.sets if (given.source/f'{name}.json').exists()]
    found = {name: compare(given.source, given.dest, name, given.n_boot) for name in here}
    write_json(given.dest/'summary.json', found)
    print(pd.DataFrame(found).to_string())


if __name__ == '__main__':
    main()
