#!/usr/bin/env python3
"""The risks that the model in the package gives the embedded examples, for a test to hold.

    python scripts/pin_answers.py

Writes results/embedded/examples.json. Run it after the model in the package was exchanged."""
from common import RESULTS, ROOT, machine
from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.core import write_json


def main():
    "Ask, and write."
    paths = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
    predictor = load_artefact()
    answers = predictor.predict(paths)
    risks = {path.name: round(answer['p_melanoma'], 6)
             for path, answer in zip(paths, answers, strict=True)}
    write_json(RESULTS/'embedded'/'examples.json', dict(
        sha256=predictor.card['sha256'], symmetries=predictor.views, risks=risks,
        machine=machine('Pillow', 'onnxruntime')))


if __name__ == '__main__':
    main()
