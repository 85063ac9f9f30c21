#!/usr/bin/env python3
"""Net benefit and DeLong's interval against independent libraries, in three steps.

The second step runs in an environment of its own: dcurves needs an older pandas than this project.

    uv venv .venv-check
    uv pip install --python .venv-check/bin/python dcurves confidenceinterval
    python scripts/external_libraries.py make check.csv
    .venv-check/bin/python scripts/external_libraries.py other check.csv other.json
    python scripts/external_libraries.py compare check.csv other.json

Step three writes external.csv."""
import json
from pathlib import Path

from common import RESULTS, parser_of

THRESHOLDS = [.005, .01, .02, .05, .1, .2, .5]


def make(dest, patients):
    "Write simulated targets and risks, the data of both sides."
    from melanoma_nbdev.evidence.oof import simulate_oof
    oof = simulate_oof(patients, prevalence=.05, seed=21)
    oof[['target', 'p_melanoma']].round(6).to_csv(dest, index=False)


def net_benefits(data):
    "Net benefit of the model and of treating all, by dcurves."
    from dcurves import dca
    table = dca(data=data, outcome='target', modelnames=['p_melanoma'], thresholds=THRESHOLDS)
    columns = {}
    for name, model in dict(model='p_melanoma', all='all').items():
        values = table[table.model == model].set_index('threshold').net_benefit
        columns[name] = [float(values[threshold]) for threshold in THRESHOLDS]
    return columns


def other(source, dest):
    "Write what dcurves and confidenceinterval say; imports nothing of this project."
    from importlib.metadata import version

    import pandas as pd
    from confidenceinterval import roc_auc_score
    data = pd.read_csv(source)
    value, (low, high) = roc_auc_score(data.target, data.p_melanoma, confidence_level=.95)
    versions = {package: version(package) for package in ('dcurves', 'confidenceinterval')}
    said = net_benefits(data) | dict(
        auc=float(value), lo=float(low), hi=float(high), versions=versions)
    Path(dest).write_text(json.dumps(said))


def rows_of(data, theirs):
    "One row a figure: theirs and ours."
    from melanoma_nbdev.evidence.intervals import delong
    from melanoma_nbdev.evidence.decisions import net_benefit
    is_melanoma, risks = data.target.to_numpy(), data.p_melanoma.to_numpy()
    table, interval = net_benefit(is_melanoma, risks, THRESHOLDS), delong(is_melanoma, risks)
    names = {name: f'{name} {number}' for name, number in theirs['versions'].items()}
    benefit = [
        dict(what=f'net benefit of {kind} at {threshold:g}', library=names['dcurves'],
             theirs=their_value, ours=our_value)
        for kind in ('model', 'all')
        for threshold, our_value, their_value in zip(
            THRESHOLDS, table[kind], theirs[kind], strict=True)]
    return benefit + [
        dict(what=f'DeLong {key}', library=names['confidenceinterval'], theirs=theirs[key],
             ours=interval[key])
        for key in ('auc', 'lo', 'hi')]


def compare(source, theirs, dest):
    "Write external.csv: each figure of theirs beside ours, and the difference."
    import pandas as pd
    from melanoma_nbdev.core import read_json, write_csv
    table = pd.DataFrame(rows_of(pd.read_csv(source), read_json(theirs)))
    table['difference'] = (table.ours - table.theirs).abs()
    write_csv(dest/'external.csv', table)
    print(table.to_string())


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('step', choices=['make', 'other', 'compare'])
    parser.add_argument('files', nargs='+', help='one file for make, two for the other steps')
    parser.add_argument('--patients', type=int, default=500, help='simulated patients (make)')
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence', help='folder (compare)')
    return parser.parse_args()


def main():
    "Do one step."
    given = options()
    if given.step == 'make': make(given.files[0], given.patients)
    elif given.step == 'other': other(*given.files)
    else: compare(*given.files, given.dest)


if __name__ == '__main__':
    main()
