#!/usr/bin/env python3
"""What the cache changes in a picture, and in what the package's model says of it.

    python scripts/draft_decoding.py --root data/siim-isic-2020    # MELANOMA_DATA set

Writes results/pipeline/draft.json. The cache lets the JPEG decoder give a half, a quarter or an
eighth of a large picture, never less than twice the size that is stored, and stores JPEG at quality
95. In use, pictures are decoded in full. Each file becomes the network's input in full, drafted as
the cache does, stored as the cache does, and both. Files of less than four times the size are not
drafted; the record tells how many were."""
import io

import numpy as np
import pandas as pd
from common import RESULTS, machine, parser_of
from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.core import sha256, write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.images import open_image, square, to_input
from PIL import Image


def stored(picture):
    "The picture after the cache's JPEG."
    file = io.BytesIO()
    picture.save(file, 'JPEG', quality=95, subsampling=0)
    return Image.open(file).convert('RGB')


def four_ways(path, size):
    "The square of a file: in full, drafted, stored, and both; and whether the draft was smaller."
    whole, draft = open_image(path), open_image(path, shrink_to=2*size)
    full, drafted = square(whole, size), square(draft, size)
    ways = dict(full=full, draft=drafted, stored=stored(full), both=stored(drafted))
    return ways, draft.size != whole.size


def log_odds(predictor, picture):
    "The model's log odds of melanoma against the other classes."
    card = predictor.card
    array = to_input(picture, card['mean'], card['std'])[None]
    logits = predictor.session.run(['logits'], dict(image=array))[0][0].astype(float)
    melanoma = card['classes'].index('MEL')
    others = np.delete(logits, melanoma)
    return logits[melanoma] - np.logaddexp.reduce(others)


def one_row(predictor, row):
    "Log odds each way, and the mean difference of pixels from the full one, in levels of 255."
    ways, smaller = four_ways(row.path, predictor.card['size'])
    full = np.asarray(ways['full'], int)
    found = dict(target=row.target, drafted=smaller, side=min(open_image(row.path).size))
    for way, picture in ways.items():
        found[way] = log_odds(predictor, picture)
        found[f'{way}_levels'] = np.abs(np.asarray(picture, int) - full).mean()
    return found


def summary(table, way):
    "How far one way of reading is from the full one."
    gap = (table[way] - table['full']).abs()
    return dict(
        mean_levels=table[f'{way}_levels'].mean(), median=gap.median(), q95=gap.quantile(.95),
        most=gap.max(), ranks=table[way].corr(table['full'], method='spearman'))


def options():
    "The command line."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='siim2020', help='a source or a folder (siim2020)')
    parser.add_argument('--root', help='its folder, where several are there')
    parser.add_argument('--n', type=int, default=300, help='images (300)')
    parser.add_argument('--seed', type=int, default=0, help='which images (0)')
    parser.add_argument('--out', default=RESULTS/'pipeline'/'draft.json', help='the file to write')
    return parser.parse_args()


def main():
    "Read, ask, compare, write."
    given, predictor = options(), load_artefact()
    manifest = load_manifest(given.data, given.root, missing='drop')
    rows = manifest.sample(min(given.n, len(manifest)), random_state=given.seed)
    table = pd.DataFrame([one_row(predictor, row) for row in rows.itertuples()])
    record = dict(
        data=str(given.data), n=len(table), melanomas=int(table['target'].sum()),
        seed=given.seed, size=predictor.card['size'], drafted=int(table['drafted'].sum()),
        shorter_side=float(table['side'].median()), spread=table['full'].std(),
        **{way: summary(table, way) for way in ('draft', 'stored', 'both')},
        images_sha256=sha256(rows[['image_id']].reset_index(drop=True)),
        machine=machine('pillow', 'onnxruntime'))
    write_json(given.out, record)
    for way in ('draft', 'stored', 'both'):
        print(way, {name: round(float(value), 4) for name, value in record[way].items()})


if __name__ == '__main__':
    main()
