"""What of a finished run is kept in the repository, after melanoma_evaluate:

    python results/training/summarise.py runs/small_ham10000
    python results/training/summarise.py runs/phantom20000 --phantom data/phantom-20000

Copies the run's small files to results/<name>/ and writes summary.json (hours, the fixed and the best epoch); for a synthetic set truth.json as well: the best reachable AUC, and that of a reader who measures the five criteria
of every picture without error."""
import argparse, shutil
from pathlib import Path
import numpy as np, pandas as pd
from melanoma_nbdev.core import read_json, write_json

def five_criteria(path):
    "AUC of the mean of a lesion's five criteria, as they were drawn."
    from melanoma_nbdev.dermoscopy import abcd, stream
    from melanoma_nbdev.metrics import auc
    from melanoma_nbdev.phantom import _LESION, phantom_table
    c = read_json(Path(path)/'phantom.json')['config']; t = phantom_table(**{k: c[k] for k in ('n_images', 'n_patients', 'size', 'prevalence', 'seed')}); seen = {}
    def read(r):  # as draw_row and draw_lesion begin
        k = (r.patient, r.lesion)
        if k not in seen: g = stream(c['seed'], _LESION, r.patient, r.lesion, 2); a = abcd(np.random.default_rng(g.integers(2**63)), r.z); seen[k] = np.mean([np.log(v/(1 - v)) for v in a.values()])
        return seen[k]
    return auc(t.target, [read(r) for r in t.itertuples()])

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument('run', type=Path); ap.add_argument('--phantom', type=Path); a = ap.parse_args(); dest = Path(__file__).parents[1]/a.run.name; dest.mkdir(exist_ok=True)
    for f in ('config.json', 'environment.json', 'metrics.json', 'oof.csv'): shutil.copyfile(a.run/f, dest/f)
    hist = {f.parent.name: pd.read_csv(f) for f in sorted(a.run.glob('fold*/history.csv'))}; m = read_json(a.run/'metrics.json')
    for k, h in hist.items(): shutil.copyfile(a.run/k/'history.csv', dest/f'history_{k}.csv')
    b = m['optimism']['best_epoch']
    write_json(dest/'summary.json', dict(hours=round(sum(h.seconds.sum() for h in hist.values())/3600, 3), images_per_s=round(float(pd.concat(hist.values()).images_per_s.mean()), 1), peak_mb=float(max(h.peak_mb.max() for h in hist.values())),
        auc_fixed=b['fixed'], auc_best=b['best'], optimism=b['diff'], optimism_lo=b['lo'], optimism_hi=b['hi'], last_epoch_was_best=int(sum(int(np.nanargmax(h.mel_auc)) == len(h) - 1 for h in hist.values())), folds=len(hist), **({'macro_auc': m['diagnoses']['macro_auc']} if m.get('diagnoses') else {})))
    if a.phantom:
        from melanoma_nbdev.phantom import best_auc_ci
        t = best_auc_ci(a.phantom) | dict(five_criteria=five_criteria(a.phantom), distance=0.); t['distance'] = t['auc'] - m['auc']['value']; t['distance_lo'], t['distance_hi'] = t['auc'] - m['auc']['hi'], t['auc'] - m['auc']['lo']
        c = read_json(a.phantom/'phantom.json')['config']; t['commands'] = [f"make_phantom('data/{a.phantom.name}', " + ', '.join(f'{k}={v!r}' for k, v in c.items() if k not in ('plant', 'drawing')) + ')', read_json(a.run/'config.json')['command'], f'melanoma_evaluate runs/{a.run.name}']; write_json(dest/'truth.json', t)
    print((dest/'summary.json').read_text())
