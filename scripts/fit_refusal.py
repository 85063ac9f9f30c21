#!/usr/bin/env python3
"""The distance from dermoscopy, its limit, and limits of quality, put into an artefact.

    MELANOMA_DATA=... python scripts/fit_refusal.py melanoma_nbdev/weights
    MELANOMA_DATA=... python scripts/fit_refusal.py ARTEFACT --run runs/joint --drawn data/drawn

With --run the limit is chosen out of fold: the network of each fold gets a distance that is fitted
to its training images, and is asked for its held-out ones. Without, the one network is taken: the
distance is fitted to one half of the groups of each source, and the limit is chosen on the other.
Sources that the network was trained on are then no new images to it, and the card says so.

With --drawn, drawn lesions that the network was trained on count as familiar, too; the limit is not
chosen on them.

The limit is chosen on distances of one view; of some images the mean over eight views, which is
what an answer goes by, is held against it. Then non-lesions that took no part in it are shown to
the finished artefact: photographs of other things and what `non_lesions.py` draws. Each source is
left out once, from fit and limit. What was computed is kept in --work, so that a stopped run goes
on. Writes model.onnx, card.json and its texts, and results/refusal/NAME.json, NAME_kinds.csv and
NAME_sources.csv."""
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, machine, parser_of
from melanoma_nbdev.bedside.inference import Predictor
from melanoma_nbdev.bedside.refusal import NOT_DERMOSCOPY
from melanoma_nbdev.core import (
    atomic_path, data_home, package_dir, read_json, sha256, write_card, write_csv, write_json)
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.evidence.proportions import wilson
from melanoma_nbdev.images import open_image
from melanoma_nbdev.report.distance import (
    distances, refusal_limit, with_distance, without_distance)
from melanoma_nbdev.report.limits import (
    AUXILIARY, DISTANCE_METHOD, OUT_OF_FOLD, SHARE, familiar_inputs, fit_to_sources, means_of,
    plain_inputs, quality_limits, refused_share, strange_pictures)
from non_lesions import non_lesions


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('artefact', type=Path, help='folder with model.onnx and card.json')
    parser.add_argument('--run', type=Path, help='its run folder, for a limit out of fold')
    parser.add_argument('--sources', default='ham10000,isic2018,siim2020',
                        help='sources of dermoscopic images')
    parser.add_argument('--drawn', help='folder of drawn lesions that the network was trained on')
    parser.add_argument('--n', type=int, default=2500, help='images of each source, at most')
    parser.add_argument('--n_decoys', type=int, default=1200, help='drawn pictures to fit to')
    parser.add_argument('--n_turned', type=int, default=150,
                        help='held-out images of each source that are turned eight ways as well')
    parser.add_argument('--n_skin', type=int, default=150,
                        help='drawn skin without a lesion to fit to, of other seeds than is shown')
    parser.add_argument('--k', type=int, default=400, help='principal components')
    parser.add_argument('--per_kind', type=int, default=48, help='non-lesions of each kind')
    parser.add_argument('--seed', type=int, default=51)
    parser.add_argument('--work', type=Path, default=Path('runs/refusal'), help='kept results')
    parser.add_argument('--name', default='embedded', help='of the files of results')
    parser.add_argument('--dest', type=Path, default=RESULTS/'refusal')
    parser.add_argument('--texts', type=Path, help='folder of results, to write the card anew')
    return parser.parse_args()


# ---- pictures

def images_of(name, given):
    "The images of a source that are used, with `half` (0 or 1) and, of a run, its `fold`."
    manifest = load_manifest(name)
    manifest['source'] = name
    if given.run:
        rows = pd.read_csv(given.run/'manifest.csv', dtype=dict(image_id=str))
        manifest = manifest.merge(rows[['image_id', 'fold']], on='image_id')
    own = manifest['patient_id'].fillna(manifest['lesion_id']).fillna(manifest['image_id'])
    manifest['half'] = pd.factorize(own.astype(str))[0] % 2
    n = min(given.n, len(manifest))
    return manifest.sample(n, random_state=given.seed).reset_index(drop=True)


def drawn_lesions(given):
    "The drawn lesions, which are fitted to in every fold and half, and judged in none."
    return load_manifest(given.drawn).assign(source=AUXILIARY, fold=-1, half=0)


