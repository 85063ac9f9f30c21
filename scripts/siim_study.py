#!/usr/bin/env python3
"""What the runs on SIIM-ISIC 2020 are worth: every run of results/siim2020_300, side by side.

    MELANOMA_DATA=... python scripts/siim_study.py

Each folder there holds config.json and oof.csv of a run on the published folds. The facts of the
images (age, sex, site, size, images of the patient, sampling weight) come from the source. Written
are `metrics.json` in each folder, and beside the folders:

    runs.csv      a row a run: discrimination, floor and gain, difference to the base
    floors.csv    what is known of the same images without a pixel
    facts.csv     what sex, age, site and images of the patient add to the base's score
    parts.csv     runs that have some of the folds alone, beside the base's scores of these images
    study.json    counts, the reference's figures, and the differences that can be told apart

The plan's rank averages (`rank2` to `rank4`) are made here, too, by melanoma_ensemble's rule."""
from pathlib import Path

import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import read_json, write_csv, write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.evidence.proportions import hanley_mcneil
from melanoma_nbdev.evidence.intervals import auc_ci
from melanoma_nbdev.evidence.comparison import compare_models
from melanoma_nbdev.evidence.discrimination import auc_within
from melanoma_nbdev.evidence.ensemble import ensemble
from melanoma_nbdev.evidence.floor import FLOOR_SETS, camera_groups, floor_auc, floor_table
from melanoma_nbdev.evidence.image_gain import what_the_image_adds
from melanoma_nbdev.evidence.oof import clusters, read_oof
from melanoma_nbdev.evidence.marks import add_file_statistics
from melanoma_nbdev.report.evaluation import evaluate
from melanoma_nbdev.report.measures import FACTS, with_facts

BASE = 'lite0_192-0'
RANKS = dict(rank2=['lite0_192-0', 'lite0_192-1'],
             rank2_aux=['lite0_192-0', 'lite0_192-1', 'lite0_192_aux-0'],
             rank3=['lite0_192-0', 'lite0_192-1', 'joint_lite0_160-0'],
             rank4=['lite0_192-0', 'lite0_192-1', 'lite0_192_aux-0', 'joint_lite0_160-0'])
"Rank averages of the plan: all finished runs, none chosen"
OF_THE_FILE = {'bytes, JPEG squares, light of the corners': 'file'}
MEASURES = ('auc', 'pauc80', 'sens_at_spec95', 'spec_at_sens95')


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='siim2020', help='source or folder of the images')
    parser.add_argument('--folder', type=Path, default=RESULTS/'siim2020_300',
                        help='folder of the runs, also written to')
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of patients')
    parser.add_argument('--seed', type=int, default=0, help='seed of the resamples')
    return parser.parse_args()


def known_of_images(data, oof):
    "The manifest's rows of the scored images, in their order, with the folds of the runs."
    known = load_manifest(data).set_index('image_id').loc[oof.image_id].reset_index()
    return known.assign(fold=oof.fold.to_numpy(), group=known.patient_id)


def evaluated(folder, oof, known, given):
    "All figures of a run, written to its metrics.json; and the predictions with facts."
    facts = [name for name in (*FACTS, 'sampling_weight', 'patient_images') if name in known]
    table = with_facts(oof.assign(**{name: known[name].to_numpy() for name in facts}))
    figures = evaluate(table, n_boot=given.n_boot, seed=given.seed)[0]
    old = folder/'metrics.json'
    if old.exists() and 'optimism' in read_json(old):  # the best epochs lie in the run folder alone
        figures['optimism'] = read_json(old)['optimism']
    write_json(old, figures)
    return figures, table


def row_of(name, figures, table, base, given):
    "One row of runs.csv."
    row = dict(run=name, n=figures['n'], n_pos=figures['n_pos'], n_clusters=figures['n_clusters'])
    for measure in MEASURES: row |= interval_columns(measure, figures[measure])
    same = table.target, table.p_melanoma
    cluster = clusters(table, warn=False)
    camera = camera_groups(table)
    for name, strata in (('within_folds', table.fold), ('within_cameras', camera)):
        fold = None if name == 'within_folds' else table.fold
        found = auc_within(*same, strata, cluster, fold, given.n_boot, given.seed)
        row |= interval_columns(name, dict(value=found['auc'], lo=found['lo'], hi=found['hi']))
    floor = figures['floor']
    row |= interval_columns('floor', floor['auc'])
    row |= interval_columns('image_adds', floor['image_adds'])
    if base is None: return row
    found = compare_models(table, base, ['auc'], given.n_boot, given.seed)['auc']
    return row | interval_columns('minus_base', found)


def interval_columns(name, found):
    "A value and its bounds as three columns."
    value = found['value'] if 'value' in found else found['diff']
    return {name: value, f'{name}_lo': found['lo'], f'{name}_hi': found['hi']}


