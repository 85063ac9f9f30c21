"""What of a finished run is kept in the repository, after melanoma_evaluate:

    python scripts/summarise_run.py runs/small_ham10000
    python scripts/summarise_run.py runs/phantom20000 --phantom data/phantom-20000 --to results/truth/small20000
    python scripts/summarise_run.py runs/phantom20000_taught --phantom data/phantom-20000-192 --taught runs/criteria --to results/truth/taught96

Copies the run's small files to results/<name>/ and writes summary.json (hours, the fixed and the best epoch); for a synthetic set truth.json as well (truth.py), and criteria.json where the backbone was taught first (criteria.py)."""
import argparse, shutil
from pathlib import Path
import numpy as np, pandas as pd
from melanoma_nbdev.core import read_json, write_json
from truth import distance, made_by

def trained(a)->str:
    "The call that trained the run, with the folders that the other calls name; a weights file from elsewhere lies where the reader put it."
    c = read_json(a.run/'config.json')['command'].replace(f'--data {a.phantom.name} ', f'--data data/{a.phantom.name} ') + f' --out runs/{a.run.name}'
    return c.replace('--weights model.safetensors', f'--weights runs/{a.taught.name}/model.safetensors') if a.taught else c

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument('run', type=Path); ap.add_argument('--phantom', type=Path); ap.add_argument('--taught', type=Path); a = ap.parse_args(); dest = Path(__file__).parents[1]/a.run.name; dest.mkdir(exist_ok=True)
    for f in ('config.json', 'environment.json', 'metrics.json', 'oof.csv'): shutil.copyfile(a.run/f, dest/f)
    hist = {f.parent.name: pd.read_csv(f) for f in sorted(a.run.glob('fold*/history.csv'))}; m = read_json(a.run/'metrics.json')
    for k, h in hist.items(): shutil.copyfile(a.run/k/'history.csv', dest/f'history_{k}.csv')
    b = m['optimism']['best_epoch']
    write_json(dest/'summary.json', dict(hours=round(sum(h.seconds.sum() for h in hist.values())/3600, 3), images_per_s=round(float(pd.concat(hist.values()).images_per_s.mean()), 1), peak_mb=float(max(h.peak_mb.max() for h in hist.values())),
        auc_fixed=b['fixed'], auc_best=b['best'], optimism=b['diff'], optimism_lo=b['lo'], optimism_hi=b['hi'], last_epoch_was_best=int(sum(int(np.nanargmax(h.mel_auc)) == len(h) - 1 for h in hist.values())), folds=len(hist), **({'macro_auc': m['diagnoses']['macro_auc']} if m.get('diagnoses') else {})))
    if a.taught: shutil.copyfile(a.taught/'criteria.json', dest/'criteria.json')
    first = read_json(a.taught/'criteria.json')['commands'] if a.taught else []; more = f' --taught runs/{a.taught.name}' if a.taught else ''
    if a.phantom: write_json(dest/'truth.json', distance(a.phantom, pd.read_csv(a.run/'oof.csv', dtype={'image_id': str})) | dict(commands=[*first, made_by(a.phantom), trained(a), f'melanoma_evaluate runs/{a.run.name}', f'python scripts/summarise_run.py runs/{a.run.name} --phantom data/{a.phantom.name}{more}']))
    print((dest/'summary.json').read_text())
