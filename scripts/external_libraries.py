"""Net benefit and DeLong's interval against independent libraries. Run in an environment of its own, since dcurves needs an older pandas than this project:

    uv venv .venv-check && uv pip install --python .venv-check/bin/python dcurves confidenceinterval
    python scripts/external_libraries.py make check.csv      # in the project's environment: the data
    .venv-check/bin/python scripts/external_libraries.py other check.csv other.json
    python scripts/external_libraries.py compare check.csv other.json   # writes external.csv beside this file"""
import json, sys
from pathlib import Path

THRESHOLDS = [.005, .01, .02, .05, .1, .2, .5]

def make(dest):
    from melanoma_nbdev.evidence.oof import simulate_oof
    simulate_oof(500, prevalence=.05, seed=21)[['target', 'p_melanoma']].round(6).to_csv(dest, index=False)

def other(src, dest):
    "What dcurves and confidenceinterval say; imports nothing of this project."
    import pandas as pd
    from importlib.metadata import version
    from dcurves import dca
    from confidenceinterval import roc_auc_score
    d = pd.read_csv(src); t = dca(data=d, outcome='target', modelnames=['p_melanoma'], thresholds=THRESHOLDS); pick = lambda m: t[t.model == m].set_index('threshold').net_benefit
    a, (lo, hi) = roc_auc_score(d.target, d.p_melanoma, confidence_level=.95)
    json.dump(dict(model=[float(pick('p_melanoma')[x]) for x in THRESHOLDS], all=[float(pick('all')[x]) for x in THRESHOLDS], auc=float(a), lo=float(lo), hi=float(hi), versions={p: version(p) for p in ('dcurves', 'confidenceinterval')}), open(dest, 'w'))

def compare(src, theirs):
    import pandas as pd
    from melanoma_nbdev.evidence.decisions import net_benefit
    from melanoma_nbdev.core import write_csv
    from melanoma_nbdev.evidence.auc import delong
    d, o = pd.read_csv(src), json.load(open(theirs)); y, p = d.target.to_numpy(), d.p_melanoma.to_numpy(); nb, dl = net_benefit(y, p, THRESHOLDS), delong(y, p)
    rows = [dict(what=f'net benefit of {k} at {t:g}', library=f"dcurves {o['versions']['dcurves']}", theirs=b, ours=a) for k in ('model', 'all') for t, a, b in zip(THRESHOLDS, nb[k], o[k])]
    rows += [dict(what=f'DeLong {k}', library=f"confidenceinterval {o['versions']['confidenceinterval']}", theirs=o[k], ours=dl[k]) for k in ('auc', 'lo', 'hi')]
    t = pd.DataFrame(rows).assign(difference=lambda t: (t.ours - t.theirs).abs()); write_csv(Path(__file__).parent/'external.csv', t); print(t.to_string())

if __name__ == '__main__': dict(make=make, other=other, compare=compare)[sys.argv[1]](*sys.argv[2:])
