"""What the package's model does on another source: the copy of SIIM-ISIC 2020 with 300 pixels a
side (MELANOMA_DATA/siim-isic-2020-300), all melanomas and a fair sample of the benign images.
Writes the file that the page's sentence is read from.

    python scripts/elsewhere.py --limit 200"""
import os
from pathlib import Path

import numpy as np
import pandas as pd
from common import parser_of
from PIL import Image

from melanoma_nbdev.bedside.answer import PAGE_FOLDER, operating_points
from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.core import write_json
from melanoma_nbdev.evidence.auc import auc_ci
from melanoma_nbdev.evidence.discrimination import bootstrap_ratio

NAME = 'SIIM-ISIC 2020 at 300 pixels (ids recovered)'


def frame(path, width, height):
    "The picture in the proportions of its original: the copy is squashed to a square."
    picture = Image.open(path).convert('RGB')
    ratio = width/height
    size = (round(300*ratio), 300) if ratio >= 1 else (300, round(300/ratio))
    return picture.resize(size, Image.Resampling.BILINEAR)


def scored(table, folder, predictor, batch=32):
    "`p_melanoma` of each row; NaN where a picture is refused."
    found = []
    for start in range(0, len(table), batch):
        rows = table.iloc[start:start + batch].itertuples()
        pictures = [(frame(folder/f'{row.image_name}.jpg', row.width, row.height), [])
                    for row in rows]
        found += [answer['p_melanoma'] for answer in predictor.run(pictures)]
        print(f'{start + len(pictures)} of {len(table)}', end='\r', flush=True)
    return np.array(found, dtype=float)


def share(chosen, among, patient):
    "The share of some images that were called, with the interval of resampled patients."
    draws = bootstrap_ratio(chosen & among, among, patient, 2000, 0)
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return dict(value=float(chosen[among].mean()), lo=float(low), hi=float(high))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--limit', type=int, default=0, help='this many images, and write nothing')
    return parser.parse_args()


def main():
    limit = options().limit
    home = Path(os.environ['MELANOMA_DATA'])/'siim-isic-2020-300'
    table, predictor = pd.read_csv(home/'train.csv'), load_artefact()
    if limit: table = table.sample(limit, random_state=0)
    scores = scored(table, home/'jpeg'/'train', predictor)
    refused = np.isnan(scores)
    table, scores = table[~refused], scores[~refused]
    patient = pd.factorize(table.patient_id.fillna(table.image_name))[0]
    is_melanoma = table.target.to_numpy()
    called = scores >= operating_points(predictor.card)[.95]['threshold']
    area = auc_ci(is_melanoma, scores, patient)
    source = dict(
        source=NAME, n=len(table), n_melanoma=int(is_melanoma.sum()), groups=int(patient.max() + 1),
        refused=int(refused.sum()),
        auc=dict(value=area.value, lo=area.lo, hi=area.hi),
        sensitivity=share(called, is_melanoma == 1, patient),
        specificity=share(~called, is_melanoma == 0, patient))
    known = dict(sha256=predictor.card['sha256'], command='python scripts/elsewhere.py', seed=0,
                 sources=[source])
    if not limit: write_json(PAGE_FOLDER/'elsewhere.json', known)
    print(source)


if __name__ == '__main__':
    main()
