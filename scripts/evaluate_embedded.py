#!/usr/bin/env python3
"""metrics.json of a folder of results, made again from its oof.csv.

    python scripts/evaluate_embedded.py
    python scripts/evaluate_embedded.py results/truth/nano2000 --data data/phantom-2000
    python scripts/evaluate_embedded.py --artefact melanoma_nbdev/weights

Of a run on several sources each gets a file: metrics.json is of the first that config.json names,
the others have metrics_SOURCE.json. With --artefact the card gets `sources` anew, too.

A folder of results has no manifest, and the evaluation needs what is known of the images: sex, age,
site, diagnosis. They are read from the source that config.json names (under MELANOMA_DATA), or from
--data, and put beside the predictions. No image is opened.

Two entries are special. The floor takes the body sites of HAM10000 in that table's own words, which
are finer than a manifest's six and tell more (`site_detail`): it is the floor of results/shortcuts/
image_adds_ham10000.csv. The best epochs lie in the run folder alone, so `optimism` is taken
over from the metrics.json that is there.

With --artefact, an exported model's card.json gets operating points, conformal limits and histogram
of these figures, and its card and checklists are written again. Its network is left as it is. What
the same recipe was worth on a source that it had not seen (`left_out`) comes from
results/siim2020_300/across.csv."""

import argparse
from pathlib import Path

from melanoma_nbdev.core import read_json, write_card, write_json

ROOT = Path(__file__).resolve().parent.parent
ACROSS = ROOT / 'results' / 'siim2020_300' / 'across.csv'
LEFT_OUT = {  # source of the card -> the run of its recipe without it, and what that was judged on
    'siim2020-300': ('without_siim2020', 'siim2020'),
    'ham10000': ('without_ham10000', 'ham10000'),
    'isic2018': ('without_isic2018', 'isic2018'),
}
OWN_SITES = dict(ham10000=('HAM10000_metadata.csv', 'localization'))


def options():
    "What the command line asks for."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'results',
        nargs='?',
        default=ROOT / 'results' / 'embedded',
        type=Path,
        help='folder with config.json, oof.csv and metrics.json',
    )
    parser.add_argument('--data', help='source or folder that the images come from')
    parser.add_argument('--artefact', type=Path, help='folder of the exported model, for its card')
    return parser.parse_args()


def sites_of(data):
    "Image -> body site in the source's own words, where its table has finer ones; else None."
    import pandas as pd
    from melanoma_nbdev.core import data_home
    from melanoma_nbdev.data.sources import SOURCES

    if data not in OWN_SITES:
        return None
    file, column = OWN_SITES[data]
    table = pd.read_csv(data_home() / SOURCES[data].folder / file).set_index('image_id')
    return table[column].replace('unknown', pd.NA)


def manifest_of(data, config, sizes=False):
    """The manifest of one or several sources, labels shuffled where the run shuffled them; with
    `sizes`, of images and of what the whole set has of each patient."""
    import numpy as np
    import pandas as pd
    from melanoma_nbdev.data.manifest import load_manifest

    if ',' in data:
        parts = [manifest_of(name, config, sizes=True) for name in data.split(',')]
        return pd.concat(parts, ignore_index=True)
    manifest = load_manifest(data, images=False)
    if sizes:
        counts = manifest['patient_id'].value_counts()
        manifest['patient_images'] = manifest['patient_id'].map(counts)
    else:
        manifest = manifest.drop(columns=['width', 'height'])
    sites = sites_of(data)
    if sites is not None:
        manifest['site_detail'] = manifest['image_id'].map(sites)
    if config.get('shuffle_labels'):
        order = np.random.default_rng(config['seed']).permutation(len(manifest))
        labels = manifest[['target', 'dx']].iloc[order]
        manifest[['target', 'dx']] = labels.to_numpy()
    return manifest


