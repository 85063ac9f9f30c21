#!/usr/bin/env python3
"""Disturbances, and maps, on the model in the package.

    python scripts/disturb.py answers phantom
    MELANOMA_DATA=... python scripts/disturb.py answers ham10000
    python scripts/disturb.py maps

`answers` disturbs pictures of different lesions in eight ways, each beside noise of equal size, and
counts answers that cross an operating point of the card: of the network alone, and of those that
the refusal lets through. `maps` draws phantom lesions whose outline is known, and asks whether
the model's map lies on them more than on those of the other pictures, and whether it stays the same
when weights are shuffled: those of the head, or all of them.

The model in the package was trained on HAM10000, on these very pictures: on new ones more may
cross. Writes disturbances_<set>.csv, maps.csv and disturbances.json."""
from collections import namedtuple
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from common import RESULTS, options_in_words, parser_of
from melanoma_nbdev.bedside.inference import Predictor, load_artefact
from melanoma_nbdev.core import package_dir, read_json, sha256, write_csv, write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.evidence.disturbances import (
    correlation_after, crossing_table, lesion_with_mask, overlap_against_chance)
from melanoma_nbdev.images import open_image, square
from melanoma_nbdev.phantom.dataset import draw_row, phantom_table

Pictures = namedtuple('Pictures', 'images is_melanoma')


# ---- pictures

def phantom_pictures(n, size=160, seed=39):
    "Pictures of n phantom lesions of n patients, a quarter melanomas."
    table = phantom_table(n, n, size, .25, seed)
    images = [square(draw_row(row, seed, size)[0], size) for row in table.itertuples()]
    return Pictures(images, table.target.to_numpy())


