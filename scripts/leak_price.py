#!/usr/bin/env python3
"""What a leak is worth: one network, once with lesions cut by the folds and once with groups kept.

    MELANOMA_DATA=... python scripts/leak_price.py train ham10000 --weights WEIGHTS --seeds 0,1,2
    python scripts/leak_price.py train phantom --weights WEIGHTS --seeds 0,1,2
    python scripts/leak_price.py compare ham10000
    python scripts/leak_price.py compare phantom

Both arms see the same images, seeds, network and steps; only the folds differ. `cut` deals single
images (scikit-learn's StratifiedKFold on the target), `kept` deals whole groups. Every image is
scored once in each arm, so the scores are paired: the price is the AUC with cut lesions minus that
with groups kept, on all images, on those whose lesion has further images, and on the others.

The network is a small one with a hidden layer, on features of a backbone that stays as ImageNet
left it; --whole trains all of it instead (an hour or two a seed). The phantom set has every lesion
photographed twice, under another camera. Training resumes where it was stopped; `gather` takes the
folds that are there by then. Writes leak_<set>_oof.csv.gz (a row an image), leak_<set>.csv (the
prices), leak_<set>_audit.csv (what the audits say of both splits), leak_<set>.json (settings)."""
import gzip
import io
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import RESULTS, ROOT, options_in_words, parser_of
from melanoma_nbdev.core import LeakError, atomic_path, read_json, sha256, write_csv, write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.data.splits import add_groups, audit_folds, make_folds
from melanoma_nbdev.evidence.auc import measure_scores
from melanoma_nbdev.evidence.intervals import bootstrap, percentile_interval
from melanoma_nbdev.evidence.shortcuts import shortcut_audit
from melanoma_nbdev.images import to_input
from melanoma_nbdev.phantom.dataset import draw_row, phantom_table
from melanoma_nbdev.training.learner import build_model, make_config
from melanoma_nbdev.training.squares import square_store
from melanoma_nbdev.training.run import train_run
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ARMS = ('kept', 'cut')
"Groups kept, lesions cut by the folds"
MEASURES = ('auc', 'ap')
"What is compared"
HIDDEN, HEAD_EPOCHS = (64,), 15
"Units and epochs of the small network"


# ---- images

def draw_phantom(folder, n_lesions, size, seed=7):
    "Draw a set in which every lesion is photographed twice; returns the folder."
    first = phantom_table(n_lesions, n_lesions, size, .25, seed)
    order = np.random.default_rng(seed).permutation(len(first))
    again = first.assign(photo=first.photo + 10**6, image_name=first.image_name + '_2')
    for column in ('camera', 'ruler', 'hairs'):
        again[column] = first[column].to_numpy()[order]
    table = pd.concat([first, again], ignore_index=True)
    (folder/'images').mkdir(parents=True, exist_ok=True)
    for row in table.itertuples(index=False):
        path = folder/'images'/f'{row.image_name}.jpg'
        if path.exists(): continue
        with atomic_path(path) as unfinished:
            draw_row(row, seed, size)[0].save(unfinished, 'JPEG', quality=88)
    columns = dict(image_name='image_id', lesion_id='lesion_id', target='target')
    write_csv(folder/'train.csv', table[list(columns)].rename(columns=columns))
    return folder


HAM_PAIRS = (('ISIC_0025226', 'ISIC_0030074'), ('ISIC_0027636', 'ISIC_0027994'))
"One lesion under two ids, as `find_duplicates` shows in nbs/data/15_splits.ipynb"


def images(given):
    "The manifest of the study with groups, and the pairs that show one picture."
    data = given.set
    if given.set == 'phantom':
        data = draw_phantom(given.out/f'images-{given.lesions}', given.lesions, given.size)
    manifest = load_manifest(str(data), missing='drop')
    pairs = HAM_PAIRS if given.set == 'ham10000' else None
    return add_groups(manifest, pairs), pairs


# ---- two splits, one network

def cut_folds(manifest, folds, seed):
    "Folds of single images, stratified on the target: what a plain call of scikit-learn gives."
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    fold = np.zeros(len(manifest), int)
    for number, (_, held) in enumerate(splitter.split(manifest.image_id, manifest.target)):
        fold[held] = number
    return manifest.assign(fold=fold)


def split(arm, manifest, folds, seed):
    "The manifest with the folds of an arm."
    if arm == 'kept': return make_folds(manifest, folds, seed)
    return cut_folds(manifest, folds, seed)


def forget_lesions(manifest):
    "The manifest of somebody who does not know which images show one lesion: no audit can fire."
    return manifest.assign(group=manifest.image_id, lesion_id=pd.NA, patient_id=pd.NA)