def sharp_pictures(n, seed):
    "Large dermoscopic pictures, for corners: the 512-pixel copy of SIIM-ISIC 2020, if it is there."
    root = data_home()/'siim-isic-2020'
    rows = load_manifest('siim2020', root=root, missing='drop').sample(n, random_state=seed)
    return [open_image(path) for path in rows.path]


def drawn_inputs(rows, card, given):
    "Inputs for the decoys, which are made of some of the images as well."
    rows = rows[rows.source != AUXILIARY]
    few = rows.sample(min(400, len(rows)), random_state=given.seed)
    large = sharp_pictures(150, given.seed)
    made = strange_pictures(few.path, given.n_decoys, given.n_skin, given.seed, large)
    return plain_inputs(made, card)


# ---- means of stages and distances

def kept(path, make):
    "An array, from the file where it was computed before."
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        values = make()
        with atomic_path(path) as file, file.open('wb') as out: np.save(out, values)
        print(path.name, len(values), flush=True)
    return np.load(path)


def familiar_means(content, tag, rows, card, given):
    "Source -> means of its images that the distance is fitted to."
    found = {}
    for name, own in rows.groupby('source'):
        shown = familiar_inputs(own.path, card, given.seed)
        found[name] = kept(given.work/f'{tag}_{name}_fit.npy',
                           lambda shown=shown: means_of(content, shown))
    return found


def over_views(content, card, rows, work, tag):
    "Distances of images, averaged over the eight symmetries."
    bare = {key: value for key, value in card.items() if key != 'ood'} | dict(
        sha256=sha256(content))
    predictor = Predictor(content, bare, threads=1)
    return kept(work/f'{tag}.npy', lambda: np.array(
        [predictor.distance(open_image(path)) for path in rows.path]))


# ---- one network, or the networks of the folds

def networks(given, content, rows):
    "Yield (tag, network, rows to fit to, rows that are held out)."
    if not given.run:
        tag = sha256(content)[:8]
        yield tag, content, rows[rows.half == 0], rows[rows.half == 1]
        return
    from melanoma_nbdev.report.network_file import onnx_bytes
    from melanoma_nbdev.training.models import load_model

    for fold in sorted(fold for fold in rows.fold.unique() if fold >= 0):
        model, config = load_model(given.run, int(fold))
        network = onnx_bytes(model, config['size'])
        yield sha256(network)[:8], network, rows[rows.fold != fold], rows[rows.fold == fold]


def judged(given, card, content, rows):
    "Held-out images with their distance and, with their source left out of the fit, `without`."
    parts = []
    for tag, network, inside, outside in networks(given, content, rows):
        familiar = familiar_means(network, tag, inside, card, given)
        strange = kept(given.work/f'{tag}_decoys{given.n_skin}.npy',
                       lambda inside=inside, network=network:
                       means_of(network, drawn_inputs(inside, card, given)))
        fit = fit_to_sources(familiar, strange, given.k, given.seed)
        plain = kept(given.work/f'{tag}_held.npy', lambda network=network, outside=outside:
                     means_of(network, plain_inputs(outside.path, card)))
        part = outside.assign(distance=distances(fit, plain))
        some = part.groupby('source').head(given.n_turned)
        part.loc[some.index, 'averaged'] = over_views(
            with_distance(network, fit), card, some, given.work,
            f'{tag}_k{given.k}_{given.n_skin}{"_drawn" if given.drawn else ""}_averaged')
        for name in familiar.keys() - {AUXILIARY}:
            others = {other: means for other, means in familiar.items() if other != name}
            if others.keys() - {AUXILIARY}: part[f'without_{name}'] = distances(
                fit_to_sources(others, strange, given.k, given.seed), plain)
        parts.append(part)
    return pd.concat(parts, ignore_index=True), fit, tag


# ---- what is written

def source_rows(held, limit):
    "A row a source: refused at the limit; and with the source left out of fit and limit."
    rows = []
    for name, own in held.groupby('source'):
        row = dict(source=name, **refused_share(own.distance > limit))
        turned = own.averaged.dropna() > limit
        row |= dict(averaged_n=len(turned), averaged_refused=int(turned.sum()))
        if f'without_{name}' in held:
            column = f'without_{name}'
            rest = {other: part[column].to_numpy() for other, part in held.groupby('source')
                    if other != name}
            left_out = refused_share(own[column] > refusal_limit(rest, SHARE))
            row |= {f'left_out_{key}': left_out[key] for key in ('refused', 'share', 'lo', 'hi')}
        rows.append(row)
    return pd.DataFrame(rows)


