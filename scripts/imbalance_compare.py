"""The arms of the imbalance study against plain cross-entropy, from the out-of-fold probabilities
that run.py wrote: python scripts/imbalance_compare.py         # writes <set>-ranking.csv,
<set>-calibration.csv, <set>-threshold.csv and summary.json beside this file Differences are paired
on the same images and averaged over seeds; their intervals resample whole groups (lesions and
duplicates, or patients), alike for both arms and all seeds. They hold for the networks that were
trained: what another seed would change is not in them, so each seed's difference stands beside.
`p_holm` allows for all the arms that are compared with plain cross-entropy on one measure (Holm
1979)."""

from pathlib import Path
import numpy as np, pandas as pd
from melanoma_nbdev.evidence.calibration import (
    brier_parts,
    calibration_error,
    prior_shift,
    recalibrate,
)
from melanoma_nbdev.core import read_json, write_csv, write_json
from melanoma_nbdev.training.losses import class_weights
from melanoma_nbdev.evidence.auc import bootstrap, percentile_interval, measure_scores
from scipy.stats import norm

HERE = Path(__file__).parent
NAMES = ('auc', 'pauc80', 'ap', 'sens_at_spec95')


def holm(p):
    "Holm's adjusted p-values (1979) of several comparisons."
    p = np.asarray(p, float)
    o = np.argsort(p)
    q = np.empty(len(p))
    q[o] = np.minimum(np.maximum.accumulate(p[o] * np.arange(len(p), 0, -1)), 1)
    return q


def ranking(t, arms, seeds, base='bce', n_boot=2000):
    """Per arm and measure: mean over seeds with its interval, difference from `base` with its
    interval, and the difference of each seed."""
    y, g, val, bs, one = t.target.to_numpy(), t.group.factorize()[0], {}, {}, {}
    for a in arms:
        ms, rs = (
            [measure_scores(y, t[f'{a}|{s}'].to_numpy(), NAMES) for s in seeds],
            [bootstrap(y, t[f'{a}|{s}'].to_numpy(), g, NAMES, n_boot, 0) for s in seeds],
        )
        one[a], val[a], bs[a] = (
            ms,
            {k: np.mean([m[k] for m in ms]) for k in NAMES},
            {k: np.mean([r[k] for r in rs], 0) for k in NAMES},
        )
    rows = []
    for a in arms:
        for k in NAMES:
            own, d = (
                percentile_interval(bs[a][k], val[a][k]),
                percentile_interval(bs[a][k] - bs[base][k], val[a][k] - val[base][k]),
            )
            rows.append(
                dict(
                    arm=a,
                    measure=k,
                    value=val[a][k],
                    lo=own['lo'],
                    hi=own['hi'],
                    diff=d['value'],
                    diff_lo=d['lo'],
                    diff_hi=d['hi'],
                    se=d['se'],
                    detectable=2.8016 * d['se'],
                    p=np.nan if a == base else 2 * norm.sf(abs(d['value']) / d['se']),
                    **{
                        f'diff_seed{s}': one[a][i][k] - one[base][i][k] for i, s in enumerate(seeds)
                    },
                )
            )
    r = pd.DataFrame(rows)
    r['p_holm'] = np.nan
    for k in NAMES:
        i = r.index[(r.measure == k) & (r.arm != base)]
        r.loc[i, 'p_holm'] = holm(r.p[i])
    return r


def trained_prior(arm, pi, n):
    """The prevalence that an arm's probabilities assume; None where no formula says (focal loss,
    AUC margin)."""
    odds, la = pi / (1 - pi), arm.get('loss_args', {})
    loss = arm.get('loss', 'ce')
    if loss in ('auc_margin', 'focal'):
        return None
    if 'pos_rate' in arm:
        return arm['pos_rate']
    if loss == 'logit_adjusted':
        return 0.5
    if loss == 'weighted':
        odds *= la['pos_weight']
    if loss == 'class_balanced':
        w = class_weights([n * (1 - pi), n * pi], la['beta'])
        odds *= w[1] / w[0]
    odds *= arm.get('times', 1)
    return odds / (1 + odds)


