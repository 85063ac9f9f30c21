"""Ten ways to train at 1.76% melanoma, on the same images, folds and seeds. Resumes where it was
stopped (under runs/imbalance). MELANOMA_DATA=... python scripts/imbalance_train.py ham10000 --size
96 --epochs 2 --folds 2 --seeds 0,1 --weights WEIGHTS     # HAM10000 thinned, lesions whole python
scripts/imbalance_train.py phantom --data data/phantom-20000-rare --size 96 --epochs 2 --folds 2
--seeds 0 --limit 5000 --weights WEIGHTS     # synthetic, the truth known python
scripts/distance_to_truth.py data/phantom-20000-rare results/imbalance/phantom.csv.gz --score
'bce|0' --out results/imbalance/phantom-truth.json Dozens of trainings on two cores: so the lower
layers of a MobileNetV2 stay as ImageNet left them (batch norm's averages are taken anew from the
images, without labels), their output is computed once for several symmetries of each picture, and
everything above it (three quarters of the parameters) is trained from the ImageNet weights, anew
for every arm, seed and fold. Losses, samplers, folds and scores are the package's own. Writes
<set>.csv.gz (one row an image: target, group, and per arm and seed the out-of-fold probability),
<set>-runs.csv (cost) and <set>.json (settings) beside this file."""

import argparse, time
from pathlib import Path
import numpy as np, pandas as pd, torch
from melanoma_nbdev.training.callbacks import keep_freed_memory, mel_prob
from melanoma_nbdev.core import (
    atomic_path,
    read_json,
    seed_everything,
    sha256,
    write_csv,
    write_json,
)
from melanoma_nbdev.images import to_input
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.training.losses import make_loss
from melanoma_nbdev.training.models import DermModel, load_backbone
from melanoma_nbdev.training.pipeline import sample_order, square_store
from melanoma_nbdev.data.duplicates import find_duplicates
from melanoma_nbdev.data.splits import add_groups, make_folds
from melanoma_nbdev.training.learner import dihedral
from torch import nn
from tqdm.auto import tqdm

ARMS = {
    'bce': {},
    'pos_weight 2': dict(loss='weighted', loss_args=dict(pos_weight=2.0)),
    'pos_weight 5': dict(loss='weighted', loss_args=dict(pos_weight=5.0)),
    'pos_weight 20': dict(loss='weighted', loss_args=dict(pos_weight=20.0)),
    'balanced sampler': dict(pos_rate=0.5),
    'oversampling x7': dict(times=7),
    'focal': dict(loss='focal'),
    'class-balanced': dict(loss='class_balanced', loss_args=dict(beta=0.999)),
    'logit adjustment': dict(loss='logit_adjusted'),
    'auc margin': dict(loss='auc_margin', pos_rate=0.5),
}
"""Name -> what differs from plain binary cross-entropy. The AUC margin has a balanced sampler, as
its authors train it: an ordinary batch of 64 holds one melanoma or none"""
VIEWS = (0, 3, 5, 6)
"Symmetries of the square whose features are kept: two turns and two mirror images"


def thin(df, prevalence=0.0176, seed=0):
    """HAM10000 with melanomas taken out, lesion by lesion, until they are that share; benign images
    all stay."""
    mel = df[df.target == 1]
    keep, n = [], prevalence / (1 - prevalence) * int((df.target == 0).sum())
    for g in np.random.default_rng(seed).permutation(sorted(mel.group.unique())):
        if sum(map(len, keep)) >= n:
            break
        keep.append(mel.index[mel.group == g])
    return df.loc[sorted([*df.index[df.target == 0], *np.concatenate(keep)])].reset_index(drop=True)


class Lower(nn.Module):
    "The layers that stay: (n, 3, s, s) -> (n, 96, s/16, s/16)."

    def __init__(self, b):
        super().__init__()
        self.net = nn.Sequential(b.conv_stem, b.bn1, *b.blocks[:5])

    def forward(self, x):
        return self.net(x)


