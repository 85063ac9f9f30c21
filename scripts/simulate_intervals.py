#!/usr/bin/env python3
"""Whether intervals and tests of the evidence keep what they say, by simulation: new beside old.

    python scripts/simulate_intervals.py
    python scripts/simulate_intervals.py coverage weights --sets 5 --dest runs/try

Parts: coverage (intervals of measures), differences (two models, paired), perfect (small tables
that a score separates), cells (the heterogeneity test where nothing differs), floor (what facts
by lot add to an image), weights (a sample of the benign images against all of them). Patients are
clustered as in SIIM-ISIC 2020. Each part writes a table of its name to the folder of the results;
seeds are 0, 1, 2 and so on. Stored are 300 sets for coverage, 1000 for perfect, 600 for cells, and
with `--n_boot 500` 500 for differences (three fifths of them at 581 melanomas), 160 for floor and
400 for weights."""
import warnings
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import sigmoid, write_csv
from melanoma_nbdev.words import SITES
from melanoma_nbdev.evidence.auc import auc, measure_scores
from melanoma_nbdev.evidence.proportions import share_interval
from melanoma_nbdev.evidence.intervals import (
    auc_interval, bootstrap, groups_that_count, measure_interval, percentile_interval, rarer_groups)
from melanoma_nbdev.evidence.comparison import bootstrap_ratio, compare_models, paired_difference
from melanoma_nbdev.evidence.image_gain import (
    combine_scores, floor_of_predictions, what_the_image_adds)
from melanoma_nbdev.evidence.oof import Interval, clusters, simulate_oof
from melanoma_nbdev.evidence.subgroups import heterogeneity
from scipy.stats import chi2, norm

PREVALENCE, IMAGES_PER_PATIENT = .0176, 16.
NAMES = ('auc', 'pauc80', 'ap', 'sens_at_spec90', 'sens_at_spec95', 'spec_at_sens90',
         'spec_at_sens95')


def separation(true_auc):
    "How far apart two normal scores of that AUC lie."
    return 2**.5*NormalDist().inv_cdf(true_auc)


def true_measures(apart):
    "What scores reach in an infinite population: benign N(0, 1), melanomas N(apart, 1)."
    thresholds = np.linspace(-9, 9 + apart, 400_001)
    found, false = norm.sf(thresholds - apart), norm.sf(thresholds)
    share = norm.pdf(thresholds - apart)*(thresholds[1] - thresholds[0])
    precision = PREVALENCE*found/(PREVALENCE*found + (1 - PREVALENCE)*false)
    above = -np.trapezoid(np.maximum(found - .8, 0), false)
    truth = dict(auc=norm.cdf(apart/2**.5), pauc80=above, ap=(share*precision).sum())
    for percent in (90, 95):
        truth[f'sens_at_spec{percent}'] = norm.sf(norm.isf(1 - percent/100) - apart)
        truth[f'spec_at_sens{percent}'] = norm.cdf(apart - norm.ppf(percent/100))
    return {name: float(value) for name, value in truth.items()}


def n_patients(positives):
    "How many patients have about so many melanomas."
    return max(20, round(positives/PREVALENCE/IMAGES_PER_PATIENT))


def columns_of(oof):
    "Targets, scores and clusters."
    return oof['target'].to_numpy(), oof['p_melanoma'].to_numpy(), clusters(oof, warn=False)


def summed_up(rows, by, truth='truth'):
    "Coverage with its 95% interval, misses on either side, mean width: a row for each setting."
    rows = pd.DataFrame(rows)
    rows['covered'] = (rows['lo'] <= rows[truth]) & (rows[truth] <= rows['hi'])
    rows['above'], rows['below'] = rows['lo'] > rows[truth], rows['hi'] < rows[truth]
    rows['width'] = rows['hi'] - rows['lo']
    groups = rows.groupby(by, sort=False)
    table = groups[[truth, 'covered', 'above', 'below', 'width']].mean()
    table = table.rename(columns=dict(covered='coverage')).assign(sets=groups.size())
    margin = 1.96*np.sqrt(table['coverage']*(1 - table['coverage'])/table['sets'])
    table['coverage_lo'] = table['coverage'] - margin
    table['coverage_hi'] = table['coverage'] + margin
    return table.reset_index().round(5)