def shown(predictor, given):
    "A row a kind: how many of it get no answer."
    photos = sorted((data_home()/'out-of-domain').glob('*.jpg'))
    kinds = dict(photographs=[open_image(path) for path in photos])
    for kind, picture in non_lesions(given.per_kind, given.seed):
        kinds.setdefault(kind, []).append(picture)
    examples = sorted((package_dir()/'examples'/'jpeg'/'train').glob('*.jpg'))
    kinds['phantom lesions'] = [open_image(path) for path in examples]
    rows = []
    for kind, pictures in kinds.items():
        reasons = [predictor.predict([one])[0]['error'] for one in pictures]
        by_distance = sum(reason == NOT_DERMOSCOPY for reason in reasons)
        rows.append(dict(kind=kind, **refused_share([reason is not None for reason in reasons]),
                         by_distance=by_distance))
    drawn = [row for row in rows if row['kind'] != 'phantom lesions']
    n, count = sum(row['n'] for row in drawn), sum(row['refused'] for row in drawn)
    lo, hi = wilson(count, n)
    rows.append(dict(kind='all non-lesions', n=n, refused=count, share=count/n, lo=float(lo),
                     hi=float(hi), by_distance=sum(row['by_distance'] for row in drawn)))
    return pd.DataFrame(rows)


IN_SAMPLE = ('the one network, on the half of the groups that the distance was not fitted to; not '
             'out of fold: the network was trained on images of its own sources')


def card_of(given, card, held, limit):
    "What the card says of refusal, before anything was shown."
    quality, structure = quality_limits(held, card)
    return dict(method=DISTANCE_METHOD, output='distance', limit=limit, share=SHARE,
                limit_chosen_on=OUT_OF_FOLD if given.run else IN_SAMPLE, components=given.k,
                n_skin=given.n_skin, drawn=given.drawn is not None, seed=given.seed, views=1,
                quality=quality, structure=structure, quality_share=.005)


def write(given, network, card, kinds, sources):
    "The artefact with its texts, and the files of results."
    with atomic_path(given.artefact/'model.onnx') as file: file.write_bytes(network)
    write_card(given.artefact/'card.json', card)
    write_csv(given.dest/f'{given.name}_kinds.csv', kinds)
    write_csv(given.dest/f'{given.name}_sources.csv', sources)
    write_json(given.dest/f'{given.name}.json', card['ood'] | dict(
        sha256=card['sha256'], machine=machine('numpy', 'onnxruntime', 'scikit-learn')))
    if given.texts:
        from melanoma_nbdev.report.card import write_cards

        write_cards(given.texts, given.artefact)


def main():
    "Fit, judge, write."
    given = options()
    card = read_json(given.artefact/'card.json')
    content = without_distance((given.artefact/'model.onnx').read_bytes())
    rows = pd.concat([images_of(name, given) for name in given.sources.split(',')],
                     ignore_index=True)
    if given.drawn: rows = pd.concat([rows, drawn_lesions(given)], ignore_index=True)
    held, fit, tag = judged(given, card, content, rows)
    if given.run:
        tag = sha256(content)[:8]
        familiar = familiar_means(content, tag, rows, card, given)
        strange = kept(given.work/f'{tag}_decoys{given.n_skin}.npy',
                       lambda: means_of(content, drawn_inputs(rows, card, given)))
        fit = fit_to_sources(familiar, strange, given.k, given.seed)
    by_source = {name: own.distance.to_numpy() for name, own in held.groupby('source')}
    limit = refusal_limit(by_source, SHARE)
    network = with_distance(content, fit)
    card |= dict(ood=card_of(given, card, held, limit), sha256=sha256(network))
    kinds, sources = shown(Predictor(network, card, threads=1), given), source_rows(held, limit)
    card['ood'] |= dict(dermoscopy=sources.to_dict('records'), shown=kinds.to_dict('records'))
    write(given, network, card, kinds, sources)
    print(sources.round(4).to_string(), kinds.round(3).to_string(), sep='\n')


if __name__ == '__main__':
    main()
