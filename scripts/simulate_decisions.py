"""Do the promises hold? Operating points and conformal sets on simulated patients, truth by formula.

    python scripts/simulate_decisions.py [--sims 1000]

The scores are normal, so the true sensitivity and specificity of any threshold are known exactly and need no second sample. Writes decisions.csv beside this file."""
import argparse
from pathlib import Path
from statistics import NormalDist
import numpy as np, pandas as pd
from melanoma_nbdev.evidence.decisions import conformal_fit, safe_threshold
from melanoma_nbdev.core import write_csv
from melanoma_nbdev.evidence.oof import clusters, simulate_oof

TRUE, PREV, PER = .90, .0176, 16.
N, D = NormalDist(), 2**.5*NormalDist().inv_cdf(TRUE)

def truth(t):
    "True sensitivity and specificity of calling melanoma at `p_melanoma >= t`."
    if not np.isfinite(t): return (1., 0.) if t < 0 else (0., 1.)
    z = (np.log(t/(1 - t)) - np.log(PREV/(1 - PREV)) + D*D/2)/D
    return 1 - N.cdf(z - D), N.cdf(z)

def one(positives, icc, seed):
    df = simulate_oof(max(20, round(positives/PREV/PER)), PER, PREV, TRUE, icc=icc, seed=seed); y, p, g = df['target'].to_numpy(), df['p_melanoma'].to_numpy(), clusters(df); row = {}
    for kind, i, goal in (('sensitivity', 0, .95), ('specificity', 1, .90)):
        for how, c, conf in (('promise', g, .95), ('promise_worst', g, .95), ('promise_images', None, .95), ('plain', None, None)):
            t = safe_threshold(y, p, c, **{kind: goal}, confidence=conf, icc=1. if how == 'promise_worst' else 0. if c is None else None)
            row[f'{kind}|{how}'] = truth(t)[i] if np.isfinite(t) else np.nan; row[f'{kind}|{how}|other'] = truth(t)[1 - i] if np.isfinite(t) else np.nan
    f = conformal_fit(y, p, .1); row['cover_melanoma'] = truth(f['melanoma'])[0]; row['cover_benign'] = truth(np.nextafter(f['benign'], 1))[1]
    return row

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__); ap.add_argument('--sims', type=int, default=1000); ap.add_argument('--dest', default=str(Path(__file__).parent)); a = ap.parse_args(); out = []
    for pos in (50, 200, 581):
        for icc in (.3, .6):
            d = pd.DataFrame([one(pos, icc, 10_000 + s) for s in range(a.sims)])
            for kind, goal in (('sensitivity', .95), ('specificity', .90)):
                for how in ('promise', 'promise_worst', 'promise_images', 'plain'):
                    v = d[f'{kind}|{how}']; ok = v.notna()
                    out.append(dict(positives=pos, icc=icc, what=f'{kind} {how}', target=goal, simulations=len(d), reachable=round(ok.mean(), 4), kept=round((v[ok] >= goal).mean(), 4) if ok.any() else np.nan, mean=round(v[ok].mean(), 4), mean_other=round(d[f'{kind}|{how}|other'][ok].mean(), 4)))
            for c in ('cover_melanoma', 'cover_benign'):
                out.append(dict(positives=pos, icc=icc, what=f'conformal {c}', target=.9, simulations=len(d), reachable=1., kept=np.nan, mean=round(d[c].mean(), 4), mean_other=np.nan))
            print(pos, icc, flush=True)
    t = pd.DataFrame(out); write_csv(Path(a.dest)/'decisions.csv', t); print(t.to_string())
