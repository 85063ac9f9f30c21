"""What the readings of a backbone that was taught the criteria (criteria.py) are worth on the scored set, before it has seen a diagnosis there:

    python scripts/criteria_readings.py --taught runs/criteria --run runs/phantom20000_taught --phantom data/phantom-20000-192 --out results/truth/taught96/readings.json

Reads the five criteria from the pictures, and out of fold (the folds of the run) fits a logistic regression of melanoma on the readings, their squares and the record. Writes its out-of-fold file (OUT with _oof.csv), its AUC and distances as truth.py does, and the share of each
criterion's variance that the readings explain: of all pictures, and of the quarter with the highest score behind the labels, where the melanomas are."""
import argparse
from pathlib import Path
import numpy as np, pandas as pd, torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from melanoma_nbdev.training.callbacks import keep_freed_memory
from melanoma_nbdev.core import RunError, friendly, read_json, write_csv, write_json
from melanoma_nbdev.training.models import DermModel, read_weights
from melanoma_nbdev.phantom.bounds import picture_truth
from melanoma_nbdev.training.pipeline import metadata_features
from melanoma_nbdev.training.learner import predict_logits
from criteria import CRITERIA
from truth import distance

@friendly
def main(a):
    torch.set_num_threads(a.threads); keep_freed_memory(); truth = picture_truth(a.phantom).set_index('image_name')
    if missing := [f for f in (a.run/'oof.csv', a.run/'config.json', a.run/'manifest.csv', a.taught/'criteria.json') if not f.exists()]: raise RunError(f"{missing[0]} does not exist; --run is a finished run folder, --taught a folder that criteria.py wrote")
    cfg, c = read_json(a.run/'config.json'), read_json(a.taught/'criteria.json'); oof = pd.read_csv(a.run/'oof.csv', dtype={'image_id': str}); man = pd.read_csv(a.run/'manifest.csv', dtype={'image_id': str}).set_index('image_id').loc[oof.image_id].reset_index()
    model = DermModel(c['arch'], len(CRITERIA), **cfg['arch_kwargs']); model.load_state_dict(read_weights(a.taught/'model.safetensors'))
    pictures = man.assign(path=[str(a.phantom/'jpeg'/'train'/f'{i}.jpg') for i in man.image_id])
    p = predict_logits(model.to(memory_format=torch.channels_last), pictures, dict(size=c['size'], crop=c['crop'], mean=[.5]*3, std=[.5]*3), a.tta)
    X = np.c_[p, p**2, metadata_features(man, cfg['meta'])]; fit = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    q = cross_val_predict(fit, X, oof.target, cv=PredefinedSplit(oof.fold), method='predict_proba')[:, 1]
    t = truth.loc[oof.image_id]; r2 = lambda m: {k: round(float(np.corrcoef(p[m, j], t[k][m])[0, 1]**2), 3) for j, k in enumerate(CRITERIA)}
    high = (t.z >= t.z.quantile(.75)).to_numpy()
    out = oof[['image_id', 'patient_id', 'group', 'fold', 'target']].assign(p_melanoma=[float(f'{x:.7g}') for x in q]); write_csv(a.out.with_name(f'{a.out.stem}_oof.csv'), out)
    write_json(a.out, distance(a.phantom, out) | dict(r2=r2(np.ones(len(t), bool)), r2_high=r2(high), n_high=int(high.sum()), n_pos_high=int(oof.target[high].sum()), symmetries=a.tta,
        command=f'python scripts/criteria_readings.py --taught runs/{a.taught.name} --run runs/{a.run.name} --phantom data/{a.phantom.name} --out results/{a.run.name}/{a.out.name}' + (f' --tta {a.tta}' if a.tta != 2 else '')))
    print(a.out.read_text())

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for k in ('taught', 'run', 'phantom', 'out'): ap.add_argument(f'--{k}', type=Path, required=True)
    ap.add_argument('--tta', type=int, default=2); ap.add_argument('--threads', type=int, default=2); a = ap.parse_args(); main(a)
