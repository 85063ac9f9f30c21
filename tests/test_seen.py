"Training images as people meet them: the command, a copy, an artefact that brings no fingerprints."
import csv
import shutil
import subprocess

import pytest
from conftest import BIN, ROOT
from PIL import Image
from test_app import learnt  # noqa: F401 (fixture)

from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.report.seen import TRAINED_ON
from melanoma_nbdev.core import read_json, write_card

WEIGHTS = ROOT/'melanoma_nbdev/weights'
PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))


def test_the_command_says_it(learnt, tmp_path):  # noqa: F811
    "A training image and a smaller, turned copy have their remark; another one and no image none."
    shutil.copy(learnt, tmp_path/'known.jpg')
    shutil.copy(PHANTOMS[0], tmp_path/'new.jpg')
    picture = Image.open(learnt)
    sides = picture.width//2, picture.height//2
    picture.resize(sides).transpose(Image.Transpose.ROTATE_90).save(tmp_path/'copy.jpg', quality=75)
    (tmp_path/'letter.txt').write_text('dear doctor')
    subprocess.run([BIN/'melanoma_predict', '.', '--out', 'risks.csv'], cwd=tmp_path,
                   capture_output=True, timeout=300, check=False)
    with open(tmp_path/'risks.csv', encoding='utf-8', newline='') as file:
        rows = {row['file']: row for row in csv.DictReader(file)}
    found = {name: rows[name]['trained_on'] for name in sorted(rows)}
    assert found == {'copy.jpg': 'True', 'known.jpg': 'True', 'letter.txt': '', 'new.jpg': 'False'}
    said = {name for name, row in rows.items() if TRAINED_ON in row['warning']}
    assert said == {'copy.jpg', 'known.jpg'} and all(rows[name]['p_melanoma'] for name in said)


def test_no_example_was_trained_on():
    "Each embedded example is new to the model."
    answers = load_artefact().predict(PHANTOMS)
    assert not any(answer['trained_on'] for answer in answers)


@pytest.mark.parametrize('leftover', [False, True])
def test_an_older_artefact(learnt, tmp_path, leftover):  # noqa: F811
    "A card that names no fingerprints: nobody can tell, whatever lies beside it."
    for name in ('model.onnx', 'card.json'): shutil.copy(WEIGHTS/name, tmp_path)
    if leftover: shutil.copy(WEIGHTS/'seen.bin', tmp_path)
    card = read_json(WEIGHTS/'card.json')
    write_card(tmp_path/'card.json', {name: card[name] for name in card if name != 'seen'})
    answer = load_artefact(tmp_path).predict(learnt)
    assert answer['trained_on'] is None and TRAINED_ON not in answer['warnings']