def train_arm(arm, manifest, seed, given):
    "Train an arm, or go on where it was stopped."
    rows = split(arm, manifest, given.folds, seed)
    if arm == 'cut': rows = forget_lesions(rows)
    run = given.out/f'{given.set}-{arm}-{seed}'
    if not given.whole:
        train_heads(run, rows, features_of(manifest, given), seed)
        return
    recipe = dict(preset='small', arch=given.arch, size=given.size, epochs=given.epochs, bs=64,
                  target='binary', weights=given.weights, folds=given.folds, seed=seed, threads=1,
                  duplicates=False)
    train_run(run, rows, resume=run.exists(), data=given.set, **recipe)


def features_of(manifest, given):
    "(n, features) what the backbone makes of each image, mean over its map; kept in a file."
    file = given.out/f'features-{given.set}-{given.arch}-{given.size}-{len(manifest)}.npy'
    if file.exists(): return np.load(file)
    config = make_config('small', arch=given.arch, size=given.size, weights=given.weights)
    model = build_model(config | dict(classes=['MEL'])).eval()
    store, parts = square_store(given.size, config['crop']), []
    with torch.no_grad():
        for start in range(0, len(manifest), 64):
            inputs = [to_input(store.read(path), config['mean'], config['std'])
                      for path in manifest.path[start:start + 64]]
            batch = torch.from_numpy(np.stack(inputs)).to(memory_format=torch.channels_last)
            parts.append(model.pool(model.features(batch)).numpy())
    with atomic_path(file) as unfinished:
        with open(unfinished, 'wb') as opened: np.save(opened, np.concatenate(parts))
    return np.load(file)


def train_heads(run, rows, features, seed):
    "Train the small network on the features, fold by fold, and write its out-of-fold scores."
    is_melanoma, fold = rows.target.to_numpy(int), rows.fold.to_numpy(int)
    for held in np.unique(fold):
        file = run/f'fold{held}'/'oof.csv'
        if file.exists(): continue
        file.parent.mkdir(parents=True, exist_ok=True)
        network = make_pipeline(StandardScaler(), MLPClassifier(
            HIDDEN, batch_size=256, max_iter=HEAD_EPOCHS, random_state=seed))
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ConvergenceWarning)  # a fixed number of epochs
            network.fit(features[fold != held], is_melanoma[fold != held])
        scores = network.predict_proba(features[fold == held])[:, 1]
        ids = rows.image_id[fold == held]
        write_csv(file, pd.DataFrame(dict(image_id=ids, p_melanoma=scores)))


def scores_of(run, ids):
    "The out-of-fold scores that a run has by now, in the order of the ids; NaN where it has none."
    files = sorted(run.glob('fold*/oof.csv'))
    if not files: return np.full(len(ids), np.nan)
    oof = pd.concat([pd.read_csv(file, dtype=dict(image_id=str)) for file in files])
    return oof.set_index('image_id').p_melanoma.reindex(ids).to_numpy()


# ---- the audits

def audit_rows(arm, manifest, pairs, folds, seed):
    "What both audits say of an arm's split."
    rows = split(arm, manifest, folds, seed)
    found = audit_folds(rows, pairs, strict=False).loc['all']
    try:
        audit_folds(rows, pairs)
        said = 'nothing'
    except LeakError as error:
        said = str(error)
    verdicts = shortcut_audit(rows, duplicates=pairs, n_boot=200)
    verdicts = verdicts[verdicts.kind == 'folds'].reset_index()
    counts = dict(lesions_cut=int(found.lesions_cut), pairs_cut=int(found.pairs_cut))
    return [dict(arm=arm, seed=seed, suspect=row.suspect, count=row['count'], verdict=row.verdict,
                 **counts, audit_folds=said) for _, row in verdicts.iterrows()]


# ---- the price

def parts_of(table):
    "Name -> which images: all, those whose lesion has further images, and the others."
    shared = table.group.map(table.group.value_counts()).to_numpy() > 1
    parts = dict(all=np.ones(len(table), bool), could_leak=shared, alone=~shared)
    return {name: rows for name, rows in parts.items() if rows.any()}


def draws_of(rows, column, n_boot):
    "The measures of one column of scores, and their resamples of whole lesions."
    is_melanoma, scores = rows.target.to_numpy(), rows[column].to_numpy()
    cluster = pd.factorize(rows.group)[0]
    return (measure_scores(is_melanoma, scores, MEASURES),
            bootstrap(is_melanoma, scores, cluster, MEASURES, n_boot, seed=0))


