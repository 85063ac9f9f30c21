#!/usr/bin/env python3
"""What a run is worth on a source that it did not learn from, in ranking and in calibration.

    MELANOMA_DATA=... python scripts/across_sources.py RUN --on ham10000 isic2018
    MELANOMA_DATA=... python scripts/across_sources.py RUN --on ham10000 --parts 0 --limit 500
    MELANOMA_DATA=... python scripts/across_sources.py without_siim2020 --on siim2020 --parts 0
    python scripts/across_sources.py without_ham10000 --on ham10000 --parts 0 --stored

The models of the folds score the source's images: their mean logits over `--symmetries` views of
each picture. Temperature and threshold are those of the run's own out-of-fold file. On the other
source the risks are first moved to the prevalence there, as a user would who knows it. Beside it
stands the same for the run's own images, out of fold. One row a run and source goes to
results/siim2020_300/across.csv; a row that is there is replaced. Of several own sources sampling
weights do not count, as on an artefact's card.

The logits stay in results/siim2020_300/RUN (own.csv.gz and on_SOURCE.csv.gz); with --stored the
rows are made from them again, without models and images."""
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import RESULTS, parser_of

from melanoma_nbdev.core import softmax, write_csv
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.data.splits import add_groups
from melanoma_nbdev.evidence.intervals import auc_ci
from melanoma_nbdev.evidence.calibration import calibration_error, calibration_line
from melanoma_nbdev.evidence.recalibration import prior_shift
from melanoma_nbdev.evidence.decisions import calling_rates, decision_card
from melanoma_nbdev.evidence.oof import clusters, read_oof
from melanoma_nbdev.report.export import together_of
from melanoma_nbdev.training.learner import predict_logits
from melanoma_nbdev.training.models import load_model

OUT = RESULTS/'siim2020_300'/'across.csv'


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('run', type=Path, help='run folder with the models of the folds')
    parser.add_argument('--on', nargs='+', required=True, help='sources that the run never saw')
    parser.add_argument('--parts', nargs='+', type=int, default=list(range(5)), help='folds')
    parser.add_argument('--symmetries', type=int, default=1, help='views of a picture, 1 to 8')
    parser.add_argument('--stored', action='store_true', help='from the logits that were kept')
    parser.add_argument('--limit', type=int, help='this many images, and write nothing')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads')
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of groups')
    parser.add_argument('--seed', type=int, default=0, help='seed of the resamples')
    return parser.parse_args()


def kept_file(given, name):
    "Where the logits of a run on some images are kept."
    return OUT.parent/given.run.resolve().name/f'{name}.csv.gz'


def own_predictions(given):
    """The out-of-fold file of the run; of a run with one fold, that fold's. Sampling weights count
    for one source alone, as on the card of an artefact."""
    if given.stored: return read_oof(kept_file(given, 'own'))
    whole = given.run/'oof.csv'
    only = given.run/f'fold{given.parts[0]}'/'oof.csv'
    oof = read_oof(whole if whole.exists() or len(given.parts) > 1 else only)
    oof = together_of(oof)[0] if 'source' in oof else oof
    if not given.limit: write_csv(kept_file(given, 'own'), oof.round(5))
    return oof


def mean_logits(given, manifest):
    "(n, c) mean logits of the models of the folds, and the classes."
    total = 0
    for part in given.parts:
        model, config = load_model(given.run, part)
        total = total + predict_logits(model, manifest, config, given.symmetries,
                                       label=f'fold {part}')
    return total/len(given.parts), config['classes']


def melanoma_risks(logits, classes, temperature):
    "(n,) probabilities of melanoma after the temperature."
    column = classes.index('MEL') if len(classes) > 1 else 1
    return softmax(np.asarray(logits)/temperature)[:, column]


