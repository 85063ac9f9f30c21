#!/usr/bin/env python3
"""Whether what is said of thresholds, net benefit and calibration is true, by simulation.

    python scripts/simulate_judged.py
    python scripts/simulate_judged.py --sims 10 --positives 80 --dest runs/try

The scores are normal, so the true rates and net benefit of any threshold are known by formula.
`before` is how the project did it at first: thresholds judged out of fold, folds that can promise
nothing called all melanoma, percentiles of resamples, noise of the calibration error as if weights
did not depend on the target. Writes four tables: judged_points.csv, judged_models.csv (a threshold
on another model), judged_calibration.csv, judged_weights.csv (a weighted sample of benign images).
"""

from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import log_odds, sigmoid, write_csv
from melanoma_nbdev.evidence.auc import measure_scores
from melanoma_nbdev.evidence.intervals import percentile_interval
from melanoma_nbdev.evidence.calibration import brier_parts, calibration_error, calibration_line
from melanoma_nbdev.evidence.recalibration import at_prevalence, prior_shift
from melanoma_nbdev.evidence.decisions import decision_curve, operating_point, safe_threshold
from melanoma_nbdev.evidence.comparison import bootstrap_ratio
from melanoma_nbdev.evidence.oof import Interval, out_of_fold, simulate_oof, weights_of
from simulate_auc import PREVALENCE, simulated
from simulate_decisions import NORMAL, SHIFT, truth
from simulate_intervals import sampled

RISK = 0.02  # where net benefit is taken
RESAMPLES = 500
MODELS = {
    'the judged one': (0.0, 1.0),
    'logits lower by 0.1 of their standard deviation': (0.1, 1.0),
    'logits lower by 0.25 of their standard deviation': (0.25, 1.0),
    'logits times 1.1': (0.0, 1.1),
}


def true_benefit():
    "Net benefit at `RISK`, by formula."
    sensitivity, specificity = truth(RISK)
    return PREVALENCE * sensitivity - (1 - PREVALENCE) * (1 - specificity) * RISK / (1 - RISK)


def calls_before(oof):
    "Calls out of fold; where the other folds can promise nothing, all are called."

    def fit(others):
        data = others['target'], others['p_melanoma'], others['group']
        threshold = safe_threshold(*data, sensitivity=0.95)
        threshold = -np.inf if np.isnan(threshold) else threshold
        return lambda rows: (rows['p_melanoma'] >= threshold).to_numpy(int)

    return out_of_fold(oof, fit)


def before(oof, seed):
    "Sensitivity, specificity and net benefit with percentile intervals."
    is_melanoma, cluster = oof['target'].to_numpy(), oof['group'].to_numpy()
    called = calls_before(oof)
    benign, worth = 1 - is_melanoma, (oof['p_melanoma'] >= RISK).to_numpy(int)
    gain = worth * is_melanoma - worth * benign * RISK / (1 - RISK)
    above = np.stack([is_melanoma * called, benign * (1 - called), gain], 1)
    below = np.stack([is_melanoma, benign, np.ones(len(oof))], 1)
    draws = bootstrap_ratio(above, below, cluster, RESAMPLES, seed)
    values = above.sum(0) / below.sum(0)
    intervals = [percentile_interval(draws[:, k], values[k]) for k in range(3)]
    return dict(zip(('sensitivity', 'specificity', 'net benefit'), intervals, strict=True))


def after(point, oof):
    "The same as the project says it now."
    curve = decision_curve(oof, [RISK]).iloc[0]
    benefit = Interval(curve['model'], curve['lo'], curve['hi'])
    rates = {name: point[name] for name in ('sensitivity', 'specificity')}
    return rates | {'net benefit': benefit}


