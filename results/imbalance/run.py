"""Ten ways to train at 1.76% melanoma, on the same images, folds and seeds. Everything is written under runs/imbalance and resumes where it was stopped.

    MELANOMA_DATA=... python results/imbalance/run.py ham10000 --weights WEIGHTS --mean .5 --std .5     # HAM10000 thinned, lesions whole
    python results/imbalance/run.py phantom --data data/phantom-20000-rare                             # synthetic, the truth known

Writes <set>.csv.gz (one row an image: target, group, and per arm and seed the out-of-fold probability), <set>-runs.csv (cost) and <set>.json (settings) beside this file. Without a network the
backbone's ImageNet weights come from a file."""
import argparse, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from melanoma_nbdev.core import atomic_path, read_json, write_csv, write_json
from melanoma_nbdev.data import load_manifest
from melanoma_nbdev.splits import add_groups, find_duplicates
from melanoma_nbdev.train import train_run

ARMS = {'bce': {}, 'pos_weight 2': dict(loss='weighted', loss_args=dict(pos_weight=2.)), 'pos_weight 5': dict(loss='weighted', loss_args=dict(pos_weight=5.)), 'pos_weight 20': dict(loss='weighted', loss_args=dict(pos_weight=20.)),
        'balanced sampler': dict(pos_rate=.5), 'oversampling x7': dict(times=7), 'focal': dict(loss='focal'), 'class-balanced': dict(loss='class_balanced', loss_args=dict(beta=.999)),
        'logit adjustment': dict(loss='logit_adjusted'), 'auc margin': dict(loss='auc_margin', pos_rate=.5)}
"Name -> what differs from plain binary cross-entropy. The AUC margin has a balanced sampler, as its authors train it: an ordinary batch of 64 holds one melanoma or none"

def thin(df, prevalence=.0176, seed=0):
    "HAM10000 with melanomas taken out, lesion by lesion, until they are that share; benign images all stay."
    mel = df[df.target == 1]; keep, n = [], prevalence/(1 - prevalence)*int((df.target == 0).sum())
    for g in np.random.default_rng(seed).permutation(sorted(mel.group.unique())):
        if sum(map(len, keep)) >= n: break
        keep.append(mel.index[mel.group == g])
    return df.loc[sorted([*df.index[df.target == 0], *np.concatenate(keep)])].reset_index(drop=True)

def manifest(name, data, limit):
    df = load_manifest(data or name, missing='drop'); df = add_groups(df, find_duplicates(df, min_score=.9) if name != 'phantom' else None)
    if name == 'ham10000': df = thin(df)
    return df.head(limit).copy() if limit else df

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument('set', choices=['ham10000', 'phantom']); ap.add_argument('--data'); ap.add_argument('--preset', default='small'); ap.add_argument('--size', type=int, default=64); ap.add_argument('--epochs', type=int, default=3)
    ap.add_argument('--folds', type=int, default=2); ap.add_argument('--bs', type=int); ap.add_argument('--seeds', default='0,1'); ap.add_argument('--arms'); ap.add_argument('--weights'); ap.add_argument('--mean', type=float); ap.add_argument('--std', type=float)
    ap.add_argument('--tta', type=int, default=4); ap.add_argument('--limit', type=int); ap.add_argument('--out', type=Path, default=Path('runs/imbalance')); ap.add_argument('--dest', type=Path, default=Path(__file__).parent); a = ap.parse_args()
    torch.set_num_threads(1); df = manifest(a.set, a.data, a.limit); arms = a.arms.split(',') if a.arms else list(ARMS); seeds = [int(s) for s in a.seeds.split(',')]
    kw = dict(preset=a.preset, size=a.size, epochs=a.epochs, folds=a.folds, target='binary', tta=a.tta, threads=1, duplicates=False, weights=a.weights, mean=a.mean, std=a.std, bs=a.bs, data=a.data or a.set)
    print(f'{a.set}: {len(df)} images, {int(df.target.sum())} melanomas, {df.group.nunique()} groups', flush=True)
    for s in seeds:
        for arm in arms:
            run = a.out/a.set/f"{arm.replace(' ', '_')}-{s}"; began, cpu = time.time(), time.process_time()
            if (run/'oof.csv').exists(): continue
            train_run(run, df.copy(), resume=run.exists(), quiet=True, seed=s, **{k: v for k, v in kw.items() if v is not None}, **ARMS[arm])
            write_json(run/'cost.json', dict(seconds=round(time.time() - began, 1), cpu_seconds=round(time.process_time() - cpu, 1))); print(f'{arm}, seed {s}: {time.time() - began:.0f} s', flush=True)
    done = {(arm, s): a.out/a.set/f"{arm.replace(' ', '_')}-{s}" for s in seeds for arm in ARMS if (a.out/a.set/f"{arm.replace(' ', '_')}-{s}"/'oof.csv').exists()}
    t = None
    for (arm, s), run in done.items():
        o = pd.read_csv(run/'oof.csv', dtype={'image_id': str, 'group': str}).set_index('image_id')
        if t is None: t = o[['group', 'target']].copy()
        t[f'fold|{s}'], t[f'{arm}|{s}'] = o.fold.reindex(t.index), o.p_melanoma.reindex(t.index).map(lambda v: float(f'{v:.5g}'))
    with atomic_path(a.dest/f'{a.set}.csv.gz') as tmp: t.reset_index().to_csv(tmp, index=False, compression=dict(method='gzip', mtime=0))
    cfg = [read_json(r/'config.json') for r in done.values()]; hist = [pd.concat([pd.read_csv(f) for f in r.glob('fold*/history.csv')]) for r in done.values()]
    write_csv(a.dest/f'{a.set}-runs.csv', pd.DataFrame([dict(arm=k[0], seed=k[1], train_seconds=round(h.seconds.sum(), 1), **(read_json(r/'cost.json') if (r/'cost.json').exists() else {})) for (k, r), h in zip(done.items(), hist)]))
    write_json(a.dest/f'{a.set}.json', dict(n=len(t), n_pos=int(t.target.sum()), n_groups=int(t.group.nunique()), prevalence=float(t.target.mean()), seeds=seeds, arms={k: v for k, v in ARMS.items() if any(k == x for x, _ in done)},
               settings={k: cfg[0][k] for k in ('arch', 'size', 'epochs', 'folds', 'bs', 'lr', 'head_lr', 'tta', 'weights', 'weights_sha256', 'target', 'tfms', 'augment') if k in cfg[0]}, command=' '.join(['python results/imbalance/run.py', a.set, f'--size {a.size} --epochs {a.epochs} --folds {a.folds} --seeds {a.seeds}'])))
