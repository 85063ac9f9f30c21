#!/usr/bin/env python3
"""Ten ways to train at 1.76% melanoma, on the same images, folds and seeds.

    # HAM10000 thinned, lesions whole
    MELANOMA_DATA=... python scripts/imbalance_train.py ham10000 --size 96 --epochs 2 --folds 2 \\
        --seeds 0,1 --weights WEIGHTS
    # a synthetic set, the truth known
    python scripts/imbalance_train.py phantom --data data/phantom-20000-rare --size 96 \\
        --epochs 2 --folds 2 --seeds 0 --limit 5000 --weights WEIGHTS
    python scripts/distance_to_truth.py data/phantom-20000-rare results/imbalance/phantom.csv.gz \\
        --score 'bce|0' --out results/imbalance/phantom-truth.json

Dozens of trainings have to fit on two cores. So the lower layers of a MobileNetV2 stay as ImageNet
left them (batch norm's averages are taken anew from the images, without labels), and their output
is computed once for several symmetries of each picture. Everything above, three quarters of the
parameters, is trained from the ImageNet weights, anew for every arm, seed and fold. Losses,
samplers, folds and scores are the package's own. It resumes where it was stopped (--out).

Writes <set>.csv.gz (one row an image: target, group, and per arm and seed the out-of-fold
probability), <set>-runs.csv (cost) and <set>.json (settings)."""
import gzip
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import RESULTS, options_in_words, parser_of
from melanoma_nbdev.core import (
    atomic_path, read_json, seed_everything, sha256, write_csv, write_json)
from melanoma_nbdev.data.duplicates import find_duplicates
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.data.splits import add_groups, make_folds
from melanoma_nbdev.images import to_input
from melanoma_nbdev.training.callbacks import melanoma_risks
from melanoma_nbdev.training.checkpoint import keep_freed_memory
from melanoma_nbdev.training.learner import dihedral
from melanoma_nbdev.training.losses import make_loss
from melanoma_nbdev.training.models import DermModel, load_backbone
from melanoma_nbdev.training.pipeline import sample_order
from melanoma_nbdev.training.squares import square_store
from torch import nn
from tqdm.auto import tqdm

ARMS = {
    'bce': {},
    'pos_weight 2': dict(loss='weighted', loss_args=dict(pos_weight=2.)),
    'pos_weight 5': dict(loss='weighted', loss_args=dict(pos_weight=5.)),
    'pos_weight 20': dict(loss='weighted', loss_args=dict(pos_weight=20.)),
    'balanced sampler': dict(pos_rate=.5),
    'oversampling x7': dict(times=7),
    'focal': dict(loss='focal'),
    'class-balanced': dict(loss='class_balanced', loss_args=dict(beta=.999)),
    'logit adjustment': dict(loss='logit_adjusted'),
    'auc margin': dict(loss='auc_margin', pos_rate=.5),
}
"""Name -> what differs from plain binary cross-entropy. The AUC margin has a balanced sampler, as
its authors train it: an ordinary batch of 64 holds one melanoma or none"""
VIEWS = (0, 3, 5, 6)
"Symmetries of the square whose features are kept: two turns and two mirror images"
SEEN = 2048
"Images from which the lower layers' batch norm takes its averages"


# ---- images

def thin(manifest, prevalence=.0176, seed=0):
    "Melanomas taken out, lesion by lesion, until they are that share; benign images all stay."
    melanoma = manifest[manifest.target == 1]
    wanted = prevalence/(1 - prevalence)*int((manifest.target == 0).sum())
    groups = np.random.default_rng(seed).permutation(sorted(melanoma.group.unique()))
    kept = []
    for group in groups:
        if len(kept) >= wanted: break
        kept += list(melanoma.index[melanoma.group == group])
    rows = sorted([*manifest.index[manifest.target == 0], *kept])
    return manifest.loc[rows].reset_index(drop=True)


def images(given):
    "The manifest of the study, with groups."
    manifest = load_manifest(given.data or given.set, missing='drop')
    if given.limit:
        manifest = manifest.sample(given.limit, random_state=0).sort_index().reset_index(drop=True)
    real = given.set == 'ham10000'
    manifest = add_groups(manifest, find_duplicates(manifest, min_score=.9) if real else None)
    return thin(manifest) if real else manifest


# ---- the two halves of the network

def network(weights):
    "A MobileNetV2 with one logit, from ImageNet weights."
    model = DermModel('mobilenetv2_100', 1, drop=.2, pad_type='same')
    load_backbone(model, weights)
    return model.to(memory_format=torch.channels_last)



class Lower(nn.Module):
    "The layers that stay: (n, 3, s, s) -> (n, 96, s/16, s/16)."

    def __init__(self, backbone):
        super().__init__()
        self.net = nn.Sequential(backbone.conv_stem, backbone.bn1, *backbone.blocks[:5])

    def forward(self, pictures): return self.net(pictures)