def ham_pictures(n, seed=39):
    "The centred squares of n HAM10000 images of different lesions, a third of them melanomas."
    manifest = load_manifest('ham10000').sample(frac=1, random_state=seed)
    manifest = manifest.drop_duplicates('lesion_id')
    parts = [manifest[manifest.target == label] for label in (1, 0)]
    rows = pd.concat([parts[0].head(n//3), parts[1].head(n - n//3)])
    images = [open_image(path) for path in rows.path]
    images = [square(image, min(image.size)) for image in images]
    return Pictures(images, rows.target.to_numpy(dtype=int))


# ---- answers

def network():
    "The model in the package as it answers whatever it is shown, without its refusal."
    predictor = load_artefact()
    predictor.card = predictor.card | dict(ood={})
    return predictor


class Watched:
    "The callable that the evidence takes, pictures -> P(melanoma); keeps what would be refused."

    def __init__(self):
        self.network, self.guarded, self.calls = network(), load_artefact(), []

    def __call__(self, images):
        scores = [answer['p_melanoma'] for answer in self.network.predict(list(images))]
        errors = [answer['error'] for answer in self.guarded.predict(list(images))]
        self.calls.append((np.array(scores), np.array([error is not None for error in errors])))
        return self.calls[-1][0]

    def refusals(self, threshold):
        """A row a row of the evidence's table: the share that is refused and, of the pictures that
        were above the threshold and are answered, how many fell below it."""
        (before, _), rows = self.calls[0], []
        for scores, refused in self.calls[1:]:
            answered = (before >= threshold) & ~refused
            fell = int((scores[answered] < threshold).sum())
            rows.append(dict(refused=refused.mean(), answered_above=answered.sum(), fell=fell))
        return pd.DataFrame(rows)


def operating_point(card, sensitivity):
    "The threshold of the card that promises a sensitivity."
    for point in card['operating_points']:
        if point['target'] == dict(sensitivity=sensitivity) and point['confidence']:
            return point['threshold']
    raise SystemExit(f'the card has no operating point with sensitivity {sensitivity}')


def answers(given):
    "Write what crosses the operating point on one set of pictures."
    watched = Watched()
    pictures = dict(phantom=phantom_pictures, ham10000=ham_pictures)[given.set](given.n)
    threshold = operating_point(watched.network.card, given.sensitivity)
    table = crossing_table(watched, pictures.images, threshold, seed=given.seed)
    table = pd.concat([table, watched.refusals(threshold)], axis=1)
    write_csv(given.dest/f'disturbances_{given.set}.csv', table)
    print(table.round(3).to_string(index=False))
    return dict(threshold=threshold, sensitivity=given.sensitivity, n=len(pictures.images),
                n_pos=int(pictures.is_melanoma.sum()))


# ---- maps

def shuffled(predictor, names, seed):
    "The same network, the numbers within each named weight in another order."
    model, rng = onnx.load(str(package_dir()/'weights'/'model.onnx')), np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        if tensor.name in names:
            values = onnx.numpy_helper.to_array(tensor)
            mixed = rng.permutation(values.ravel()).reshape(values.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(mixed, tensor.name))
    content = model.SerializeToString()
    return Predictor(content, predictor.card | dict(sha256=sha256(content)))


def maps_of(predictor, images):
    "The model's maps of melanoma, (n, h, w)."
    return np.stack([answer['cam'] for answer in predictor.predict(images)])


def weights_by_part():
    "Part of the network -> names of its weights, from the head down."
    model = onnx.load(str(package_dir()/'weights'/'model.onnx'))
    names = [tensor.name for tensor in model.graph.initializer if tensor.name.startswith('model.')]
    head = {name for name in names if name.startswith('model.head')}
    last = head | {name for name in names if '.blocks.6.' in name or 'conv_head' in name}
    return dict(head=head, head_and_last_block=last, all=set(names))


def maps(given):
    "Write whether maps lie on the lesion, and whether they depend on the weights."
    predictor = network()
    drawn = [lesion_with_mask(given.z, 128, seed) for seed in range(given.n)]
    images, masks = [image for image, _ in drawn], [mask for _, mask in drawn]
    small = [mask[::2, ::2] for mask in masks]
    trained = maps_of(predictor, images)
    found = {'trained': overlap_against_chance(trained, small, seed=given.seed)}
    for part, names in weights_by_part().items():
        other = maps_of(shuffled(predictor, names, given.seed), images)
        found[f'{part} shuffled'] = (overlap_against_chance(other, small, seed=given.seed)
                                     | correlation_after(trained, other, seed=given.seed))
    rows = [dict(weights=weights, measure=measure, **interval, n=interval.images)
            for weights, measures in found.items() for measure, interval in measures.items()]
    write_csv(given.dest/'maps.csv', pd.DataFrame(rows))
    print(pd.DataFrame(rows).round(3).to_string(index=False))
    return dict(n=given.n, z=given.z, map=list(trained.shape[1:]))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('command', choices=('answers', 'maps'))
    parser.add_argument('set', nargs='?', choices=('phantom', 'ham10000'), default='phantom')
    parser.add_argument('--n', type=int, default=None, help='pictures')
    parser.add_argument('--sensitivity', type=float, default=.9, help='of the operating point')
    parser.add_argument('--z', type=float, default=1., help='malignancy of the lesions for maps')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--dest', type=Path, default=RESULTS/'evidence', help='for results')
    return parser.parse_args()


def main():
    given = options()
    given.n = given.n or (100 if given.command == 'maps' else 300)
    given.dest.mkdir(parents=True, exist_ok=True)
    said = dict(answers=answers, maps=maps)[given.command](given)
    name = given.set if given.command == 'answers' else 'maps'
    record = given.dest/'disturbances.json'
    words = f'{given.command} {given.set if given.command == "answers" else ""}'.strip()
    command = f"scripts/disturb.py {words} {options_in_words(given, ('n', 'seed'))}"
    card = load_artefact().card
    said |= dict(command=command, model=card['name'], sha256=card['sha256'])
    write_json(record, (read_json(record) if record.exists() else {}) | {name: said})


if __name__ == '__main__': main()
