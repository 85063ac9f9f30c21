#!/usr/bin/env python3
"""The models of the synthetic set with 20,000 images side by side, and the bounds above them.

    python scripts/truth_summary.py

Reads results/truth/. Writes summary.csv there: a row each for the preset `small`, both taught
backbones, their mean, and a logistic regression on what each taught backbone reads. `below_reader`
and `below_score` are the paired distances from the two bounds; `gain` is the paired difference
from the preset `small` (patients resampled), where the predictions are kept."""
from pathlib import Path

import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import read_json, write_csv
from melanoma_nbdev.evidence.comparison import compare_models
from melanoma_nbdev.evidence.oof import read_oof

FIRST = 'small20000'
MODELS = dict(
    small20000=('small20000', 'truth.json', 'oof.csv'),
    taught96=('taught96', 'truth.json', 'oof.csv'),
    taught128=('taught128', 'truth.json', 'oof.csv'),
    ensemble=('ensemble', 'truth.json', None),
    readings96=('taught96', 'readings.json', 'readings_oof.csv'),
    readings128=('taught128', 'readings.json', 'readings_oof.csv'))
"Name -> folder, its file with the distances, its predictions"
BOUNDS = dict(reader='picture', score='z')
"What a bound is called here -> in the files"


def with_bounds(name, record, key):
    "A figure and its interval under one name."
    low, high = ('lo', 'hi') if key == 'auc' else (f'{key}_lo', f'{key}_hi')
    return {name: record[key], f'{name}_lo': record[low], f'{name}_hi': record[high]}


def predictions(root, name):
    "The out-of-fold predictions of a model; None where they are not kept."
    folder, _, file = MODELS[name]
    if file is None: return None
    return read_oof(pd.read_csv(root/folder/file, dtype={'image_id': str}))


def gain(root, name, n_boot):
    "The paired difference in AUC from the first model."
    ours = predictions(root, name)
    if name == FIRST or ours is None: return {}
    compared = compare_models(ours, predictions(root, FIRST), names=('auc',), n_boot=n_boot)['auc']
    return dict(gain=compared['diff'], gain_lo=compared['lo'], gain_hi=compared['hi'])


def row_of(root, name, n_boot):
    "One model: its AUC, the bounds, the distances, the gain."
    folder, file, _ = MODELS[name]
    found = read_json(root/folder/file)
    row = dict(model=name, n=found['n'], n_pos=found['n_pos'], patients=found['n_clusters'])
    row |= with_bounds('auc', dict(auc=found['model'], lo=found['model_lo'],
                                   hi=found['model_hi']), 'auc')
    for bound, key in BOUNDS.items():
        row |= with_bounds(bound, found[key], 'auc')
        row |= with_bounds(f'below_{bound}', found[key], 'distance')
    return row | gain(root, name, n_boot)


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--source', type=Path, default=RESULTS/'truth', help='folder of the runs')
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of patients')
    parser.add_argument('--dest', type=Path, default=RESULTS/'truth', help='folder of the table')
    return parser.parse_args()


def main():
    "Write summary.csv."
    given = options()
    table = pd.DataFrame([row_of(given.source, name, given.n_boot) for name in MODELS])
    write_csv(given.dest/'summary.csv', table.round(6))
    print(table.T.to_string())


if __name__ == '__main__':
    main()