def rows_of_points(oof, seed):
    "What is said before and after, beside the truth; no rates where nothing can be promised."
    point = operating_point(oof, sensitivity=0.95)
    true = {'net benefit': true_benefit()}
    if point['reachable']:
        true |= dict(zip(('sensitivity', 'specificity'), truth(point['threshold']), strict=True))
    rows = []
    for way, said in dict(before=before(oof, seed), after=after(point, oof)).items():
        for what in true:
            known = said[what]
            covers = known.lo <= true[what] <= known.hi
            row = dict(what=what, way=way, true=true[what], said=known.value, covers=covers)
            rows.append(dict(row, width=known.hi - known.lo, zero_width=known.hi == known.lo))
    if not point['reachable']:
        return rows, []
    z = (log_odds(point['threshold'], 0) - log_odds(PREVALENCE, 0) + SHIFT * SHIFT / 2) / SHIFT
    return rows, [model_row(name, *change, z) for name, change in MODELS.items()]


def model_row(name, lower, times, z):
    "Whether a threshold keeps its promise on a model whose logits differ."
    logit = (z * SHIFT - SHIFT * SHIFT / 2 + log_odds(PREVALENCE, 0)) / times
    moved = (logit - log_odds(PREVALENCE, 0) + SHIFT * SHIFT / 2) / SHIFT + lower
    sensitivity = 1 - NORMAL.cdf(moved - SHIFT)
    return dict(model=name, sensitivity=sensitivity, kept=sensitivity >= 0.95)


def error_before(is_melanoma, risks, weights, n_bins=15):
    "The debiased calibration error with noise as if weights did not depend on the target."
    plain = calibration_error(is_melanoma, risks, n_bins, weights)
    order = np.argsort(risks, kind='stable')
    middle = weights[order].cumsum() - weights[order] / 2
    bins = np.minimum((middle / weights.sum() * n_bins).astype(int), n_bins - 1)
    total = 0.0
    for number in np.unique(bins):
        here = order[bins == number]
        own, mass = weights[here], weights[here].sum()
        observed = np.average(is_melanoma[here], weights=own)
        gap = observed - np.average(risks[here], weights=own)
        noise = np.sqrt(max(observed * (1 - observed), 1e-12) * (own**2).sum()) / mass
        half = gap / noise
        folded = noise * (2 * NORMAL.pdf(half) + half * (2 * NORMAL.cdf(half) - 1))
        total += mass / weights.sum() * folded
    return max(0.0, 2 * plain['ece'] - total)


def rows_of_calibration(oof, seed):
    "Right risks; and risks a third too high, moved from 11% to 1.76%."
    data, cluster = (oof['target'].to_numpy(), oof['p_melanoma'].to_numpy()), oof['group']
    found = calibration_error(*data, cluster=cluster)
    right = dict(what='right risks', true=0.0, plain=found['ece'], after=found['debiased'])
    alone = calibration_error(*data)['debiased']
    right |= dict(before=alone, if_calibrated=found['if_calibrated'])
    drawn = simulate_oof(190, prevalence=0.11, spread=0, icc=0, seed=seed)
    said, is_melanoma = sigmoid(drawn['logit_MEL'].to_numpy() + 0.3), drawn['target'].to_numpy()
    old = is_melanoma.mean()
    shifted, true = (prior_shift(risks, old, 0.0176) for risks in (said, drawn['p_melanoma']))
    weights = np.where(is_melanoma == 1, 0.0176 / old, 0.9824 / (1 - old))
    found = at_prevalence(is_melanoma, said, 0.0176)
    true_error = np.average(np.abs(shifted - true), weights=weights)
    moved = dict(what='11% moved to 1.76%', true=true_error, plain=found['ece'])
    moved |= dict(after=found['ece_debiased'])
    moved |= dict(before=error_before(is_melanoma, shifted, weights))
    return [right, dict(moved, if_calibrated=found['ece_if_calibrated'])]


