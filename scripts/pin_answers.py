#!/usr/bin/env python3
"""What the model in the package answers to the embedded examples, for a test to hold: a risk each,
or null where it gives none.

    python scripts/pin_answers.py

Writes results/embedded/examples.json. Run it after the model in the package was exchanged."""
from pathlib import Path

from common import RESULTS, ROOT, machine, parser_of
from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.core import write_json


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--dest', type=Path, default=RESULTS/'embedded'/'examples.json',
                        help='file that is written')
    return parser.parse_args()


def main():
    "Ask, and write."
    given = options()
    paths = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
    predictor = load_artefact()
    answers = predictor.predict(paths)
    risks = {path.name: None if answer['error'] else round(answer['p_melanoma'], 6)
             for path, answer in zip(paths, answers, strict=True)}
    write_json(given.dest, dict(
        sha256=predictor.card['sha256'], symmetries=predictor.views, risks=risks,
        machine=machine('Pillow', 'onnxruntime')))


if __name__ == '__main__':
    main()