class Upper(nn.Module):
    "The layers that learn, with the head: one logit."

    def __init__(self, m):
        super().__init__()
        b = m.backbone
        self.net, self.pool, self.drop, self.head = (
            nn.Sequential(*b.blocks[5:], b.conv_head, b.bn2),
            m.pool,
            m.drop,
            m.head,
        )

    def forward(self, f):
        return self.head(self.drop(self.pool(self.net(f))))


def network(weights):
    m = DermModel('mobilenetv2_100', 1, drop=0.2, pad_type='same')
    load_backbone(m, weights)
    return m.to(memory_format=torch.channels_last)


@torch.no_grad()
def features(df, weights, size, bs=128):
    "(views, n, 96, h, w) float16, of all images."
    low, store = Lower(network(weights).backbone), square_store(size)
    x = lambda idx, k: dihedral(
        torch.from_numpy(
            np.stack([to_input(store.read(p), [0.5] * 3, [0.5] * 3) for p in df.path.iloc[idx]])
        ),
        k,
    ).contiguous(memory_format=torch.channels_last)
    low.train()
    for b in low.modules():
        if isinstance(b, nn.BatchNorm2d):
            b.reset_running_stats()
            b.momentum = None  # a plain average over what follows
    for idx in np.array_split(np.random.default_rng(0).permutation(len(df))[:2048], 16):
        low(x(idx, 0))
    low.eval()
    out = None
    for i in tqdm(range(0, len(df), bs), desc='features', disable=None):
        idx = np.arange(i, min(i + bs, len(df)))
        for v, k in enumerate(VIEWS):
            f = low(x(idx, k)).half()
            if out is None:
                out = torch.empty(len(VIEWS), len(df), *f.shape[1:], dtype=torch.float16)
            out[v, idx] = f
    return out