def part_of(name, run, base, given):
    """One row of parts.csv: a run that has some folds alone, and the paired difference to the base
    on the same images."""
    same = base[base.image_id.isin(run.image_id)]
    run, same = (table.drop(columns='sampling_weight', errors='ignore') for table in (run, same))
    found = compare_models(run, same, MEASURES, given.n_boot, given.seed)
    row = dict(run=name, folds=' '.join(map(str, sorted(run.fold.unique()))))
    row |= {count: found[count] for count in ('n', 'n_pos', 'n_clusters')}
    for measure in MEASURES:
        row |= {measure: found[measure]['a'], f'{measure}_base': found[measure]['b']}
        row |= interval_columns(f'{measure}_minus_base', found[measure])
    area = auc_ci(run.target.to_numpy(), run.p_melanoma.to_numpy(), clusters(run, warn=False),
                  given.n_boot, given.seed)
    return row | dict(auc_lo=area['lo'], auc_hi=area['hi'],
                      auc_detectable=found['auc']['detectable'])


def write_parts(runs, base, given):
    "parts.csv of the runs that have not all images of the base; nothing where there are none."
    rows = [part_of(name, run, base, given) for name, run in sorted(runs.items())]
    if rows: write_csv(given.folder/'parts.csv', pd.DataFrame(rows).round(6))


def facts_beside(base, known, given):
    "What is known of a patient beside the base's score: each alone, both, and the gains."
    facts = floor_auc(known, 'metadata+images', seed=given.seed, n_boot=0)[0]
    table = what_the_image_adds(base, facts, given.n_boot, given.seed)
    names = {'floor': 'facts', 'image - floor': 'image - facts', 'both - floor': 'both - facts'}
    return table.rename(index=names).reset_index().round(6)


def of_the_task(oof):
    "The rows of SIIM-ISIC 2020 in a run that may have learnt from other sources, too."
    if 'source' not in oof: return oof
    return oof[oof['source'].str.startswith('siim')].reset_index(drop=True)


def members_of(folder):
    """Every run of the folder, and the rank averages whose members are all there; and the runs that
    have not all images of the base."""
    found = {path.parent.name: of_the_task(read_oof(path))
             for path in sorted(folder.glob('*/oof.csv')) if path.parent.name not in RANKS}
    parts = {name: run for name, run in found.items() if len(run) < len(found[BASE])}
    runs = {name: run for name, run in found.items() if name not in parts}
    bare = {name: run.drop(columns='sampling_weight', errors='ignore')
            for name, run in runs.items()}
    for name, members in RANKS.items():
        if set(members) <= set(runs):
            runs[name] = ensemble([bare[run] for run in members], 'rank')
    return runs, parts


def main():
    "Evaluate every run and write the tables."
    given = options()
    runs, parts = members_of(given.folder)
    known = known_of_images(given.data, runs[BASE])
    rows, base = [], None
    for name in sorted(runs, key=lambda name: (name != BASE, name)):
        folder = given.folder/name
        folder.mkdir(exist_ok=True)
        print(name, flush=True)
        figures, table = evaluated(folder, runs[name], known, given)
        rows.append(row_of(name, figures, table, base, given))
        if name == BASE: base = table
    write_csv(given.folder/'runs.csv', pd.DataFrame(rows).round(6))
    sets = FLOOR_SETS | OF_THE_FILE
    floors = floor_table(add_file_statistics(known), sets, given.seed, given.n_boot)
    floors.insert(0, 'set', floors.features.map(sets))
    write_csv(given.folder/'floors.csv', floors.round(6))
    write_csv(given.folder/'facts.csv', facts_beside(base, known, given))
    write_parts(parts, base, given)
    write_json(given.folder/'study.json', study(known, pd.DataFrame(rows), given))
    print(pd.DataFrame(rows)[['run', 'auc', 'auc_lo', 'auc_hi', 'floor', 'image_adds']])


def study(known, runs, given):
    """Counts, how well the reference's figures are known, and how well a difference between two
    runs on the same images is: half of its 95% interval, in pairs."""
    published = read_json(RESULTS/'reference'/'anchors.json')['fast_melanoma_detection']
    counts = published['n_melanoma'], published['n_other']
    half = {name: 1.96*hanley_mcneil(published[name], *counts)
            for name in ('b3_384', 'b5_384', 'b3_512', 'b5_512')}
    paired = (runs.minus_base_hi - runs.minus_base_lo).dropna()/2
    return dict(n=len(known), n_pos=int(known.target.sum()), patients=known.patient_id.nunique(),
                n_boot=given.n_boot, seed=given.seed, reference_half_interval=half,
                reference_spread=max(published[name] for name in half)
                - min(published[name] for name in half),
                paired_half_width=dict(least=paired.min(), most=paired.max()))


if __name__ == '__main__':
    main()