class Upper(nn.Module):
    "The layers that learn, with the head: one logit."

    def __init__(self, model):
        super().__init__()
        backbone = model.backbone
        self.net = nn.Sequential(*backbone.blocks[5:], backbone.conv_head, backbone.bn2)
        self.pool, self.drop, self.head = model.pool, model.drop, model.head

    def forward(self, features): return self.head(self.drop(self.pool(self.net(features))))


# ---- features

def batch(store, paths, view):
    "Pictures as the network takes them, (n, 3, s, s), under one symmetry."
    pictures = np.stack([to_input(store.read(path), [.5]*3, [.5]*3) for path in paths])
    turned = dihedral(torch.from_numpy(pictures), view)
    return turned.contiguous(memory_format=torch.channels_last)


def take_averages(lower, store, paths):
    "Give batch norm plain averages over some of the images."
    lower.train()
    for layer in lower.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over what follows
    order = np.random.default_rng(0).permutation(len(paths))[:SEEN]
    for rows in np.array_split(order, min(16, len(order))): lower(batch(store, paths.iloc[rows], 0))
    lower.eval()


@torch.no_grad()
def features(manifest, weights, size, batch_size=128):
    "(views, n, 96, h, w) float16, of all images."
    lower, store = Lower(network(weights).backbone), square_store(size)
    paths, found = manifest.path, None
    take_averages(lower, store, paths)
    for start in tqdm(range(0, len(paths), batch_size), desc='features', disable=None):
        rows = np.arange(start, min(start + batch_size, len(paths)))
        for place, view in enumerate(VIEWS):
            maps = lower(batch(store, paths.iloc[rows], view)).half()
            if found is None:
                shape = len(VIEWS), len(paths), *maps.shape[1:]
                found = torch.empty(*shape, dtype=torch.float16)
            found[place, rows] = maps
    return found


def stored_features(manifest, given):
    "The features, computed once and read from a file after that."
    name = sha256(manifest[['image_id']])[:8]
    path = given.out/given.set/f'features-{given.size}-{name}.npy'
    if not path.exists():
        with atomic_path(path) as aside:
            np.save(aside, features(manifest, given.weights, given.size).numpy())
    return torch.from_numpy(np.load(path, mmap_mode='r+'))


# ---- training

def orders_of(arm, rows, is_melanoma, given, seeds):
    "Rows of each epoch, in the order in which an arm shows them."
    seed, fold = seeds
    return [
        rows[sample_order(is_melanoma[rows], seed*100 + fold, epoch, arm.get('pos_rate'),
                          arm.get('times', 1))]
        for epoch in range(given.epochs)]