def price_rows(rows, part, seeds, n_boot):
    "The price on some images: a row a measure and seed, and one for the mean of the seeds."
    found = {(arm, seed): draws_of(rows, f'{arm}_{seed}', n_boot) for arm in ARMS for seed in seeds}
    counts = dict(n=len(rows), n_pos=int(rows.target.sum()), n_clusters=rows.group.nunique())
    out = []
    for name in MEASURES:
        for label, chosen in [*((str(seed), [seed]) for seed in seeds), ('mean', seeds)]:
            value, draws = {}, {}
            for arm in ARMS:
                value[arm] = np.mean([found[arm, seed][0][name] for seed in chosen])
                draws[arm] = np.mean([found[arm, seed][1][name] for seed in chosen], axis=0)
            known = percentile_interval(draws['cut'] - draws['kept'], value['cut'] - value['kept'])
            out.append(dict(part=part, measure=name, seed=label, **value, price=known.value,
                            lo=known.lo, hi=known.hi, **counts))
    return out


# ---- commands

def write_gzip(path, table):
    "A CSV, packed so that the same table gives the same bytes."
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode='wb', mtime=0) as file:
        file.write(table.to_csv(index=False).encode())
    with atomic_path(path) as unfinished: unfinished.write_bytes(packed.getvalue())


def train(given):
    "Train both arms for every seed; write scores and audits after each."
    manifest, pairs = images(given)
    audits = []
    for seed in seeds_of(given):
        for arm in ARMS:
            audits += audit_rows(arm, manifest, pairs, given.folds, seed)
            write_csv(given.dest/f'leak_{given.set}_audit.csv', pd.DataFrame(audits))
            train_arm(arm, manifest, seed, given)
            gather(given, manifest, pairs)


def seeds_of(given): return [int(seed) for seed in given.seeds.split(',')]


def gather(given, manifest=None, pairs=None):
    "Write the scores that the runs have by now, and the settings."
    if manifest is None: manifest, pairs = images(given)
    table = manifest[['image_id', 'group', 'target']].copy()
    for seed in seeds_of(given):
        for arm in ARMS:
            run = given.out/f'{given.set}-{arm}-{seed}'
            table[f'{arm}_{seed}'] = scores_of(run, manifest.image_id)
    write_gzip(given.dest/f'leak_{given.set}_oof.csv.gz', table)
    names = ['arch', 'size', 'folds', 'seeds', *['epochs']*given.whole]
    if given.set == 'phantom': names.append('lesions')
    record = dict(
        command=f'scripts/leak_price.py train {given.set} --weights WEIGHTS '
                f'{options_in_words(given, names)}',
        set=given.set, images=len(table), melanomas=int(table.target.sum()),
        groups=table.group.nunique(), seeds=seeds_of(given), n_seeds=len(seeds_of(given)),
        folds=given.folds, whole=given.whole,
        epochs=given.epochs if given.whole else HEAD_EPOCHS,
        size=given.size, arch=given.arch, pairs=0 if pairs is None else len(pairs),
        weights_sha256=None if given.weights == 'none' else sha256(given.weights))
    write_json(given.dest/f'leak_{given.set}.json', record)


def compare(given):
    "Write the prices from the scores that `train` wrote, on the images that all runs scored."
    seeds = read_json(given.dest/f'leak_{given.set}.json')['seeds']
    table = pd.read_csv(given.dest/f'leak_{given.set}_oof.csv.gz', dtype=dict(group=str))
    parts, rows = parts_of(table), []
    scored = table.notna().all(axis=1)
    for part, chosen in parts.items():
        rows += price_rows(table[chosen & scored], part, seeds, given.n_boot)
    prices = pd.DataFrame(rows)
    write_csv(given.dest/f'leak_{given.set}.csv', prices)
    print(prices.round(4).to_string(index=False))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('command', choices=('train', 'gather', 'compare'))
    parser.add_argument('set', choices=('ham10000', 'phantom'))
    parser.add_argument('--weights', default='none', help='of the backbone; default: random')
    parser.add_argument('--arch', default='tf_efficientnet_lite0')
    parser.add_argument('--size', type=int, default=96)
    parser.add_argument('--whole', action='store_true', help='train the backbone too')
    parser.add_argument('--epochs', type=int, default=5, help='with --whole')
    parser.add_argument('--folds', type=int, default=5)
    parser.add_argument('--seeds', default='0', help='with commas')
    parser.add_argument('--lesions', type=int, default=500, help='of the phantom set')
    parser.add_argument('--n_boot', type=int, default=2000)
    parser.add_argument('--out', type=Path, default=ROOT/'runs'/'leak', help='folder for runs')
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence', help='for results')
    return parser.parse_args()


def main():
    given = options()
    given.out.mkdir(parents=True, exist_ok=True)
    given.dest.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    dict(train=train, gather=gather, compare=compare)[given.command](given)


if __name__ == '__main__': main()
