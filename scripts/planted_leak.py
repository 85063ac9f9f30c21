"""A leak planted in the metadata, and what the audit says of the model that was given them. Two
synthetic sets of the same lesions, one clean, one whose registry fills in the body site once
histology is there; on each, the same network with the image alone and with image and metadata:
python scripts/planted_leak.py         # writes leak.json and leak_audit.csv beside this file; runs
and images under runs/leak"""

import argparse
from pathlib import Path
import pandas as pd, torch
from melanoma_nbdev.core import write_csv, write_json
from melanoma_nbdev.phantom.bounds import best_auc
from melanoma_nbdev.phantom.dataset import make_phantom
from melanoma_nbdev.evidence.floor import floor_auc, independent_gain, metadata_gain
from melanoma_nbdev.evidence.shortcuts import shortcut_audit
from melanoma_nbdev.evidence.auc import auc
from melanoma_nbdev.training.learner import make_config
from melanoma_nbdev.training.run import prepare, train_run

if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--n', type=int, default=1500)
    ap.add_argument('--epochs', type=int, default=4)
    ap.add_argument('--out', type=Path, default=Path('runs/leak'))
    a = ap.parse_args()
    torch.set_num_threads(1)
    out, audits = {}, []
    for name, plant in dict(clean=(), leak=('metadata',)).items():
        data = a.out / f'data-{name}'
        make_phantom(
            data, n_images=a.n, n_patients=a.n // 3, size=64, prevalence=0.15, seed=11, plant=plant
        )
        kw = dict(
            data=str(data),
            preset='nano',
            epochs=a.epochs,
            folds=3,
            seed=0,
            threads=1,
            quiet=True,
            duplicates=False,
            target='binary',
        )
        runs = {}
        for what, more in dict(image={}, both=dict(meta='age,sex,site')).items():
            run = a.out / f'{name}-{what}'
            train_run(run, resume=run.exists(), **kw, **more)
            runs[what] = run
        df = prepare(make_config(**{k: v for k, v in kw.items() if k != 'quiet'}))
        row = metadata_gain(runs['image'], runs['both'])
        known = floor_auc(df, 'metadata')[0]
        k_auc = auc(known.target, known.p_melanoma)
        usual = (
            float(independent_gain(float(row.image.iloc[0]), k_auc))
            if name == 'clean'
            else out['clean']['explained_gain']
        )
        t = shortcut_audit(df, oof_image=runs['image'], oof_both=runs['both'], usual=usual)
        audits.append(t.assign(set=name))
        out[name] = dict(
            image_auc=float(row.image.iloc[0]),
            both_auc=float(row.both.iloc[0]),
            gain=float(row.gain.iloc[0]),
            lo=float(row.lo.iloc[0]),
            hi=float(row.hi.iloc[0]),
            metadata_alone=float(k_auc),
            explained_gain=usual,
            best_with_image=float(best_auc(data)),
            best_with_leak=float(best_auc(data, kind='shortcut')),
            verdict=str(t.verdict['metadata beside the image']),
            missing_values=str(t.verdict['missing values']),
            n=int(row.n.iloc[0]),
            n_pos=int(row.n_pos.iloc[0]),
            seed=0,
        )
        print(name, out[name], flush=True)
    write_json(Path(__file__).parent / 'leak.json', out)
    write_csv(Path(__file__).parent / 'leak_audit.csv', pd.concat(audits).reset_index().round(6))