def optimizer_of(net, orders, given):
    "AdamW with the one-cycle rule; the head learns four times as fast."
    groups = [dict(params=net.net.parameters()), dict(params=net.head.parameters())]
    optimizer = torch.optim.AdamW(groups, weight_decay=.01, eps=1e-5, fused=True)
    steps = sum(len(order)//given.bs for order in orders)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [given.lr, 4*given.lr], total_steps=steps, pct_start=.25)
    return optimizer, schedule


def fit(net, loss, data, orders, given, rng):
    "Train the upper layers; `data`: features of all images, and their targets."
    maps, targets = data
    optimizer, schedule = optimizer_of(net, orders, given)
    net.train()
    for order in orders:
        for start in range(0, len(order) - given.bs + 1, given.bs):
            rows = order[start:start + given.bs]
            views = torch.from_numpy(rng.integers(0, len(VIEWS), given.bs))
            seen = maps[views, torch.from_numpy(rows)].float()
            logits = net(seen.contiguous(memory_format=torch.channels_last))
            loss(logits, torch.from_numpy(targets[rows]).float()).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()


@torch.no_grad()
def logits_of(net, maps, rows):
    "Logits of some images, averaged over the views."
    net.eval()
    parts = [rows[start:start + 512] for start in range(0, len(rows), 512)]
    views = range(len(VIEWS))
    means = [torch.stack([net(maps[view, part].float()) for view in views]).mean(0)
             for part in parts]
    return torch.cat(means).numpy().ravel()


def train_fold(maps, manifest, arm, given, seeds):
    "Rows of the fold and their logits, from a network that never saw them."
    seed, fold = seeds
    seed_everything(seed*1009 + fold)
    net = Upper(network(given.weights))
    rows = np.flatnonzero(manifest.fold != fold)
    held_out = np.flatnonzero(manifest.fold == fold)
    targets = manifest.target.to_numpy(int)
    rng = np.random.default_rng([seed, fold])
    counts = np.bincount(targets[rows], minlength=2)
    loss = make_loss(arm.get('loss', 'ce'), counts, True, **arm.get('loss_args', {}))
    orders = orders_of(arm, rows, targets, given, seeds)
    fit(net, loss, (maps, targets), orders, given, rng)
    return held_out, logits_of(net, maps, held_out)


def arm_file(given, name, seed):
    "Where one arm's predictions of one seed are kept."
    return given.out/given.set/f"{name.replace(' ', '_')}-{seed}.csv"


def train_arm(maps, manifest, name, given, seed):
    "Train all folds of an arm, unless that was done before."
    dest = arm_file(given, name, seed)
    if dest.exists(): return
    began, risks = time.process_time(), np.zeros(len(manifest))
    for fold in range(given.folds):
        rows, logits = train_fold(maps, manifest, ARMS[name], given, (seed, fold))
        risks[rows] = melanoma_risks(logits)
    table = dict(image_id=manifest.image_id, fold=manifest.fold, p=risks)
    write_csv(dest, pd.DataFrame(table))
    seconds = round(time.process_time() - began, 1)
    write_json(dest.with_suffix('.json'), dict(cpu_seconds=seconds))
    print(f'{name}, seed {seed}: {seconds:.0f} CPU s', flush=True)


# ---- what is written

def collected(manifest, given, seeds):
    "One table of all arms and seeds, and what each of them cost."
    table, cost = manifest[['image_id', 'group', 'target']].copy(), []
    for seed in seeds:
        for name in given.arms:
            source = arm_file(given, name, seed)
            found = pd.read_csv(source, dtype={'image_id': str}).set_index('image_id')
            found = found.reindex(table.image_id)
            table[f'fold|{seed}'] = found.fold.to_numpy()
            table[f'{name}|{seed}'] = [float(f'{risk:.5g}') for risk in found.p]
            cost.append(dict(arm=name, seed=seed, **read_json(source.with_suffix('.json'))))
    return table, pd.DataFrame(cost)


def settings(table, given, seeds):
    "What the study was, and the command that made it."
    said = options_in_words(
        given, ('data', 'size', 'epochs', 'folds', 'bs', 'lr', 'seeds', 'limit'))
    weights = Path(given.weights)
    recipe = {name: getattr(given, name) for name in ('size', 'epochs', 'folds', 'bs', 'lr')}
    return dict(
        n=len(table), n_pos=int(table.target.sum()), n_groups=int(table.group.nunique()),
        prevalence=float(table.target.mean()), seeds=seeds,
        arms={name: ARMS[name] for name in given.arms},
        settings=dict(
            arch='mobilenetv2_100', **recipe, views=len(VIEWS),
            trained='blocks 5 and 6, the last convolution and the head', weights=weights.name,
            weights_sha256=sha256(weights)),
        command=f'python scripts/imbalance_train.py {given.set} {said} --weights {weights.name}')


def write_gzip(path, table):
    "A compressed table; neither time nor name is in its bytes."
    with (atomic_path(path) as aside, open(aside, 'wb') as raw,
          gzip.GzipFile('', 'wb', fileobj=raw, mtime=0) as file):
        table.to_csv(file, index=False)


def write(manifest, given, seeds):
    "The three files of a set."
    table, cost = collected(manifest, given, seeds)
    write_gzip(given.dest/f'{given.set}.csv.gz', table)
    write_csv(given.dest/f'{given.set}-runs.csv', cost)
    write_json(given.dest/f'{given.set}.json', settings(table, given, seeds))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('set', choices=['ham10000', 'phantom'])
    parser.add_argument('--data', help='source or folder of the images; the set by default')
    parser.add_argument('--size', type=int, default=128, help='pixels')
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--folds', type=int, default=3)
    parser.add_argument('--bs', type=int, default=64, help='images a batch')
    parser.add_argument('--lr', type=float, default=1e-3)
    parser.add_argument('--seeds', default='0,1')
    parser.add_argument('--arms', type=lambda text: text.split(','), default=list(ARMS),
                        help='names with commas; all by default')
    parser.add_argument('--weights', required=True, help='ImageNet weights of the backbone')
    parser.add_argument('--limit', type=int, help='only so many images')
    parser.add_argument('--out', type=Path, default=Path('runs/imbalance'),
                        help='folder of what a stopped run goes on from')
    parser.add_argument('--dest', type=Path, default=RESULTS/'imbalance',
                        help='folder of the tables')
    return parser.parse_args()


def main():
    "Train every arm with every seed, and write what they say."
    given = options()
    torch.set_num_threads(1)
    keep_freed_memory()
    manifest = images(given)
    seeds = [int(seed) for seed in given.seeds.split(',')]
    print(f'{given.set}: {len(manifest)} images, {int(manifest.target.sum())} melanomas, '
          f'{manifest.group.nunique()} groups', flush=True)
    began = time.process_time()
    maps = stored_features(manifest, given)
    print(f'features: {time.process_time() - began:.0f} CPU s', flush=True)
    for seed in seeds:
        folded = make_folds(manifest, k=given.folds, seed=seed)
        for name in given.arms: train_arm(maps, folded, name, given, seed)
    write(manifest, given, seeds)



if __name__ == '__main__':
    main()