def coverage(sets, n_boot):
    "Intervals of each measure: on the logit scale, and percentiles."
    rows = []
    for positives, true_auc in ((50, .9), (50, .97), (200, .9), (581, .9)):
        truth = true_measures(separation(true_auc))
        for seed in range(sets):
            data = columns_of(simulate_oof(
                n_patients(positives), IMAGES_PER_PATIENT, PREVALENCE, true_auc, seed=seed))
            values = measure_scores(*data[:2], NAMES)
            draws = bootstrap(*data, NAMES, n_boot, seed)
            for name in NAMES:
                both = dict(
                    logit=measure_interval(name, draws[name], data[0], data[2], values[name]),
                    percentile=percentile_interval(draws[name], values[name]))
                rows += [dict(positives=positives, auc=true_auc, measure=name, method=method,
                              truth=truth[name], lo=one.lo, hi=one.hi)
                         for method, one in both.items()]
    return summed_up(rows, ['positives', 'auc', 'measure', 'method'])


def two_models(positives, noise, seed):
    "Two models whose scores have own noise, of which the second has `noise`; the first has 0.5."
    oof = simulate_oof(n_patients(positives), IMAGES_PER_PATIENT, PREVALENCE, .9, seed=seed)
    rng, apart, models = np.random.default_rng(10**6 + seed), separation(.9), []
    for of_model in (.5, noise):
        logits = oof['logit_MEL'] + apart*of_model*rng.normal(size=len(oof))
        models.append(oof.assign(p_melanoma=sigmoid(logits)))
    return models


