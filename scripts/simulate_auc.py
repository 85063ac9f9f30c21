"""Coverage of 95% intervals of the AUC by simulation, patients clustered as in SIIM-ISIC 2020 (16 images of a patient on average, 1.76% melanomas).

    python scripts/simulate_auc.py [--sims 1000] [--positives 50 200 581]

Resumable: each simulation is one line of a raw file (under .cache/); coverage.csv is made from all lines that are there."""
import argparse, time
from pathlib import Path
import numpy as np, pandas as pd
from melanoma_nbdev.core import write_csv
from melanoma_nbdev.evidence.auc import RocSteps, auc, auc_interval, bootstrap, delong, percentile_interval
from melanoma_nbdev.evidence.oof import clusters, simulate_oof

TRUE, PREV, PER = .90, .0176, 16.
METHODS = dict(patients='patients resampled, logit scale (used here)', percentile='patients resampled, percentiles', images='images resampled, percentiles', delong='DeLong (images independent)', obuchowski='Obuchowski (clustered DeLong)')

def boot_images(y, p, n_boot, seed):
    "Bootstrap of single images: only the counts at the curve's levels matter, and they are multinomial."
    r = RocSteps(y, p, np.zeros(len(y), int)); pos, neg = (np.asarray(m.todense()).ravel() for m in (r.pos, r.neg))   # no ties here: the scores are continuous
    W = np.random.default_rng(seed).multinomial(len(y), np.r_[pos, neg]/len(y), size=n_boot).T.astype(float); P, N = W[:r.K], W[r.K:]
    return (P*(N.sum(0) - N.cumsum(0)[:-1])).sum(0)/(P.sum(0)*N.sum(0))

def one(positives, icc, seed, n_boot=2000):
    "One simulated set and its four intervals."
    df = simulate_oof(max(20, round(positives/PREV/PER)), PER, PREV, TRUE, icc=icc, seed=seed)
    y, p, g = df['target'].to_numpy(), df['p_melanoma'].to_numpy(), clusters(df)
    bs = bootstrap(y, p, g, n_boot=n_boot, seed=seed)['auc']
    iv = dict(patients=auc_interval(bs, y, g, auc(y, p)), percentile=percentile_interval(bs), images=percentile_interval(boot_images(y, p, n_boot, seed)), delong=delong(y, p), obuchowski=delong(y, p, g))
    row = dict(positives=positives, icc=icc, seed=seed, n=len(y), n_pos=int(y.sum()), n_patients=int(g.max() + 1))
    for k, v in iv.items(): row.update({f'{k}_lo': v['lo'], f'{k}_hi': v['hi']})
    return row

def summary(raw):
    "Coverage with its own 95% interval (normal, of a proportion), mean width, and on which side the truth was missed."
    out = []
    for (pos, icc), d in raw.groupby(['positives', 'icc']):
        for k, name in METHODS.items():
            lo, hi = d[f'{k}_lo'], d[f'{k}_hi']; c = ((lo <= TRUE) & (TRUE <= hi)).mean(); se = np.sqrt(c*(1 - c)/len(d))
            out.append(dict(positives=pos, icc=icc, method=k, name=name, simulations=len(d), coverage=round(c, 4), coverage_lo=round(c - 1.96*se, 4), coverage_hi=round(c + 1.96*se, 4),
                            above=round((lo > TRUE).mean(), 4), below=round((hi < TRUE).mean(), 4), width=round((hi - lo).mean(), 5), mean_n=round(d['n'].mean()), mean_patients=round(d['n_patients'].mean())))
    return pd.DataFrame(out)

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__); ap.add_argument('--sims', type=int, default=1000); ap.add_argument('--positives', type=int, nargs='*', default=[50, 200, 581])
    ap.add_argument('--icc', type=float, nargs='*', default=[.3]); ap.add_argument('--dest', default=str(Path(__file__).parent)); ap.add_argument('--raw', default='.cache/coverage_raw.csv')
    a = ap.parse_args(); rawf = Path(a.raw); rawf.parent.mkdir(parents=True, exist_ok=True)
    done = set(map(tuple, pd.read_csv(rawf)[['positives', 'icc', 'seed']].to_numpy())) if rawf.exists() else set()
    for pos in a.positives:
        for icc in a.icc:
            rows, t = [], time.time()
            for s in range(a.sims):
                if (pos, icc, s) in done: continue
                rows.append(one(pos, icc, s))
                if len(rows) == 20 or s == a.sims - 1:
                    pd.DataFrame(rows).to_csv(rawf, mode='a', header=not rawf.exists(), index=False); rows = []
            print(pos, icc, f'{time.time() - t:.0f} s', flush=True)
    if rawf.exists(): t = summary(pd.read_csv(rawf)); write_csv(Path(a.dest)/'coverage.csv', t); print(t.to_string())
