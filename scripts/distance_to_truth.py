"""How far a model is from what can be reached on a synthetic set, whose truth is known:

    python scripts/distance_to_truth.py data/phantom-20000 runs/phantom20000/oof.csv --out results/truth/small20000/truth.json

Two bounds: `z`, the score from which the labels were drawn, and `picture`, the best that can be made of picture and record (`phantom.picture_truth`). The distances are paired on the same images, and their intervals resample
patients alike for bound and model (`metrics.compare`). `weights` says which criteria the scores follow: the coefficients of a linear fit of the logit to the readings of the five, as shares of their sum; `weights_reader` says it of the reader without error, to whom a picture shows a
lesion's size and not its diameter criterion."""
import argparse
from pathlib import Path
import numpy as np, pandas as pd
from melanoma_nbdev.core import read_json, write_json
from melanoma_nbdev.evidence.auc import auc_ci
from melanoma_nbdev.evidence.discrimination import compare_models
from melanoma_nbdev.evidence.oof import clusters, read_oof
from melanoma_nbdev.phantom.bounds import best_auc_ci, picture_truth

def distance(
    phantom:str|Path, # Folder of the synthetic set
    oof, # Out-of-fold file or table of images of the set
    score:str|None=None, # Its column with the score
)->dict: # n, n_pos, n_clusters, model, model_lo, model_hi, and for each bound: auc, lo, hi (of the bound itself), distance, distance_lo, distance_hi
    "The bounds of a set on the images of an out-of-fold file, and how far below them the file's scores rank."
    oof = read_oof(oof, score=score); truth = picture_truth(phantom).rename(columns=dict(image_name='image_id')); truth = truth[truth.image_id.isin(oof.image_id)].reset_index(drop=True); ci = auc_ci(oof.target, oof.p_melanoma, clusters(oof, warn=False)); out = {}
    for kind, column in dict(z='z', picture='z_picture').items():
        c = compare_models(oof.assign(p_melanoma=truth.set_index('image_id').loc[oof.image_id, column].to_numpy()), oof, names=('auc',))
        out |= {k: c[k] for k in ('n', 'n_pos', 'n_clusters', 'n_boot', 'seed')} | dict(model=c['auc']['b'], model_lo=ci['lo'], model_hi=ci['hi']); b = best_auc_ci(truth, kind='picture' if kind == 'picture' else 'set')
        out[kind] = dict(auc=b['auc'], lo=b['lo'], hi=b['hi'], distance=c['auc']['diff'], distance_lo=c['auc']['lo'], distance_hi=c['auc']['hi'])
    names = ['asymmetry', 'border', 'colours', 'structures', 'diameter']; lg = lambda p: np.log(np.clip(p, 1e-7, 1 - 1e-7)/(1 - np.clip(p, 1e-7, 1 - 1e-7)))
    t = truth.set_index('image_id').loc[oof.image_id]; X = lg(t[names].to_numpy())
    for k, y in dict(weights=lg(oof.p_melanoma.to_numpy()), weights_reader=t.z_picture.to_numpy()).items():
        w = np.linalg.lstsq(np.c_[X - X.mean(0), np.ones(len(X))], y, rcond=None)[0][:5]; out[k] = dict(zip(names, (w/w.sum()).round(4).tolist()))
    return out

def made_by(phantom:str|Path)->str:
    "The call that draws the set."
    c = read_json(Path(phantom)/'phantom.json')['config']
    return f"make_phantom('data/{Path(phantom).name}', " + ', '.join(f'{k}={v!r}' for k, v in c.items() if k != 'drawing' and v != []) + ')'

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter); ap.add_argument('phantom', type=Path); ap.add_argument('oof', type=Path); ap.add_argument('--score'); ap.add_argument('--out', type=Path, required=True); a = ap.parse_args()
    old = read_json(a.out).get('commands') if a.out.exists() else None
    d = distance(a.phantom, pd.read_csv(a.oof, dtype={'image_id': str}), a.score) | dict(commands=old or [made_by(a.phantom)]); write_json(a.out, d)
    print('\n'.join(f"{k}: {d[k]['auc']:.4f} ({d[k]['lo']:.4f} to {d[k]['hi']:.4f}), the model {d['model']:.4f} ({d['model_lo']:.4f} to {d['model_hi']:.4f}), distance {d[k]['distance']:.4f} ({d[k]['distance_lo']:.4f} to {d[k]['distance_hi']:.4f})" for k in ('z', 'picture')))
