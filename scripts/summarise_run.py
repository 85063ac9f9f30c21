#!/usr/bin/env python3
"""What of a finished run is kept in the repository, after melanoma_evaluate.

    python scripts/summarise_run.py runs/small_ham10000
    python scripts/summarise_run.py runs/phantom20000 --phantom data/phantom-20000 \\
        --to results/truth/small20000
    python scripts/summarise_run.py runs/phantom20000_taught --phantom data/phantom-20000-192 \\
        --taught runs/criteria --to results/truth/taught96

The run's small files are copied to the folder, and summary.json is written: hours, the fixed and
the best epoch. A synthetic set gets truth.json as well (distance_to_truth.py); a run whose backbone
was taught first (teach_criteria.py) gets criteria.json."""
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, ROOT, parser_of
from distance_to_truth import distance, made_by
from melanoma_nbdev.core import read_json, write_json

SMALL_FILES = ('config.json', 'environment.json', 'metrics.json', 'oof.csv')


def copy_files(run, dest):
    "Copy the small files; the histories of the folds, read."
    dest.mkdir(parents=True, exist_ok=True)
    for name in SMALL_FILES: shutil.copyfile(run/name, dest/name)
    histories = {}
    for path in sorted(run.glob('fold*/history.csv')):
        shutil.copyfile(path, dest/f'history_{path.parent.name}.csv')
        histories[path.parent.name] = pd.read_csv(path)
    return histories


def summary(histories, metrics):
    "Hours, speed, memory, and what choosing the best epoch would have promised."
    best = metrics['optimism']['best_epoch']
    every = pd.concat(histories.values())
    last = sum(int(np.nanargmax(history.mel_auc)) == len(history) - 1
               for history in histories.values())
    record = dict(
        hours=round(sum(table.seconds.sum() for table in histories.values())/3600, 3),
        images_per_s=round(float(every.images_per_s.mean()), 1), peak_mb=float(every.peak_mb.max()),
        auc_fixed=best['fixed'], auc_best=best['best'], optimism=best['diff'],
        optimism_lo=best['lo'], optimism_hi=best['hi'], last_epoch_was_best=int(last),
        folds=len(histories))
    if metrics.get('diagnoses'): record['macro_auc'] = metrics['diagnoses']['macro_auc']
    return record


def training_call(given):
    "The call that trained the run, with the folders that the other calls name."
    call = read_json(given.run/'config.json')['command']
    data = given.phantom.name
    call = call.replace(f'--data {data} ', f'--data data/{data} ') + f' --out runs/{given.run.name}'
    if not given.taught: return call
    return call.replace('--weights model.safetensors',
                        f'--weights runs/{given.taught.name}/model.safetensors')


def commands(given):
    "All calls, from drawing the set to this one."
    first = read_json(given.taught/'criteria.json')['commands'] if given.taught else []
    taught = f' --taught runs/{given.taught.name}' if given.taught else ''
    here = (f'python scripts/summarise_run.py runs/{given.run.name} '
            f'--phantom data/{given.phantom.name}{taught} --to {folder_in_words(given.to)}')
    return [*first, made_by(given.phantom), training_call(given),
            f'melanoma_evaluate runs/{given.run.name}', here]


def folder_in_words(folder):
    "A folder as the commands name it: from the root of the repository where it lies in there."
    folder = folder.resolve()
    return folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.name


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('run', type=Path, help='finished run folder')
    parser.add_argument('--phantom', type=Path, help='folder of the synthetic set of the run')
    parser.add_argument('--taught', type=Path, help='folder of teach_criteria.py')
    parser.add_argument('--to', type=Path, help='folder that is written; results/RUN by default')
    given = parser.parse_args()
    given.to = given.to or RESULTS/given.run.name
    return given


def main():
    "Copy, and write what was found."
    given = options()
    histories = copy_files(given.run, given.to)
    write_json(given.to/'summary.json', summary(histories, read_json(given.run/'metrics.json')))
    if given.taught: shutil.copyfile(given.taught/'criteria.json', given.to/'criteria.json')
    if given.phantom:
        oof = pd.read_csv(given.run/'oof.csv', dtype={'image_id': str})
        found = distance(given.phantom, oof) | dict(commands=commands(given))
        write_json(given.to/'truth.json', found)
    print((given.to/'summary.json').read_text())


if __name__ == '__main__':
    main()
