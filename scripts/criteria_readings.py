#!/usr/bin/env python3
"""What a backbone that was taught the criteria reads on the scored set, before any diagnosis.

    python scripts/criteria_readings.py --taught runs/criteria --run runs/phantom20000_taught \\
        --phantom data/phantom-20000-192 --out results/truth/taught96/readings.json

The backbone (teach_criteria.py) reads the five criteria from the pictures. Out of fold, on the
folds of the run, a logistic regression of melanoma is fitted to the readings, their squares and the
record. Written are its out-of-fold file (OUT with _oof.csv), its AUC and its distances as
distance_to_truth.py gives them.

`r2` is the share of each criterion's variance that the readings explain, of all pictures; `r2_high`
the same for the quarter with the highest score behind the labels, where the melanomas are."""
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import parser_of
from distance_to_truth import CRITERIA, distance
from melanoma_nbdev.core import RunError, friendly, read_json, write_csv, write_json
from melanoma_nbdev.phantom.bounds import picture_truth
from melanoma_nbdev.training.checkpoint import keep_freed_memory
from melanoma_nbdev.training.learner import predict_logits
from melanoma_nbdev.training.models import DermModel, read_weights
from melanoma_nbdev.training.pipeline import metadata_features
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def check_files(run, taught):
    "Stop where a run folder or a taught backbone is not finished."
    files = [run/name for name in ('oof.csv', 'config.json', 'manifest.csv')]
    for path in [*files, taught/'criteria.json']:
        if not path.exists():
            raise RunError(f'{path} does not exist; --run is a finished run folder, '
                           '--taught a folder that teach_criteria.py wrote')


def read_pictures(taught, config, manifest, tta):
    "(n, 5) readings of the criteria, standardised."
    lesson = read_json(taught/'criteria.json')
    model = DermModel(lesson['arch'], len(CRITERIA), **config['arch_kwargs'])
    model.load_state_dict(read_weights(taught/'model.safetensors'))
    model = model.to(memory_format=torch.channels_last)
    half = [.5]*3
    sight = dict(size=lesson['size'], crop=lesson['crop'], mean=half, std=half)
    return predict_logits(model, manifest, sight, tta)


def out_of_fold_risks(readings, manifest, oof, meta):
    "Risks of a logistic regression on readings, their squares and the record, out of fold."
    columns = np.c_[readings, readings**2, metadata_features(manifest, meta)]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = PredefinedSplit(oof.fold)
    return cross_val_predict(model, columns, oof.target, cv=folds, method='predict_proba')[:, 1]


def explained(readings, truth, rows):
    "Criterion -> share of its variance that the readings explain, on some rows."
    shares = {}
    for place, name in enumerate(CRITERIA):
        correlation = np.corrcoef(readings[rows, place], truth[name][rows])[0, 1]
        shares[name] = round(float(correlation**2), 3)
    return shares


def tables_of(run, phantom):
    "The run's out-of-fold file, its manifest in that order with the set's pictures, the truth."
    oof = pd.read_csv(run/'oof.csv', dtype={'image_id': str})
    manifest = pd.read_csv(run/'manifest.csv', dtype={'image_id': str}).set_index('image_id')
    manifest = manifest.loc[oof.image_id].reset_index()
    folder = phantom/'jpeg'/'train'
    manifest['path'] = [str(folder/f'{name}.jpg') for name in manifest.image_id]
    truth = picture_truth(phantom).set_index('image_name').loc[oof.image_id]
    return oof, manifest, truth


def command(given):
    "The call that made the file."
    more = f' --tta {given.tta}' if given.tta != 2 else ''
    return (f'python scripts/criteria_readings.py --taught runs/{given.taught.name} '
            f'--run runs/{given.run.name} --phantom data/{given.phantom.name} '
            f'--out {given.out}{more}')


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--taught', type=Path, required=True, help='folder of teach_criteria.py')
    parser.add_argument('--run', type=Path, required=True, help='finished run folder')
    parser.add_argument('--phantom', type=Path, required=True, help='folder of the synthetic set')
    parser.add_argument('--out', type=Path, required=True, help='JSON file that is written')
    parser.add_argument('--tta', type=int, default=2, help='symmetries that are averaged')
    parser.add_argument('--threads', type=int, default=2)
    return parser.parse_args()


@friendly
def main():
    "Read the pictures, fit, and write what was found."
    given = options()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    check_files(given.run, given.taught)
    config = read_json(given.run/'config.json')
    oof, manifest, truth = tables_of(given.run, given.phantom)
    readings = read_pictures(given.taught, config, manifest, given.tta)
    risks = out_of_fold_risks(readings, manifest, oof, config['meta'])
    high = (truth.z >= truth.z.quantile(.75)).to_numpy()
    table = oof[['image_id', 'patient_id', 'group', 'fold', 'target']].assign(
        p_melanoma=[float(f'{risk:.7g}') for risk in risks])
    write_csv(given.out.with_name(f'{given.out.stem}_oof.csv'), table)
    write_json(given.out, distance(given.phantom, table) | dict(
        r2=explained(readings, truth, np.ones(len(truth), bool)),
        r2_high=explained(readings, truth, high), n_high=int(high.sum()),
        n_pos_high=int(oof.target[high].sum()), symmetries=given.tta, command=command(given)))
    print(given.out.read_text())


if __name__ == '__main__':
    main()