def calibration(t, info, n_boot=2000):
    """Per arm and way of correcting, means over seeds: Brier score with its difference from plain
    cross-entropy treated in the same way, debiased ECE, and the mean risk over the share of
    melanomas."""
    pi, n, rows, y = (
        info['prevalence'],
        info['n'] * (1 - 1 / info['settings']['folds']),
        [],
        t.target.to_numpy(),
    )
    loss = {}
    for a, spec in info['arms'].items():
        prior = trained_prior(spec, pi, n)
        for s in info['seeds']:
            p = t[f'{a}|{s}'].to_numpy().clip(1e-9, 1 - 1e-9)
            oof = pd.DataFrame(
                dict(
                    image_id=t.image_id, target=y, fold=t[f'fold|{s}'], group=t.group, p_melanoma=p
                )
            )
            ways = {
                'as trained': p,
                'prior corrected': None if prior is None else prior_shift(p, prior, pi),
                'temperature': recalibrate(oof, 'temperature')[0].p_melanoma.to_numpy(),
                'Platt': recalibrate(oof, 'platt')[0].p_melanoma.to_numpy(),
            }
            for w, q in ways.items():
                if q is None:
                    continue
                rows.append(
                    dict(
                        arm=a,
                        way=w,
                        brier=brier_parts(y, q)['brier'],
                        ece=calibration_error(y, q)['debiased'],
                        mean_over_observed=q.mean() / pi,
                    )
                )
                loss[a, w] = loss.get((a, w), 0) + (q - y) ** 2 / len(info['seeds'])
    r = (
        pd.DataFrame(rows)
        .groupby(['arm', 'way'], sort=False)
        .mean()
        .reset_index()
        .assign(base_rate_brier=pi * (1 - pi))
    )
    g = t.group.factorize()[0]
    W = np.random.default_rng(0).multinomial(
        g.max() + 1, np.full(g.max() + 1, 1 / (g.max() + 1)), n_boot
    )
    size = W @ np.bincount(g)
    for i, row in r.iterrows():
        d = loss[row.arm, row.way] - loss['bce', row.way]
        b = W @ np.bincount(g, d) / size
        r.loc[i, ['brier_diff', 'brier_diff_lo', 'brier_diff_hi']] = (
            d.mean(),
            *np.quantile(b, (0.025, 0.975)),
        )
    return r


def threshold(t, info):
    """Sensitivity and specificity at 0.5, and of plain cross-entropy at a threshold moved to the
    prevalence; means over seeds."""
    y = t.target.to_numpy() == 1
    at = lambda a, thr: np.mean(
        [
            [(h := t[f'{a}|{s}'].to_numpy() >= thr)[y].mean(), (~h)[~y].mean()]
            for s in info['seeds']
        ],
        0,
    )
    rows = [
        dict(
            arm=a,
            threshold=0.5,
            **dict(zip(('sensitivity', 'specificity'), at(a, 0.5), strict=False)),
        )
        for a in info['arms']
    ] + [
        dict(
            arm='bce, moved',
            threshold=info['prevalence'],
            **dict(
                zip(('sensitivity', 'specificity'), at('bce', info['prevalence']), strict=False)
            ),
        )
    ]
    return pd.DataFrame(rows).assign(
        balanced_accuracy=lambda d: (d.sensitivity + d.specificity) / 2
    )


if __name__ == '__main__':
    out = {}
    for name in ('ham10000', 'phantom'):
        if not (HERE / f'{name}.json').exists():
            continue
        t, info = (
            pd.read_csv(HERE / f'{name}.csv.gz', dtype={'image_id': str, 'group': str}),
            read_json(HERE / f'{name}.json'),
        )
        r, c = ranking(t, list(info['arms']), info['seeds']), calibration(t, info)
        for k, d in dict(ranking=r, calibration=c, threshold=threshold(t, info)).items():
            write_csv(
                HERE / f'{name}-{k}.csv',
                d.map(lambda v: float(f'{v:.6g}') if isinstance(v, float) else v),
            )
        a = r[r.measure == 'auc'].set_index('arm')
        e = c.pivot(index='arm', columns='way', values='ece')
        d = a.drop(index='bce')
        out[name] = dict(
            n=info['n'],
            n_pos=info['n_pos'],
            seeds=len(info['seeds']),
            arms=len(info['arms']),
            bce_auc=a.value['bce'],
            bce_lo=a.lo['bce'],
            bce_hi=a.hi['bce'],
            better=sorted(d.index[(d['diff'] > 0) & (d.p_holm < 0.05)]),
            worse=sorted(d.index[(d['diff'] < 0) & (d.p_holm < 0.05)]),
            beyond_own_interval=[
                f'{x.arm} {x.measure} {x["diff"]:+.3f}'
                for _, x in r[r.arm != 'bce'].iterrows()
                if x.diff_lo > 0 or x.diff_hi < 0
            ],
            comparisons=int((r.arm != 'bce').sum()),
            diff_min=d['diff'].min(),
            diff_max=d['diff'].max(),
            detectable_min=d.detectable.min(),
            detectable_max=d.detectable.max(),
            ece_bce=e.loc['bce', 'as trained'],
            stated_bce=c.set_index(['arm', 'way']).mean_over_observed['bce', 'as trained'],
            platt_differs=sorted(
                c.arm[
                    (c.way == 'Platt')
                    & (c.arm != 'bce')
                    & ((c.brier_diff_lo > 0) | (c.brier_diff_hi < 0))
                ]
            ),
            ece_worst=e['as trained'].max(),
            ece_worst_arm=e['as trained'].idxmax(),
            ece_corrected_max=e['prior corrected'].max(),
            ece_platt_max=e['Platt'].max(),
        )
        if (HERE / f'{name}-truth.json').exists():
            out[name] |= {
                f'{kind}_{k}': v
                for kind in ('z', 'picture')
                for d in [read_json(HERE / f'{name}-truth.json')[kind]]
                for k, v in d.items()
            }
    write_json(HERE / 'summary.json', out)
    print(pd.Series(out['ham10000']).to_string())
