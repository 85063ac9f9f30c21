#!/usr/bin/env python3
"""A leak planted in the metadata, and what the audit says of the model that was given them.

    python scripts/planted_leak.py
    python scripts/planted_leak.py --n 120 --epochs 1 --out runs/try/leak --dest runs/try

Two synthetic sets of the same lesions are drawn: one clean, one whose registry fills in the body
site once histology is there. On each, the same network is trained with the image alone and with
image and metadata. Writes leak.json and leak_audit.csv."""
from pathlib import Path

import pandas as pd
import torch
from common import RESULTS, parser_of
from melanoma_nbdev.core import write_csv, write_json
from melanoma_nbdev.evidence.auc import auc
from melanoma_nbdev.evidence.floor import floor_auc
from melanoma_nbdev.evidence.image_gain import independent_gain, metadata_gain
from melanoma_nbdev.evidence.shortcuts import shortcut_audit
from melanoma_nbdev.phantom.bounds import best_auc
from melanoma_nbdev.phantom.dataset import make_phantom
from melanoma_nbdev.training.learner import make_config
from melanoma_nbdev.training.run import prepare, train_run

SETS = dict(clean=(), leak=('metadata',))
"Name -> what is planted"
NETWORKS = dict(image={}, both=dict(meta='age,sex,site'))
"Name -> what the network gets beside the image"


def draw(name, given):
    "Draw a set and return its folder."
    folder = given.out/f'data-{name}'
    make_phantom(folder, n_images=given.n, n_patients=given.n//3, size=64, prevalence=.15, seed=11,
                 plant=SETS[name])
    return folder


def train(name, recipe, given):
    "Train both networks on a set, or go on where it stopped; their run folders."
    runs = {}
    for network, more in NETWORKS.items():
        runs[network] = given.out/f'{name}-{network}'
        train_run(runs[network], resume=runs[network].exists(), quiet=True, **recipe, **more)
    return runs


def one_set(name, given, usual=None):
    """What the audit says of a set, and the figures around it.

    `usual` is the gain that metadata without a leak bring; on the clean set it is computed."""
    data = draw(name, given)
    recipe = dict(data=str(data), preset='nano', epochs=given.epochs, folds=3, seed=0, threads=1,
                  duplicates=False, target='binary')
    runs = train(name, recipe, given)
    manifest = prepare(make_config(**recipe))
    gain = metadata_gain(runs['image'], runs['both']).iloc[0]
    known = floor_auc(manifest, 'metadata')[0]
    alone = auc(known.target, known.p_melanoma)
    if usual is None:  # a network that ranks nothing has no separation to add to
        usual = float(independent_gain(max(float(gain.image), .5), max(alone, .5)))
    audit = shortcut_audit(manifest, oof_image=runs['image'], oof_both=runs['both'], usual=usual)
    return audit.assign(set=name), dict(
        image_auc=float(gain.image), both_auc=float(gain.both), gain=float(gain.gain),
        lo=float(gain.lo), hi=float(gain.hi), metadata_alone=float(alone), explained_gain=usual,
        best_with_image=float(best_auc(data)),
        best_with_leak=float(best_auc(data, kind='shortcut')),
        verdict=str(audit.verdict['metadata beside the image']),
        missing_values=str(audit.verdict['missing values']), n=int(gain.n),
        n_pos=int(gain.n_pos), seed=0)


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--n', type=int, default=1500, help='images of each set')
    parser.add_argument('--epochs', type=int, default=4)
    parser.add_argument('--out', type=Path, default=Path('runs/leak'), help='images and runs')
    parser.add_argument('--dest', type=Path, default=RESULTS/'pipeline',
                        help='folder of the two files')
    return parser.parse_args()


def main():
    "Draw, train, audit, write."
    given, audits, found, usual = options(), [], {}, None
    torch.set_num_threads(1)
    for name in SETS:
        audit, found[name] = one_set(name, given, usual)
        usual = found['clean']['explained_gain']
        audits.append(audit)
        print(name, found[name], flush=True)
    write_json(given.dest/'leak.json', found)
    write_csv(given.dest/'leak_audit.csv', pd.concat(audits).reset_index().round(6))


if __name__ == '__main__':
    main()