def with_facts_of(folder, data, config):
    "The predictions of a folder of results, with what the source's manifest adds."
    from melanoma_nbdev.core import RunError
    from melanoma_nbdev.evidence.oof import read_oof
    from melanoma_nbdev.report.measures import with_facts

    oof, manifest = read_oof(folder), manifest_of(data, config)
    target_of = dict(zip(manifest['image_id'].map(str), manifest['target'], strict=True))
    differ = sum(
        target_of.get(name) != target
        for name, target in zip(oof['image_id'], oof['target'], strict=True)
    )
    if differ:
        raise RunError(
            f'{differ} images of {folder.name}/oof.csv are not in {data}, or have '
            'another diagnosis there; name the data of the run with --data'
        )
    return with_facts(oof, manifest)


def interval_at(known, name):
    "A figure of across.csv with its bounds."
    columns = dict(value=name, lo=f'{name}_lo', hi=f'{name}_hi')
    return {end: float(known[column]) for end, column in columns.items()}


def left_out_of(sources):
    """What the recipe was worth on each source when it had not seen it: rows with what a threshold
    missed there, most missed melanomas first; and rows of runs whose threshold is not known."""
    import pandas as pd

    table = pd.read_csv(ACROSS).set_index(['run', 'on'])
    judged, ranked = [], []
    for row in sources:
        key = LEFT_OUT.get(row['source'])
        if key is None or key not in table.index: continue
        known = table.loc[key]
        title = (row.get('title') or row['source']).partition(' (')[0]
        figures = dict(source=title, n=int(known['n']), n_melanoma=int(known['n_pos']),
                       auc=interval_at(known, 'auc'), run=key[0])
        if pd.isna(known['sensitivity']):
            ranked.append(figures)
            continue
        at = {name: interval_at(known, name) for name in ('sensitivity', 'specificity')}
        judged.append(figures | at | dict(at=0.95, left_out=True))
    return sorted(judged, key=lambda one: one['sensitivity']['value']), ranked


def renew_card(artefact, results, oof):
    "Operating points, conformal limits and histogram in an artefact's card, and its texts again."
    from melanoma_nbdev.evidence.decisions import decision_card
    from melanoma_nbdev.report.card import write_cards
    from melanoma_nbdev.report.export import group_rows, sources_of, together_of

    path = artefact / 'card.json'
    together, several = together_of(oof)
    decided = decision_card(together)
    names = ('operating_points', 'judged_on', 'conformal', 'histogram')
    views = read_json(results / 'config.json').get('tta', 1)
    judged = {name: decided[name] for name in names} | dict(judged_views=views)
    card = read_json(path)
    if several:
        judged['sources'] = sources_of(oof, decided, card['classes'])
        judged['left_out'], judged['left_out_ranking'] = left_out_of(judged['sources'])
    groups = group_rows(read_json(results / 'metrics.json'))
    judged['metrics'] = card['metrics'] | dict(groups=groups)
    write_card(path, card | judged)
    write_cards(results, artefact)


def write_figures(path, oof, before):
    "All figures of one source; entries that a table alone cannot give are taken over."
    from melanoma_nbdev.report.evaluation import evaluate, text_table

    seeds = dict(n_boot=before['n_boot'], seed=before['seed'])
    figures = evaluate(oof, **seeds, progress=True)[0]
    kept = {name: before[name] for name in ('optimism', 'other_sources') if name in before}
    figures |= kept
    write_json(path, {name: figures[name] for name in [*before, *figures] if name in figures})
    print(path.name, text_table(figures), sep='\n')


def main():
    "Write metrics.json and what stands beside it; print their tables."
    from melanoma_nbdev.report.measures import main_rows

    given = options()
    path = given.results / 'metrics.json'
    before = read_json(path)
    config = read_json(given.results / 'config.json')
    data = given.data or config['data']
    oof = with_facts_of(given.results, data, config)
    own, others = main_rows(oof, data)
    write_figures(path, own, before)
    seeds = dict(n_boot=before['n_boot'], seed=before['seed'])
    for source in others:
        rows = oof[oof['source'] == source].reset_index(drop=True)
        write_figures(given.results / f'metrics_{source}.json', rows, seeds)
    if given.artefact:
        renew_card(given.artefact, given.results, oof)


if __name__ == '__main__':
    main()