def figures_of(table):
    "Figures that weights change, of one table."
    data, weights = (table['target'].to_numpy(), table['p_melanoma'].to_numpy()), weights_of(table)
    cluster, curve = table['group'].to_numpy(), decision_curve(table, [RISK]).iloc[0]
    line = calibration_line(*data, cluster, weights)
    point = operating_point(table, sensitivity=0.95)
    error = calibration_error(*data, weights=weights, cluster=cluster)
    figures = dict(
        ap=measure_scores(*data, ['ap'], weights)['ap'],
        brier=brier_parts(*data, weights)['brier'],
        ece=error['ece'],
        ece_debiased=error['debiased'],
        ece_over_chance=error['debiased'] - error['if_calibrated'],
        net_benefit=curve['model'],
        threshold=point['threshold'],
        **{name: line[name].value for name in line},
    )
    rates = {name: point[name].value for name in ('specificity', 'called_per_melanoma')}
    covers = dict(
        slope=line['slope'].lo <= 1 <= line['slope'].hi,
        intercept=line['intercept'].lo <= 0 <= line['intercept'].hi,
        observed_expected=line['observed_expected'].lo <= 1 <= line['observed_expected'].hi,
        net_benefit=curve['lo'] <= true_benefit() <= curve['hi'],
    )
    known, true = point['specificity'], truth(point['threshold'])[1]
    return figures | rates, covers | dict(specificity=known.lo <= true <= known.hi)


def rows_of_weights(oof, seed):
    "All images, a sample of the benign ones with weights, and the sample without."
    weighted = sampled(oof, seed)
    sample = weighted.drop(columns='sampling_weight')
    found = [figures_of(table) for table in (oof, weighted, sample)]
    return [
        dict(
            figure=name,
            all_images=found[0][0][name],
            weighted=found[1][0][name],
            unweighted=found[2][0][name],
            covers=found[1][1].get(name, np.nan),
        )
        for name in found[0][0]
    ]


def means(rows, by, positives, sims):
    "Means of the simulated sets, one row a group."
    table = pd.DataFrame(rows).groupby(by, sort=False).mean(numeric_only=False)
    table = table.astype(float).round(5).reset_index()
    table.insert(0, 'positives', positives)
    table.insert(1, 'simulations', sims)
    return table


def weight_means(rows, positives, sims):
    "Means of the figures, and how far weighted ones are off in Monte Carlo standard errors."
    table = means(rows, ['figure'], positives, sims)
    off = pd.DataFrame(rows)
    off['off'] = off['weighted'] - off['all_images']
    spread = off.groupby('figure', sort=False)['off']
    table['off_in_se'] = (spread.mean() / (spread.std() / np.sqrt(sims))).round(2).to_numpy()
    return table


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--sims', type=int, nargs='*', default=[600, 600, 400, 200, 300],
                        help='simulated sets, one number for each of --positives, or one for all')
    parser.add_argument('--positives', type=int, nargs='*', default=[50, 60, 80, 200, 581],
                        help='melanomas, about')
    parser.add_argument('--dest', type=Path, default=RESULTS / 'evidence', help='folder of tables')
    return parser.parse_args()


def one_size(positives, sims):
    "The tables of one size: points, models, calibration, weights."
    points, models, calibration, weights = [], [], [], []
    for seed in range(20_000, 20_000 + sims):
        oof = simulated(positives, 0.3, seed).drop(columns='patient_id')  # group says the same
        of_points, of_models = rows_of_points(oof, seed)
        points += of_points
        models += of_models
        calibration += rows_of_calibration(oof, seed + positives)
        if positives >= 581:
            weights += rows_of_weights(oof, seed)
    reached = len(models) // len(MODELS)
    return dict(
        judged_points=means(points, ['what', 'way'], positives, sims).assign(reached=reached),
        judged_models=means(models, ['model'], positives, sims).assign(reached=reached),
        judged_calibration=means(calibration, ['what'], positives, sims),
        judged_weights=weight_means(weights, positives, sims) if weights else None,
    )


def main():
    "Simulate and write the four tables."
    given = options()
    sims = given.sims * len(given.positives) if len(given.sims) == 1 else given.sims
    found = []
    for positives, number in zip(given.positives, sims, strict=True):
        found.append(one_size(positives, number))
        for name in found[0]:
            tables = [tables[name] for tables in found if tables[name] is not None]
            if tables:
                write_csv(given.dest / f'{name}.csv', pd.concat(tables, ignore_index=True))
                print(tables[-1].to_string(), flush=True)


if __name__ == '__main__':
    main()