def differences(sets, n_boot):
    "Paired differences of two models that are equal, and of two that are not."
    rows, names = [], ('auc', 'pauc80', 'ap', 'sens_at_spec95', 'spec_at_sens95')
    for positives in (50, 200, 581):
        for models, noise in (('equal', .5), ('apart', 1.)):
            truths = [true_measures(separation(.9)/(1 + one*one)**.5) for one in (.5, noise)]
            for seed in range(sets if positives < 500 else 3*sets//5):
                data = [columns_of(table) for table in two_models(positives, noise, seed)]
                values = [measure_scores(*one[:2], names) for one in data]
                draws = [bootstrap(*one, names, n_boot, seed) for one in data]
                groups = rarer_groups(data[0][0], data[0][2])
                for name in names:
                    pair = [one[name] for one in draws]
                    both = [one[name] for one in values]
                    intervals = dict(
                        student=paired_difference(*pair, both, groups_that_count(name, groups)),
                        all_groups=paired_difference(*pair, both, groups),
                        percentile=percentile_interval(pair[0] - pair[1]))
                    rows += [dict(positives=positives, models=models, measure=name,
                                  truth=truths[0][name] - truths[1][name], method=method,
                                  lo=one['lo'], hi=one['hi'])
                             for method, one in intervals.items()]
    return summed_up(rows, ['positives', 'models', 'measure', 'method'])


def perfect(sets, n_boot):
    "Small tables of single images, of which many are separated without an error."
    rows = []
    sizes = (10, 30, .97), (10, 100, .97), (10, 100, .99), (20, 60, .99)
    for melanomas, benign, true_auc in sizes:
        is_melanoma = np.repeat([1, 0], [melanomas, benign])
        for seed in range(sets):
            noise = np.random.default_rng(seed).normal(size=len(is_melanoma))
            scores = noise + separation(true_auc)*is_melanoma
            value = auc(is_melanoma, scores)
            draws = bootstrap(is_melanoma, scores, n_boot=n_boot, seed=seed)['auc']
            both = dict(here=auc_interval(draws, is_melanoma, None, value),
                        percentile=percentile_interval(draws, value))
            rows += [dict(melanomas=melanomas, benign=benign, auc=true_auc, method=method,
                          truth=true_auc, lo=one.lo, hi=one.hi) for method, one in both.items()]
    table = summed_up(rows, ['melanomas', 'benign', 'auc', 'method'])
    rows = pd.DataFrame(rows).assign(no_width=lambda one: one['lo'] == one['hi'])
    none = rows.groupby(['melanomas', 'benign', 'auc', 'method'], sort=False)['no_width'].mean()
    return table.assign(no_width=none.to_numpy().round(4))


UNEVEN = (.5, .2, .1, .1, .1), (.4, .25, .15, .1, .05, .05)
CELLS = {
    '100 melanomas, 5 equal levels': (100, (.2,)*5, .120),
    '200 melanomas, 5 uneven levels': (200, UNEVEN[0], .127),
    '581 melanomas, 6 uneven levels': (581, UNEVEN[1], .103),
    '581 melanomas, 6 equal levels': (581, (1/6,)*6, .097),
}


def p_of_cells(positives, shares, seed, n_boot):
    "p where levels are drawn by lot for each patient: of the test, and of Wald's on raw AUCs."
    patients = n_patients(positives)
    data = columns_of(simulate_oof(patients, IMAGES_PER_PATIENT, PREVALENCE, .9, seed=seed))
    level = np.random.default_rng(10**6 + seed).choice(len(shares), patients, p=shares)[data[2]]
    cells = [[column[level == cell] for column in data] for cell in range(len(shares))]
    cells = [cell for cell in cells if 10 <= cell[0].sum()]
    draws = [bootstrap(*cell, n_boot=n_boot, seed=seed, n_clusters=patients)['auc']
             for cell in cells]
    draws = np.stack(draws, 1)
    values = np.array([auc(*cell[:2]) for cell in cells])
    groups = np.array([rarer_groups(cell[0], cell[2]) for cell in cells])
    contrasts = np.eye(len(cells))[1:] - np.eye(len(cells))[:1]
    covariance = contrasts @ np.cov(draws[np.isfinite(draws).all(1)].T) @ contrasts.T
    gap = contrasts @ values
    wald = chi2.sf(gap @ np.linalg.pinv(covariance) @ gap, len(cells) - 1)
    return heterogeneity(values, draws, groups)['p'], wald


def cells(sets, n_boot):
    "How often the heterogeneity test finds a difference where there is none."
    rows = []
    for setting, (positives, shares, review) in CELLS.items():
        found = np.array([p_of_cells(positives, shares, seed, n_boot) for seed in range(sets)])
        for method, p_values in zip(('welch', 'wald'), found.T, strict=True):
            rows.append(dict(
                setting=setting, method=method, size=np.mean(p_values < .05),
                size_1=np.mean(p_values < .01), sets=sets,
                review=review if method == 'wald' else np.nan))
    return pd.DataFrame(rows).round(4)


def facts_by_lot(patients, seed):
    "Predictions with sex, age and site that have nothing to do with the truth."
    oof, rng = simulate_oof(patients, seed=seed), np.random.default_rng(10**6 + seed)
    sex = rng.choice(['male', 'female'], patients)[oof['group']]
    age = rng.integers(20, 80, patients)[oof['group']]
    return oof.assign(sex=sex, age=age, site=rng.choice(SITES[:3], len(oof)))


def floor(sets, n_boot):
    "What a floor of facts by lot adds to an image: within folds, and over all pairs."
    rows = []
    for positives in (110, 581):
        for seed in range(sets):
            image = facts_by_lot(n_patients(positives), seed)
            blind = floor_of_predictions(image)
            row = what_the_image_adds(image, blind, n_boot, seed).loc['both - image']
            rows.append(dict(positives=positives, method='pairs of one fold', truth=0.,
                             gain=row['auc'], lo=row['lo'], hi=row['hi']))
            both = combine_scores(image, blind)
            pooled = compare_models(both, image, ['auc'], n_boot, seed)['auc']
            rows.append(dict(positives=positives, method='all pairs', truth=0.,
                             gain=pooled['diff'], lo=pooled['lo'], hi=pooled['hi']))
    gain = pd.DataFrame(rows).groupby(['positives', 'method'], sort=False)['gain'].mean()
    table = summed_up(rows, ['positives', 'method'])
    return table.assign(gain=gain.to_numpy().round(6))


def sampled(oof, seed, benign=5478):
    "All melanomas and so many of the benign images, with the weights of the sample."
    rng, is_benign = np.random.default_rng(10**6 + seed), (oof['target'] == 0).to_numpy()
    kept = ~is_benign
    kept[rng.choice(np.flatnonzero(is_benign), benign, replace=False)] = True
    weight = np.where(is_benign, is_benign.sum()/benign, 1.)
    return oof.assign(sampling_weight=weight)[kept]


def ratios_of(is_melanoma, scores, threshold=.02):
    "Figures that are ratios of sums over images: name -> numerator, denominator."
    called, ones = scores >= threshold, np.ones(len(scores))
    harm = threshold/(1 - threshold)
    return dict(
        prevalence=(is_melanoma, ones), brier=((scores - is_melanoma)**2, ones),
        ppv=(called*is_melanoma, called), npv=(~called*(1 - is_melanoma), ~called),
        net_benefit=(called*(is_melanoma - (1 - is_melanoma)*harm), ones))


def true_ratios(threshold=.02):
    "The same for calibrated scores in an infinite population."
    apart, prior = separation(.9), np.log(PREVALENCE/(1 - PREVALENCE))
    grid = np.linspace(-9, 9 + apart, 400_001)
    risks = sigmoid(apart*grid - apart*apart/2 + prior)
    melanoma, benign = PREVALENCE*norm.pdf(grid - apart), (1 - PREVALENCE)*norm.pdf(grid)
    called, step = risks >= threshold, grid[1] - grid[0]
    def mass(density): return float(density.sum()*step)
    found, false = mass(called*melanoma), mass(called*benign)
    left = mass(~called*benign), mass(~called*(melanoma + benign))
    return dict(
        prevalence=PREVALENCE, brier=mass(melanoma*(1 - risks)**2 + benign*risks**2),
        ppv=found/(found + false), npv=left[0]/left[1],
        net_benefit=found - false*threshold/(1 - threshold))


def figures_of(data, weights, n_boot, seed):
    "Name -> value and interval, with weights or without."
    is_melanoma, scores, cluster = data
    values = measure_scores(is_melanoma, scores, NAMES, weights)
    draws = bootstrap(is_melanoma, scores, cluster, NAMES, n_boot, seed, weights=weights)
    found = {name: measure_interval(name, draws[name], is_melanoma, cluster, values[name])
             for name in NAMES}
    ones = np.ones(len(scores)) if weights is None else weights
    for name, (above, below) in ratios_of(is_melanoma, scores).items():
        resampled = bootstrap_ratio(above, below, cluster, n_boot, seed, weights=weights)[:, 0]
        plain = percentile_interval(resampled, float(ones @ above/(ones @ below)))
        if name in ('prevalence', 'ppv', 'npv'):
            of = below > 0
            known = share_interval(above[of], cluster[of], ones[of])
            plain = Interval(known.value, known.lo, known.hi, se=plain['se'])
        found[name] = plain
    return found


def weights(sets, n_boot):
    "Samples of 6,059 images of populations of some 32,700, weighted and not, against the truth."
    truth, rows = true_measures(separation(.9)) | true_ratios(), []
    for seed in range(sets):
        oof = simulate_oof(2056, IMAGES_PER_PATIENT, PREVALENCE, .9, seed=seed)
        sample = sampled(oof, seed)
        data, everything = columns_of(sample), columns_of(oof)
        ways = dict(
            weighted=figures_of(data, sample['sampling_weight'].to_numpy(), n_boot, seed),
            unweighted=figures_of(data, None, n_boot, seed),
            population=figures_of(everything, None, n_boot, seed))
        for method, found in ways.items():
            rows += [dict(measure=name, method=method, truth=truth[name], value=one.value,
                          se=one['se'], lo=one.lo, hi=one.hi,
                          gap=one.value - ways['population'][name].value)
                     for name, one in found.items()]
    grouped = pd.DataFrame(rows).groupby(['measure', 'method'], sort=False)
    table = summed_up(rows, ['measure', 'method'])
    table['mean'], table['sd'] = grouped['value'].mean().array, grouped['value'].std().array
    table['mean_se'] = grouped['se'].mean().array
    # how far the sample is from its own population, and the Monte Carlo error of that mean
    table['gap'] = grouped['gap'].mean().array
    table['gap_error'] = grouped['gap'].std().array/np.sqrt(table['sets'])
    return table.round(6)


PARTS = dict(coverage=coverage, differences=differences, perfect=perfect, cells=cells, floor=floor,
             weights=weights)
FILES = dict(coverage='intervals')


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('parts', nargs='*', default=list(PARTS), help=', '.join(PARTS))
    parser.add_argument('--sets', type=int, default=1000, help='simulated sets of each setting')
    parser.add_argument('--n_boot', type=int, default=1000, help='resamples of a set')
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence',
                        help='folder of the tables')
    return parser.parse_args()


def main():
    "Simulate and write a table for each part."
    given = options()
    warnings.simplefilter('ignore')
    for name in given.parts:
        table = PARTS[name](given.sets, given.n_boot)
        write_csv(given.dest/f'{FILES.get(name, name)}.csv', table)
        print(table.to_string(), flush=True)


if __name__ == '__main__':
    main()
