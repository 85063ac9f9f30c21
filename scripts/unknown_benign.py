#!/usr/bin/env python3
"""Three ways to learn from images of which only "not melanoma" is known.

    MELANOMA_DATA=... python scripts/unknown_benign.py --weights package
    python scripts/unknown_benign.py --sources data/phantom --folds 2 --hide .7 --size 32 \\
        --preset nano --dest try.json

Most benign images of SIIM-ISIC 2020 have no diagnosis, those of HAM10000 all have one. One network
learns from both, with the same images, folds, steps and seed:

    partial  diagnoses where there are some, elsewhere the sum of the benign classes
             (--target partial)
    binary   melanoma or not (--target binary)
    nevi     diagnoses, the unknown benign images called nevi (--target dx)

Each is judged on the held-out images of every source by itself: AUC of melanoma, the paired
difference to `partial`, and the mean AUC of the diagnoses that are known. With --hide, a share of
the benign diagnoses is hidden first. A run that is there is resumed. What comes out, with the
settings, goes to results/siim2020_300/targets.json."""
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, parser_of

from melanoma_nbdev.core import write_json
from melanoma_nbdev.data.manifest import load_manifests
from melanoma_nbdev.evidence.intervals import auc_ci
from melanoma_nbdev.evidence.comparison import compare_models, summarise_dx
from melanoma_nbdev.evidence.oof import clusters, read_oof
from melanoma_nbdev.training.run import train_run

TARGETS = dict(partial='partial', binary='binary', nevi='dx')
"Arm -> its --target"
UNKNOWN = 'UNK'
"The diagnosis of a benign image of which nothing more is known"


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--sources', default='siim2020,ham10000', help='sources, with commas')
    parser.add_argument('--arms', nargs='+', default=list(TARGETS), choices=TARGETS, help='which')
    parser.add_argument('--only', nargs='+', type=int, default=[0], help='folds')
    parser.add_argument('--folds', default='published', help='published, or how many',
                        type=lambda said: int(said) if said.isdigit() else said)
    parser.add_argument('--preset', default='lite0_192', help='recipe of melanoma_train')
    parser.add_argument('--weights', help='of the backbone; package: of an installed package')
    parser.add_argument('--size', type=int, default=128, help='side of the square, pixels')
    parser.add_argument('--epochs', type=int, default=2, help='epochs of each run')
    parser.add_argument('--tta', type=int, default=1, help='views of a picture, 1 to 8')
    parser.add_argument('--hide', type=float, default=0, help='share of benign diagnoses to hide')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--seed', type=int, default=0, help='of training and resamples')
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of groups')
    parser.add_argument('--out', type=Path, default=Path('runs/unknown_benign'), help='runs')
    parser.add_argument('--dest', type=Path, default=RESULTS/'siim2020_300'/'targets.json')
    return parser.parse_args()


def images(given):
    "The manifest, some of its diagnoses hidden."
    manifest = load_manifests(given.sources)
    benign = manifest.index[manifest['target'] == 0]
    hidden = np.random.default_rng(given.seed).permutation(benign)[:round(given.hide*len(benign))]
    manifest.loc[hidden, 'dx'] = UNKNOWN
    return manifest


def as_the_arm_has_it(manifest, arm):
    "The manifest with the diagnoses that an arm learns from."
    if arm != 'nevi': return manifest
    return manifest.assign(dx=manifest['dx'].where(manifest['dx'] != UNKNOWN, 'NV'))


def trained(manifest, arm, given):
    "The held-out images with their answers, and with the diagnoses that are truly known."
    run = given.out/arm
    settings = dict(preset=given.preset, size=given.size, epochs=given.epochs, tta=given.tta,
                    folds=given.folds, seed=given.seed, threads=given.threads, crop='squash')
    if given.weights: settings['weights'] = given.weights
    train_run(run, as_the_arm_has_it(manifest, arm), only=given.only, target=TARGETS[arm],
              data=given.sources, resume=(run/'config.json').exists(), **settings)
    parts = [read_oof(run/f'fold{fold}'/'oof.csv') for fold in given.only]
    known = manifest.set_index('image_id')[['dx', 'source']]
    answers = pd.concat(parts, ignore_index=True).drop(columns=['dx', 'source'], errors='ignore')
    return answers.join(known, on='image_id')


def diagnoses_auc(answers, given):
    "The mean AUC of the known diagnoses of a source; nothing where there is but one."
    known = answers[answers['dx'] != UNKNOWN]
    if known['dx'].nunique() < 3: return {}
    found = summarise_dx(known, given.n_boot, given.seed)
    if found is None: return {}
    occurring = [code for code, row in found['classes'].items() if row['n']]
    return dict(diagnoses=len(occurring), macro=found['macro_auc'])


def row_of(answers, partial, given):
    "What an arm is worth on the images of one source, beside `partial`."
    answers = answers.drop(columns='sampling_weight', errors='ignore')
    area = auc_ci(answers['target'].to_numpy(), answers['p_melanoma'].to_numpy(),
                  clusters(answers, warn=False), given.n_boot, given.seed)
    row = dict(n=len(answers), n_pos=int(answers['target'].sum()), auc=area)
    if partial is not None:
        partial = partial.drop(columns='sampling_weight', errors='ignore')
        row['minus_partial'] = compare_models(answers, partial, ['auc'], given.n_boot,
                                              given.seed)['auc']
    return row | diagnoses_auc(answers, given)


def main():
    "Train what is not trained yet, and judge every arm on every source."
    given = options()
    manifest = images(given)
    found, partial = {}, None
    for arm in given.arms:
        answers = trained(manifest, arm, given)
        found[arm] = {}
        for source, own in answers.groupby('source'):
            beside = partial[partial['source'] == source] if partial is not None else None
            found[arm][source] = row_of(own, beside, given)
            print(arm, source, found[arm][source], flush=True)
        if arm == 'partial': partial = answers
    names = 'sources only folds preset weights size epochs tta hide seed n_boot'.split()
    settings = {name: getattr(given, name) for name in names}
    unknown = int((manifest['dx'] == UNKNOWN).sum())
    write_json(given.dest, dict(settings=settings, n=len(manifest), unknown=unknown, arms=found))


if __name__ == '__main__':
    main()
