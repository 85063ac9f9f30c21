#!/usr/bin/env python3
"""Does the page keep its word on real images? Every answer, at every threshold and place.

    MELANOMA_DATA=... python scripts/page_answers.py
    python scripts/page_answers.py --sources phantom --n 6 --turned 2 --dest try.json

Images of each source at random are answered by the model in the package. Counted are answers whose
headline lies outside of its interval, as computed and as printed, and images above the threshold
for 95% sensitivity that are shown as lying under it. Some are turned and mirrored in all eight
ways: the largest difference of the risk, in points, is written. Writes page/answers.json."""
import numpy as np
from common import RESULTS, machine, parser_of

from melanoma_nbdev.bedside.risk import cohorts, decide, operating_points, percent, risk_of
from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.core import write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.images import open_image

SIZES = dict(ham10000=600, siim2020=500)
"Images of each source that are answered"


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--sources', nargs='+', default=list(SIZES), help='sources or folders')
    parser.add_argument('--n', type=int, help='images of each (600 of HAM10000, 500 of SIIM-ISIC)')
    parser.add_argument('--turned', type=int, default=40, help='of these, turned in all ways')
    parser.add_argument('--seed', type=int, default=0, help='which images')
    parser.add_argument('--dest', default=RESULTS/'page'/'answers.json', help='file to write')
    return parser.parse_args()


def places_of(card):
    "The shares of melanomas that a reader may choose: the study, cohorts, and some of their own."
    return [None, *cohorts(card), .001, .05, .5]


def is_inside(card, score):
    "Whether the headline lies in its interval at each place, as computed and as printed."
    for place in places_of(card):
        risk = risk_of(card, score, place)
        if not risk.low <= risk.value <= risk.high: return False
        low, value, high = (float(percent(part, '')) for part in (risk.low, risk.value, risk.high))
        if not low <= value <= high: return False
    return True


def is_calming(card, score):
    "Whether a score above the threshold for 95% sensitivity is shown as lying under one."
    points = operating_points(card)
    if score < points[.95]['threshold']: return False
    return any(decide(card, score, wanted).level == 'below' for wanted in points)


def turned(picture):
    "The picture in all eight ways."
    for quarter in range(4):
        once = picture.rotate(90*quarter, expand=True)
        yield once
        yield once.transpose(0)  # left and right


def largest_turn(predictor, picture):
    "How far apart the risks of the eight are, in points; 0 where the picture is refused."
    found = [predictor.predict([one])[0]['p_melanoma'] for one in turned(picture)]
    if None in found: return 0.
    risks = [risk_of(predictor.card, score).value for score in found]
    return 100*(max(risks) - min(risks))


def row_of(predictor, source, given):
    "One source: how many answers break a promise."
    rows = load_manifest(source, missing='drop')
    n = min(len(rows), given.n or SIZES.get(source, 500))
    paths = rows.sample(n, random_state=given.seed).path.tolist()
    scores = [one['p_melanoma'] for one in predictor.predict(paths)]
    known = [score for score in scores if score is not None]
    turns = [largest_turn(predictor, open_image(path)) for path in paths[:given.turned]]
    return dict(n=n, answered=len(known),
                outside=sum(not is_inside(predictor.card, score) for score in known),
                above=sum(score >= operating_points(predictor.card)[.95]['threshold']
                          for score in known),
                calming=sum(is_calming(predictor.card, score) for score in known),
                turned=len(turns), largest_turn_points=float(np.max(turns, initial=0)))


def main():
    "Answer the images of each source and write what was counted."
    given = options()
    predictor = load_artefact()
    found = {source: row_of(predictor, source, given) for source in given.sources}
    for source, row in found.items(): print(source, row, flush=True)
    write_json(given.dest, dict(sources=found, seed=given.seed, sha256=predictor.card['sha256'],
                                machine=machine('numpy', 'onnxruntime')))


if __name__ == '__main__':
    main()