def figures(is_melanoma, risks, cluster, threshold, given):
    "Ranking, calibration and calls at one threshold."
    area = auc_ci(is_melanoma, risks, cluster, given.n_boot, given.seed)
    line = calibration_line(is_melanoma, risks, cluster)
    error = calibration_error(is_melanoma, risks, cluster=cluster)
    row = dict(n=len(risks), n_pos=int(is_melanoma.sum()), n_clusters=int(cluster.max() + 1))
    for name, known in dict(auc=area, slope=line['slope'], oe=line['observed_expected']).items():
        row |= {name: known.value, f'{name}_lo': known.lo, f'{name}_hi': known.hi}
    row |= dict(ece=error['ece'], ece_if_calibrated=error['if_calibrated'])
    return row | dict(threshold=threshold)


def calls(is_melanoma, called, cluster):
    "Sensitivity and specificity of calls, with intervals."
    rates = calling_rates(is_melanoma, called, cluster, float(is_melanoma.mean()))
    return {f'{name}{end}': getattr(rates[name], field)
            for name in ('sensitivity', 'specificity')
            for end, field in (('', 'value'), ('_lo', 'lo'), ('_hi', 'hi'))}


def threshold_of(card):
    "The threshold that promises 95% sensitivity on the run's own images."
    return next(point['threshold'] for point in card['operating_points']
                if point['target'] == dict(sensitivity=.95) and point['confidence'])


def own_row(oof, classes, card, given):
    "The run on its own images, out of fold."
    risks = melanoma_risks(oof[[f'logit_{name}' for name in classes]], classes, card['temperature'])
    target, cluster = oof['target'].to_numpy(), clusters(oof, warn=False)
    return dict(run=given.run.resolve().name, on='itself', models=1,
                prevalence=target.mean(),
                **figures(target, risks, cluster, threshold_of(card), given),
                **calls(target, risks >= threshold_of(card), cluster))


def scored(source, given):
    "The images of a source with their group and their mean logits."
    if given.stored: return pd.read_csv(kept_file(given, f'on_{source}'))
    manifest = add_groups(load_manifest(source))
    if given.limit: manifest = manifest.sample(given.limit, random_state=given.seed)
    manifest = manifest.reset_index(drop=True)
    logits, classes = mean_logits(given, manifest)
    columns = [f'logit_{name}' for name in classes]
    table = manifest[['image_id', 'group', 'target']].join(pd.DataFrame(logits, columns=columns))
    if not given.limit: write_csv(kept_file(given, f'on_{source}'), table.round(5))
    return table


def row_on(source, card, prevalence, given):
    "The run on a source that it did not learn from."
    table = scored(source, given)
    columns = [name for name in table if name.startswith('logit_')]
    classes = [name.removeprefix('logit_') for name in columns]
    risks = melanoma_risks(table[columns], classes, card['temperature'])
    target, cluster = table['target'].to_numpy(dtype=int), pd.factorize(table['group'])[0]
    moved = prior_shift(risks, prevalence, float(target.mean()))
    return dict(run=given.run.resolve().name, on=source, models=len(given.parts),
                prevalence=target.mean(),
                **figures(target, moved, cluster, threshold_of(card), given),
                **calls(target, risks >= threshold_of(card), cluster))


def with_rows_before(table):
    "The table with the rows of the file that it does not replace."
    if not OUT.exists(): return table
    before = pd.read_csv(OUT)
    again = before.merge(table[['run', 'on']], how='left', indicator=True)['_merge'] == 'both'
    return pd.concat([before[~again.to_numpy()], table])


def main():
    "Score each source and write its row."
    given = options()
    torch.set_num_threads(given.threads)
    oof = own_predictions(given)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        card = decision_card(oof)
    classes = [name.removeprefix('logit_') for name in oof if name.startswith('logit_')]
    rows = [own_row(oof, classes, card, given)]
    for source in given.on:
        rows.append(row_on(source, card, float(oof['target'].mean()), given))
        print(pd.Series(rows[-1]), flush=True)
    if not given.limit: write_csv(OUT, with_rows_before(pd.DataFrame(rows)).round(6))


if __name__ == '__main__':
    main()
