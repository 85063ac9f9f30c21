#!/usr/bin/env python3
"""How far a model is from what can be reached on a synthetic set, whose truth is known.

    python scripts/distance_to_truth.py data/phantom-20000 runs/phantom20000/oof.csv \\
        --out results/truth/small20000/truth.json

There are two bounds: `z`, the score from which the labels were drawn, and `picture`, the best that
can be made of picture and record. The distances are paired on the same images, and their intervals
resample patients alike for bound and model.

`weights` says which criteria the scores follow: the coefficients of a linear fit of the logit to
the log-odds of the five, as shares of their sum. `weights_reader` says it of the reader without
error, to whom a picture shows a lesion's size and not its diameter criterion."""
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser_of
from melanoma_nbdev.core import log_odds, read_json, write_json
from melanoma_nbdev.evidence.intervals import auc_ci
from melanoma_nbdev.evidence.comparison import compare_models
from melanoma_nbdev.evidence.oof import clusters, read_oof
from melanoma_nbdev.phantom.bounds import best_auc_ci, picture_truth

CRITERIA = ['asymmetry', 'border', 'colours', 'structures', 'diameter']
BOUNDS = dict(z=('z', 'set'), picture=('z_picture', 'picture'))
"Name of a bound -> column of its score, and what `best_auc_ci` calls it"
EPS = 1e-7


def truth_of(phantom, oof):
    "The truth of a set's images that an out-of-fold file has, in the order of the set."
    truth = picture_truth(phantom).rename(columns=dict(image_name='image_id'))
    return truth[truth.image_id.isin(oof.image_id)].reset_index(drop=True)


def below_bound(name, truth, oof, n_boot):
    "A bound with its interval and the paired distance of the model from it; and the comparison."
    column, kind = BOUNDS[name]
    scores = truth.set_index('image_id').loc[oof.image_id, column].to_numpy()
    compared = compare_models(oof.assign(p_melanoma=scores), oof, names=('auc',), n_boot=n_boot)
    bound, gap = best_auc_ci(truth, kind=kind, n_boot=min(n_boot, 1000)), compared['auc']
    record = dict(auc=bound['auc'], lo=bound['lo'], hi=bound['hi'], distance=gap['diff'],
                  distance_lo=gap['lo'], distance_hi=gap['hi'])
    return record, compared


def shares_of_fit(criteria, logits):
    "Shares of the coefficients of a linear fit of logits to the criteria's log-odds."
    columns = np.c_[criteria - criteria.mean(0), np.ones(len(criteria))]
    weights = np.linalg.lstsq(columns, logits, rcond=None)[0][:len(CRITERIA)]
    return dict(zip(CRITERIA, (weights/weights.sum()).round(4).tolist(), strict=True))


def distance(
    phantom,  # Folder of the synthetic set
    oof,  # Out-of-fold file or table of images of the set
    score=None,  # Its column with the score
    n_boot=2000,  # Resamples of patients
):  # n, n_pos, n_clusters, model, and for each bound auc, lo, hi, distance with its interval
    "The bounds of a set on the images of an out-of-fold file, and how far below them it ranks."
    oof = read_oof(oof, columns=dict(p_melanoma=score))
    truth = truth_of(phantom, oof)
    bounds = {name: below_bound(name, truth, oof, n_boot) for name in BOUNDS}
    compared = bounds['picture'][1]
    counts = {name: compared[name] for name in ('n', 'n_pos', 'n_clusters', 'n_boot', 'seed')}
    interval = auc_ci(oof.target, oof.p_melanoma, clusters(oof, warn=False), n_boot=n_boot)
    model = dict(model=compared['auc']['b'], model_lo=interval['lo'], model_hi=interval['hi'])
    by_image = truth.set_index('image_id').loc[oof.image_id]
    criteria = log_odds(by_image[CRITERIA].to_numpy(), EPS)
    fits = dict(weights=shares_of_fit(criteria, log_odds(oof.p_melanoma.to_numpy(), EPS)),
                weights_reader=shares_of_fit(criteria, by_image.z_picture.to_numpy()))
    return counts | model | {name: record for name, (record, _) in bounds.items()} | fits


def made_by(phantom):
    "The call that draws the set."
    config = read_json(Path(phantom)/'phantom.json')['config']
    words = ', '.join(f'{name}={value!r}' for name, value in config.items()
                      if name != 'drawing' and value != [])
    return f"make_phantom('data/{Path(phantom).name}', {words})"


def line(name, found):
    "One bound, the model and the distance, in words."
    bound = found[name]
    return (f"{name}: {bound['auc']:.4f} ({bound['lo']:.4f} to {bound['hi']:.4f}), "
            f"the model {found['model']:.4f} ({found['model_lo']:.4f} to {found['model_hi']:.4f}), "
            f"distance {bound['distance']:.4f} "
            f"({bound['distance_lo']:.4f} to {bound['distance_hi']:.4f})")


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('phantom', type=Path, help='folder of the synthetic set')
    parser.add_argument('oof', type=Path, help='out-of-fold file')
    parser.add_argument('--score', help='its column with the score')
    parser.add_argument('--out', type=Path, required=True, help='JSON file that is written')
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of patients')
    return parser.parse_args()


def main():
    "Write the distances; the commands that an older file names are kept."
    given = options()
    commands = read_json(given.out).get('commands') if given.out.exists() else None
    oof = pd.read_csv(given.oof, dtype={'image_id': str})
    found = distance(given.phantom, oof, given.score, given.n_boot)
    write_json(given.out, found | dict(commands=commands or [made_by(given.phantom)]))
    print('\n'.join(line(name, found) for name in BOUNDS))


if __name__ == '__main__':
    main()
