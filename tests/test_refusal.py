"Refusal as people meet it: the command, a picture held eight ways, artefacts old and mixed up."
import csv
import shutil
import subprocess

import numpy as np
import pytest
from conftest import BIN, ROOT
from PIL import Image, ImageDraw

from melanoma_nbdev.bedside.inference import Predictor, load_artefact
from melanoma_nbdev.bedside.refusal import NO_STRUCTURE, NOT_DERMOSCOPY
from melanoma_nbdev.core import ArtefactError, read_json, sha256
from melanoma_nbdev.report.distance import without_distance

WEIGHTS = ROOT/'melanoma_nbdev/weights'
PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))


def noise():
    "White noise."
    values = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    return Image.fromarray(values)


def page_of_text():
    "Dark words on paper."
    image = Image.new('RGB', (220, 220), (250, 248, 240))
    pen = ImageDraw.Draw(image)
    for top in range(5, 215, 14): pen.text((8, top), 'dear doctor, the spot', fill=(20, 20, 30))
    return image


STRANGE = {'noise.png': noise(), 'page.png': page_of_text(),
           'flat.png': Image.new('RGB', (160, 160), (180, 120, 90))}


@pytest.fixture(scope='module')
def predictor():
    return load_artefact()


def test_the_command_refuses(tmp_path):
    "Reason in `error`, no figure, how many were refused; lesions are answered."
    for name, picture in STRANGE.items(): picture.save(tmp_path/name)
    shutil.copy(PHANTOMS[0], tmp_path/'lesion.jpg')
    (tmp_path/'letter.txt').write_text('dear doctor')
    done = subprocess.run([BIN/'melanoma_predict', '.', '--out', 'risks.csv'], cwd=tmp_path,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert '1 of 5 files answered, 4 not (3 read and refused)' in done.stdout, done
    with open(tmp_path/'risks.csv', encoding='utf-8', newline='') as file:
        rows = {row['file']: row for row in csv.DictReader(file)}
    assert rows['lesion.jpg']['p_melanoma'] and not rows['lesion.jpg']['error']
    for name in STRANGE:
        assert rows[name]['error'] in (NOT_DERMOSCOPY, NO_STRUCTURE), rows[name]
        assert not any(value for key, value in rows[name].items() if key.startswith('p_'))


def test_examples_are_answered(predictor):
    "No example of the page is refused."
    errors = [answer['error'] for answer in predictor.predict(PHANTOMS[:60])]
    assert not any(errors)


@pytest.mark.parametrize('name', [*STRANGE, 'lesion'])
def test_turned_pictures(predictor, name):
    "Eight ways to hold a picture, one distance and one verdict."
    picture = STRANGE.get(name) or Image.open(PHANTOMS[1]).convert('RGB').resize((301, 207))
    ways = [picture, *(picture.transpose(way) for way in Image.Transpose)]
    found = [predictor.distance(one) for one in ways]
    assert np.ptp(found) < 1e-3*max(1, abs(found[0]))
    assert len({answer['error'] for answer in predictor.predict(ways)}) == 1


def test_an_older_artefact(predictor):
    "Without a distance everything is answered; a limit without a distance is no artefact."
    content = without_distance((WEIGHTS/'model.onnx').read_bytes())
    card = read_json(WEIGHTS/'card.json') | dict(sha256=sha256(content))
    older = Predictor(content, card | dict(ood={}))
    assert older.distance(noise()) is None
    assert older.predict(noise())['p_melanoma'] is not None
    lesion = PHANTOMS[0]
    same = older.predict(lesion)['p_melanoma'] - predictor.predict(lesion)['p_melanoma']
    assert abs(same) < 1e-6
    with pytest.raises(ArtefactError, match='gives no distance'): Predictor(content, card)