def train_fold(F, df, fold, arm, seed, a):
    "Logits of the fold, averaged over the views, from a network that never saw it."
    seed_everything(seed * 1009 + fold)
    net = Upper(network(a.weights))
    tr, va = np.flatnonzero(df.fold != fold), np.flatnonzero(df.fold == fold)
    y = df.target.to_numpy(int)
    rng = np.random.default_rng([seed, fold])
    loss = make_loss(
        arm.get('loss', 'ce'), np.bincount(y[tr], minlength=2), True, **arm.get('loss_args', {})
    )
    orders = [
        tr[sample_order(y[tr], seed * 100 + fold, e, arm.get('pos_rate'), arm.get('times', 1))]
        for e in range(a.epochs)
    ]
    opt = torch.optim.AdamW(
        [dict(params=net.net.parameters()), dict(params=net.head.parameters())],
        weight_decay=0.01,
        eps=1e-5,
        fused=True,
    )
    sched = torch.optim.lr_scheduler.OneCycleLR(
        opt, [a.lr, 4 * a.lr], total_steps=sum(len(o) // a.bs for o in orders), pct_start=0.25
    )
    net.train()
    for o in orders:
        for i in range(0, len(o) - a.bs + 1, a.bs):
            b = o[i : i + a.bs]
            f = (
                F[torch.from_numpy(rng.integers(0, len(VIEWS), a.bs)), torch.from_numpy(b)]
                .float()
                .contiguous(memory_format=torch.channels_last)
            )
            loss(net(f), torch.from_numpy(y[b]).float()).backward()
            opt.step()
            opt.zero_grad()
            sched.step()
    net.eval()
    with torch.no_grad():
        z = torch.cat(
            [
                torch.stack([net(F[v, va[i : i + 512]].float()) for v in range(len(VIEWS))]).mean(0)
                for i in range(0, len(va), 512)
            ]
        )
    return va, z.numpy().ravel()


if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('set', choices=['ham10000', 'phantom'])
    ap.add_argument('--data')
    ap.add_argument('--size', type=int, default=128)
    ap.add_argument('--epochs', type=int, default=4)
    ap.add_argument('--folds', type=int, default=3)
    ap.add_argument('--bs', type=int, default=64)
    ap.add_argument('--lr', type=float, default=1e-3)
    ap.add_argument('--seeds', default='0,1')
    ap.add_argument('--weights', required=True)
    ap.add_argument('--limit', type=int)
    ap.add_argument('--out', type=Path, default=Path('runs/imbalance'))
    ap.add_argument('--dest', type=Path, default=Path(__file__).parent)
    a = ap.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    df = load_manifest(a.data or a.set, missing='drop')
    df = df.sample(a.limit, random_state=0).sort_index().reset_index(drop=True) if a.limit else df
    df = add_groups(df, find_duplicates(df, min_score=0.9) if a.set == 'ham10000' else None)
    if a.set == 'ham10000':
        df = thin(df)
    seeds = [int(s) for s in a.seeds.split(',')]
    print(
        f'{a.set}: {len(df)} images, {int(df.target.sum())} melanomas, {df.group.nunique()} groups',
        flush=True,
    )
    began = time.process_time()
    f = a.out / a.set / f'features-{a.size}-{sha256(df[["image_id"]])[:8]}.npy'
    if not f.exists():
        with atomic_path(f) as tmp:
            np.save(tmp, features(df, a.weights, a.size).numpy())
    F = torch.from_numpy(np.load(f, mmap_mode='r+'))
    print(f'features: {time.process_time() - began:.0f} CPU s', flush=True)
    for s in seeds:
        d = make_folds(df, k=a.folds, seed=s)
        for name, arm in ARMS.items():
            dest = a.out / a.set / f"{name.replace(' ', '_')}-{s}.csv"
            if dest.exists():
                continue
            cpu = time.process_time()
            p = np.zeros(len(d))
            for k in range(a.folds):
                va, z = train_fold(F, d, k, arm, s, a)
                p[va] = mel_prob(z)
            write_csv(dest, pd.DataFrame(dict(image_id=d.image_id, fold=d.fold, p=p)))
            write_json(
                dest.with_suffix('.json'), dict(cpu_seconds=round(time.process_time() - cpu, 1))
            )
            print(f'{name}, seed {s}: {time.process_time() - cpu:.0f} CPU s', flush=True)
    t, cost = df[['image_id', 'group', 'target']].copy(), []
    for s in seeds:
        for name in ARMS:
            src = a.out / a.set / f"{name.replace(' ', '_')}-{s}.csv"
            o = pd.read_csv(src, dtype={'image_id': str}).set_index('image_id').reindex(t.image_id)
            t[f'fold|{s}'], t[f'{name}|{s}'] = o.fold.to_numpy(), [float(f'{v:.5g}') for v in o.p]
            cost.append(dict(arm=name, seed=s, **read_json(src.with_suffix('.json'))))
    with atomic_path(a.dest / f'{a.set}.csv.gz') as tmp:
        t.to_csv(tmp, index=False, compression=dict(method='gzip', mtime=0))
    write_csv(a.dest / f'{a.set}-runs.csv', pd.DataFrame(cost))
    args = ' '.join(
        f'--{k} {getattr(a, k)}'
        for k in ('data', 'size', 'epochs', 'folds', 'bs', 'lr', 'seeds', 'limit')
        if getattr(a, k) is not None
    )
    write_json(
        a.dest / f'{a.set}.json',
        dict(
            n=len(t),
            n_pos=int(t.target.sum()),
            n_groups=int(t.group.nunique()),
            prevalence=float(t.target.mean()),
            seeds=seeds,
            arms=ARMS,
            settings=dict(
                arch='mobilenetv2_100',
                size=a.size,
                epochs=a.epochs,
                folds=a.folds,
                bs=a.bs,
                lr=a.lr,
                views=len(VIEWS),
                trained='blocks 5 and 6, the last convolution and the head',
                weights=Path(a.weights).name,
                weights_sha256=sha256(Path(a.weights)),
            ),
            command=f'python scripts/imbalance_train.py {a.set} {args} --weights '
            f'{Path(a.weights).name}',
        ),
    )
