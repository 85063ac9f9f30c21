"melanoma_predict as people use it: a folder with everything in it, and every exit status."
import csv
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import BIN, ROOT
from PIL import Image

from melanoma_nbdev.bedside.inference import load_artefact
from melanoma_nbdev.core import write_card

WEIGHTS = ROOT/'melanoma_nbdev/weights'
PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
FOLDERS = ('', 'zweiter Besuch', 'a/b', 'сентябрь')
MAX_PEAK = 400  # MB that a process may take to read any file


# ---- helpers

def predict(*args, cwd, said=''):
    "The finished command; `said` is what stands on its stdin."
    command = [BIN/'melanoma_predict', *args]
    return subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True,
                          input=said, timeout=300)


def rows(path):
    "The table as file -> row."
    with open(path, encoding='utf-8', newline='') as file:
        return {row['file']: row for row in csv.DictReader(file)}


def encode(image, kind, **options):
    "The bytes of a picture as a file."
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, body):
    "One chunk of a PNG."
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def png(width, height, body, depth=8, colour=2):
    "A PNG that promises width x height pixels; `body` is its compressed pixels."
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', body)
            + chunk(b'IEND', b''))


def bomb(width, height):
    "A PNG that promises far more pixels than it holds."
    return png(width, height, zlib.compress(b'\0'*9))


def repeated(row, times):
    "The same row of a PNG many times over, compressed without holding them all."
    squeeze = zlib.compressobj(9)
    return b''.join([squeeze.compress(b'\0' + row) for _ in range(times)]) + squeeze.flush()


def sideways():
    "The tag of a camera that was held upright."
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def answered_kinds(path):
    "Name -> bytes of files made of one picture that can be answered."
    image, stored = Image.open(path).convert('RGB'), path.read_bytes()
    grey, turned = image.convert('L'), image.rotate(90)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16)*257)
    floating = Image.fromarray(np.asarray(grey, dtype=np.float32)/255)
    several = dict(save_all=True, append_images=[turned])
    return {
        'good.jpg': stored,
        'grey.png': encode(grey, 'PNG'),
        'rgba.png': encode(image.convert('RGBA').rotate(20), 'PNG'),
        'palette.gif': encode(image.quantize(64), 'GIF'),
        'cmyk.jpg': encode(image.convert('CMYK'), 'JPEG'),
        'deep.png': encode(deep, 'PNG'),
        'deep.tif': encode(deep, 'TIFF'),
        'float.tif': encode(floating, 'TIFF'),
        'side.jpg': encode(image, 'JPEG', exif=sideways()),
        'moving.gif': encode(image, 'GIF', **several),
        'moving.webp': encode(image, 'WEBP', **several),
        'progressive.jpg': encode(image, 'JPEG', progressive=True),
        'png in disguise.jpg': encode(image, 'PNG')}


def refused_kinds(path):
    "Name -> bytes of files that cannot be answered."
    image, stored = Image.open(path).convert('RGB'), path.read_bytes()
    return {
        'flat.bmp': encode(Image.new('RGB', (90, 300), 'red'), 'BMP'),
        'cut.jpg': stored[:len(stored)//2],
        'cut.png': encode(image, 'PNG')[:3000],
        'noise.jpg': np.random.default_rng(0).bytes(5000),
        'bomb.png': bomb(30000, 30000),
        'tiny.png': encode(image.resize((9, 9)), 'PNG'),
        'empty.jpg': b'',
        'words.jpg': 'größer als letztes Jahr'.encode(),
        'phone.heic': b'\0\0\0\x18ftypheic' + bytes(50),
        'letter.pdf': b'%PDF-1.7 and so on',
        'page.jpg': b'<!doctype html><html><body>not found</body></html>',
        'headeronly.jpg': stored[:300]}


def kind_of(name):
    "The kind of a file: its name without folder and number."
    return Path(name).name[2:]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A hundred files, four of each kind, in folders of folders with names from everywhere."
    mixed = tmp_path_factory.mktemp('mixed')
    for number, (name, path) in enumerate(zip(FOLDERS, PHANTOMS[1:], strict=False)):
        place = mixed/name
        place.mkdir(parents=True, exist_ok=True)
        for kind, content in (answered_kinds(path) | refused_kinds(path)).items():
            (place/f'{number} {kind}').write_bytes(content)
    return mixed


# ---- a folder

@pytest.fixture(scope='module')
def hundred(folder, tmp_path_factory):
    "The command on a hundred files, and its table."
    place = tmp_path_factory.mktemp('hundred')
    done = predict(folder, '--out', 'risks.csv', cwd=place)
    return done, rows(place/'risks.csv')


def test_hundred_files(hundred):
    "Every file has a row, and the exit status says that some failed."
    done, table = hundred
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr[-2000:]
    assert len(table) == 100
    assert '52 of 100 files answered, 48 not (4 read and refused)' in done.stdout
    columns = ['file', 'p_melanoma', 'risk', 'risk_lo', 'risk_hi', 'decision', 'not_sure', 'error']
    assert list(next(iter(table.values())))[:8] == columns


def test_risk_or_reason(hundred):
    "A file that can be answered has a risk, another one a reason in words."
    answerable = answered_kinds(PHANTOMS[0])
    for name, row in hundred[1].items():
        expected = kind_of(name) in answerable
        assert (bool(row['p_melanoma']), bool(row['error'])) == (expected, not expected), row
        if not expected:
            assert len(row['error'].split()) > 4, row
            continue
        others = [float(risk) for column, risk in row.items() if re.match('p_[A-Z]', column)]
        assert 0 <= float(row['p_melanoma']) <= 1 and int(row['width'])
        assert abs(sum(others) - 1) < 1e-6, row


@pytest.mark.parametrize('kind, word', [
    ('phone.heic', 'HEIC'), ('empty.jpg', 'empty'), ('words.jpg', 'text'), ('bomb.png', 'pixels'),
    ('cut.jpg', 'cut off'), ('letter.pdf', 'PDF'), ('headeronly.jpg', 'cut off'),
    ('moving.gif', '2 pictures'), ('grey.png', 'grey'), ('rgba.png', 'transparent'),
    ('deep.png', 'scaled'), ('flat.bmp', 'structure')])
def test_what_is_said(hundred, kind, word):
    "The reason or the warning names the fault."
    said = {kind_of(name): row for name, row in hundred[1].items() if '/0 ' in name}
    assert word in said[kind]['error'] + said[kind]['warning'], said[kind]


def test_the_name_does_not_count(hundred):
    "A PNG that is called .jpg gets the answer of the picture in it."
    said = {kind_of(name): row for name, row in hundred[1].items() if '/0 ' in name}
    risks = [float(said[kind]['p_melanoma']) for kind in ('good.jpg', 'png in disguise.jpg')]
    assert abs(risks[0] - risks[1]) < 1e-6


def test_one_answer_among_any_others(folder, tmp_path):
    "A file has the same row alone and among others; the table is the same to the byte."
    visit = folder/'zweiter Besuch'
    for name in ('one', 'again'): predict(visit, '--out', f'{name}.csv', cwd=tmp_path)
    alone = predict(visit/'1 good.jpg', '--out', 'alone.csv', cwd=tmp_path)
    assert alone.returncode == 0
    (name, row), = rows(tmp_path/'alone.csv').items()
    assert rows(tmp_path/'one.csv')[name] == row
    assert (tmp_path/'again.csv').read_bytes() == (tmp_path/'one.csv').read_bytes()


def test_deep_and_print_colours(folder, tmp_path):
    "16 bits get the answer of the same values in 8 bits, CMYK that of its colours in RGB."
    visit = folder/'a/b'
    rgb = Image.open(visit/'2 cmyk.jpg').convert('RGB')
    rgb.save(tmp_path/'rgb.png')
    predict('rgb.png', *(visit/f'2 {kind}' for kind in ('cmyk.jpg', 'grey.png', 'deep.png')),
            cwd=tmp_path)
    as_rgb, cmyk, grey, deep = [row['p_melanoma'] for row in rows(tmp_path/'risks.csv').values()]
    assert (cmyk, deep) == (as_rgb, grey) and as_rgb and grey != as_rgb


def test_large_photo(tmp_path):
    "A photo of 24 megapixels is answered; a turned one as if it had been turned back."
    large = Image.open(PHANTOMS[3]).convert('RGB').resize((6000, 4000))
    large.save(tmp_path/'large.jpg')
    small = large.resize((600, 400))
    small.save(tmp_path/'upright.png')
    small.transpose(Image.Transpose.ROTATE_90).save(tmp_path/'side.png', exif=sideways())
    done = predict('large.jpg', 'upright.png', 'side.png', cwd=tmp_path)
    table = rows(tmp_path/'risks.csv')
    assert done.returncode == 0 and table['large.jpg']['width'] == '6000', done.stderr
    assert table['side.png']['p_melanoma'] == table['upright.png']['p_melanoma']
    assert table['side.png']['width'] == '600'


@pytest.mark.parametrize('size', [(256, 192), (199, 150)])
def test_turned_and_mirrored(tmp_path, size):
    "However a lesion of even or odd size is held, its answer is the same to 0.1 point."
    pixels = np.asarray(Image.open(PHANTOMS[3]).convert('RGB').resize(size))
    for number in range(8):
        mirrored = pixels[:, ::-1] if number >= 4 else pixels
        Image.fromarray(np.rot90(mirrored, number % 4)).save(tmp_path/f'{number}.png')
    predict('.', cwd=tmp_path)
    risks = [float(row['p_melanoma']) for row in rows(tmp_path/'risks.csv').values()]
    assert len(risks) == 8 and max(risks) - min(risks) < 1e-3


# ---- what is named, and the forms of the table

def test_lists_patterns_and_stdin(tmp_path):
    "A CSV, a pattern and stdin name the same files, in their own order; a list keeps its names."
    (tmp_path/'visit').mkdir()
    names = ['b.jpg', 'a.jpg']
    for name, path in zip(names, PHANTOMS, strict=False): shutil.copy(path, tmp_path/'visit'/name)
    (tmp_path/'list.csv').write_text('age,path\n40,visit/b.jpg\n50,visit/a.jpg\n')
    found = {}
    for number, (named, said) in enumerate((
            ('list.csv', ''), ('visit/*.jpg', ''), ('-', 'visit/b.jpg\nvisit/a.jpg\n'))):
        done = predict(named, '--out', f'{number}.csv', cwd=tmp_path, said=said)
        assert done.returncode == 0, done.stderr
        found[named] = {name: row['p_melanoma']
                        for name, row in rows(tmp_path/f'{number}.csv').items()}
    assert list(found['list.csv']) == list(found['-']) == ['visit/b.jpg', 'visit/a.jpg']
    assert list(found['visit/*.jpg']) == ['visit/a.jpg', 'visit/b.jpg']
    assert found['list.csv'] == found['-'] == found['visit/*.jpg']


def test_a_list_without_files(tmp_path):
    "A CSV without a column of files is an error that names its columns."
    (tmp_path/'list.csv').write_text('age,sex\n40,male\n')
    done = predict('list.csv', cwd=tmp_path)
    assert done.returncode == 2 and 'columns age, sex' in done.stderr


@pytest.mark.parametrize('ending', ['jsonl', 'parquet'])
def test_forms_of_the_table(tmp_path, ending):
    "The same answers in another form."
    if ending == 'parquet': pytest.importorskip('pyarrow')
    shutil.copy(PHANTOMS[0], tmp_path/'a.jpg')
    for out in ('risks.csv', f'risks.{ending}'):
        predict('a.jpg', 'gone.jpg', '--out', out, cwd=tmp_path)
    as_csv = pd.read_csv(tmp_path/'risks.csv', keep_default_na=False, na_values=[''])
    path = tmp_path/f'risks.{ending}'
    other = pd.read_json(path, lines=True) if ending == 'jsonl' else pd.read_parquet(path)
    assert list(other) == list(as_csv)
    assert other.p_melanoma[0] == pytest.approx(as_csv.p_melanoma[0], abs=1e-14)
    assert other.error.tolist() == ['', as_csv.error[1]] and pd.isna(other.p_melanoma[1])


def test_a_table_of_no_form(tmp_path):
    "An ending that says nothing is an error before anything is read."
    done = predict('.', '--out', 'risks.xlsx', cwd=tmp_path)
    assert done.returncode == 2 and '.csv or .jsonl or .parquet' in done.stderr


# ---- exit status

def test_status(tmp_path):
    "0: every file answered; 1: some not; 2: wrong use, found before the first image."
    shutil.copy(PHANTOMS[0], tmp_path/'a.jpg')
    (tmp_path/'none').mkdir()
    assert predict('a.jpg', cwd=tmp_path).returncode == 0
    for args in ([], ['none'], ['a.jpg', '--nonsense'], ['a.jpg', '--views', '9'],
                 ['a.jpg', '--out', 'a.jpg'], ['a.jpg', '--model', 'none']):
        assert predict(*args, cwd=tmp_path).returncode == 2, args
    assert predict('a.jpg', 'gone.jpg', cwd=tmp_path).returncode == 1
    assert rows(tmp_path/'risks.csv')['gone.jpg']['error']


def test_no_folder_for_the_table(tmp_path):
    "A table that cannot be written is an error before anything is read."
    shutil.copy(PHANTOMS[0], tmp_path/'a.jpg')
    done = predict('a.jpg', '--out', 'no/folder/x.csv', cwd=tmp_path)
    assert done.returncode == 2
    assert 'create it first' in done.stderr and 'Traceback' not in done.stderr


@pytest.mark.skipif(os.name != 'posix', reason='names and pipes of POSIX')
def test_odd_files(tmp_path):
    "A pipe, links in a circle and to nowhere, odd names: nothing waits, nothing crashes."
    odd = tmp_path/'in'
    odd.mkdir()
    for name in ('a.jpg', '.hidden.jpg'): shutil.copy(PHANTOMS[0], odd/name)
    os.mkfifo(odd/'pipe.jpg')
    os.symlink(odd, odd/'circle')
    os.symlink(odd/'gone.jpg', odd/'dead.jpg')
    shutil.copy(PHANTOMS[1], os.fsencode(odd) + b'/\xff\xfe.jpg')
    shutil.copy(PHANTOMS[1], odd/'=1+1, "quoted"\n.jpg')
    done = predict('in', cwd=tmp_path)
    table = rows(tmp_path/'risks.csv')
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    answered = {name for name, row in table.items() if row['p_melanoma']}
    assert answered == {'in/a.jpg', 'in/\\xff\\xfe.jpg', 'in/=1+1, "quoted"\n.jpg'}
    refused = {name for name, row in table.items() if row['error']}
    assert refused == {'in/pipe.jpg', 'in/dead.jpg'}


# ---- a model that is not what its card says

def network(change):
    "A function that changes the bytes of the network and leaves the card as it is."
    def _change(model):
        path = model/'model.onnx'
        path.write_bytes(change(path.read_bytes()))
    return _change


def signed(change):
    "The same, with the hash of the changed bytes in the card: what a hostile sender would do."
    def _change(model):
        network(change)(model)
        digest = hashlib.sha256((model/'model.onnx').read_bytes()).hexdigest()
        change_card(sha256=digest)(model)
    return _change


def flip_a_bit(content):
    "The bytes with one bit changed."
    content = bytearray(content)
    content[len(content)//3] ^= 4
    return bytes(content)


def with_onnx(change):
    "A function of bytes that changes the network by the package onnx."
    def _change(content):
        onnx = pytest.importorskip('onnx')
        graph = onnx.load_from_string(content)
        change(graph)
        return graph.SerializeToString()
    return _change


@with_onnx
def unknown_opset(network): network.opset_import[0].version = 99


@with_onnx
def without_maps(network): del network.graph.output[1:]


@with_onnx
def one_picture_only(network): network.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@with_onnx
def weights_elsewhere(network):
    "The largest weights come from another file."
    weights = max(network.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    entries = dict(location='weights.bin', offset='0', length=str(len(weights.raw_data)))
    weights.ClearField('raw_data')
    weights.data_location = 1
    for key, value in entries.items(): weights.external_data.add(key=key, value=value)


def change_card(**fields):
    "A function that changes fields of the card."
    def _change(model):
        card = json.loads((model/'card.json').read_text())
        write_card(model/'card.json', card | fields)
    return _change


def another_temperature(model):
    "A card in which somebody wrote another temperature by hand."
    card = json.loads((model/'card.json').read_text())
    card['calibration']['temperature'] *= 2
    (model/'card.json').write_text(json.dumps(card))


@pytest.mark.parametrize('change, reason', [
    (network(flip_a_bit), 'changed or damaged'),
    (change_card(sha256='0'*64), 'changed or damaged'),
    (change_card(format=2), 'reads format 1'),
    (change_card(classes=['NV', 'BCC']), 'MEL among them'),
    (change_card(classes=['MEL', 'NV']), 'and 2 classes'),
    (change_card(size=256), 'says 256 pixels'),
    (change_card(calibration={}), 'temperature'),
    (change_card(calibration=[1]), 'temperature'),
    (change_card(crop='center'), 'not centre or inner or squash'),
    (signed(lambda _: pickle.dumps(dict(a=1))), 'cannot open model.onnx'),
    (signed(lambda content: content[:-1000]), 'cannot open model.onnx'),
    (signed(unknown_opset), 'cannot open model.onnx'),
    (signed(without_maps), "gives ['logits']"),
    (signed(one_picture_only), 'image of [1, 3'),
    (signed(weights_elsewhere), 'weights from another file'),
    (lambda model: (model/'model.onnx').unlink(), 'is missing'),
    (lambda model: (model/'card.json').write_text('{'), 'not a JSON file'),
    (another_temperature, 'card.json was changed or damaged'),
    (lambda model: (model/'seen.bin').unlink(), 'seen.bin is missing'),
    (lambda model: (model/'seen.bin').write_bytes(bytes(320)), 'changed or damaged'),
    (change_card(seen=dict(n=1, bits=64, limit=8, sha256='')), 'reads 256')])
def test_refuses_a_changed_model(tmp_path, change, reason):
    "Whatever was changed, no answer, one sentence, status 2; nothing of a stranger's code is run."
    shutil.copy(PHANTOMS[0], tmp_path/'a.jpg')
    shutil.copytree(WEIGHTS, tmp_path/'model')
    for place in (tmp_path, tmp_path/'model'): (place/'weights.bin').write_bytes(bytes(10**7))
    change(tmp_path/'model')
    done = predict('a.jpg', '--model', 'model', '--out', 'x.csv', cwd=tmp_path)
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert reason in done.stderr and not (tmp_path/'x.csv').exists()


def test_the_answers_are_pinned():
    "The model in the package gives the embedded examples the answers that were written down."
    pinned = json.loads((ROOT/'results/embedded/examples.json').read_text())
    card = json.loads((WEIGHTS/'card.json').read_text())
    assert pinned['sha256'] == card['sha256'], 'another model: run scripts/pin_answers.py'
    found = load_artefact().predict([PHANTOMS[0].parent/name for name in pinned['risks']])
    assert len(found) == len(PHANTOMS)
    for (name, risk), answer in zip(pinned['risks'].items(), found, strict=True):
        assert (answer['error'] is None) == (risk is not None), name
        assert risk is None or abs(answer['p_melanoma'] - risk) < 1e-4, name


# ---- stopped in the middle

@pytest.mark.skipif(os.name != 'posix', reason='signals of POSIX')
@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_goes_on(tmp_path, how):
    """Stopped in the middle, it leaves the table of last time, whole; the next run takes over what
    was answered, and its table is that of a run that nobody stopped."""
    many = tmp_path/'in'
    many.mkdir()
    Image.open(PHANTOMS[0]).resize((2000, 1500)).save(many/'0.jpg')
    for number in range(1, 50): os.link(many/'0.jpg', many/f'{number}.jpg')
    (tmp_path/'risks.csv').write_text('old')
    process = subprocess.Popen([str(BIN/'melanoma_predict'), 'in'], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    part = tmp_path/'risks.csv.part'
    while not (part.exists() and part.read_bytes().count(b'\n') > 5): time.sleep(.02)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    if how == signal.SIGINT: assert process.returncode == 130 and 'goes on from there' in said
    assert 'Traceback' not in said and (tmp_path/'risks.csv').read_text() == 'old'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in', 'risks.csv', part.name]
    done = predict('in', cwd=tmp_path)
    assert done.returncode == 0 and 'of a stopped run are taken over' in done.stderr
    assert not part.exists()
    assert predict('in', '--out', 'other.csv', cwd=tmp_path).returncode == 0
    assert (tmp_path/'risks.csv').read_bytes() == (tmp_path/'other.csv').read_bytes()


# ---- memory

def tiff_of_numbers(count):
    "A TIFF whose one tag holds that many numbers."
    tags = [(256, 3, 1, 400), (257, 3, 1, 400), (273, 4, count, 100)]
    entries = b''.join(struct.pack('<HHII', *tag) for tag in tags)
    head = b'II*\0' + struct.pack('<IH', 8, len(tags)) + entries
    return head.ljust(100, b'\0') + bytes(4*count)


def hostile_files():
    "Name -> bytes of small files that would take a great deal of memory, or cannot be read."
    sizes = ((40000, 40000), (12000, 11000), (10000, 10000), (200, 200), (20, 200))
    bombs = {f'bomb {width}.png': bomb(width, height) for width, height in sizes}
    wide = Image.new('L', (9000, 7000))
    segment = b'\xff\xe1' + struct.pack('>H', 65533) + b'Exif\0\0' + bytes(65525)
    photo = PHANTOMS[0].read_bytes()
    return refused_kinds(PHANTOMS[0]) | answered_kinds(PHANTOMS[0]) | bombs | {
        'wide.webp': encode(wide.crop((0, 0, 9000, 2800)).convert('RGB'), 'WEBP'),
        'wide.jp2': encode(wide, 'JPEG2000'),
        'numbers.tif': tiff_of_numbers(5_000_000),
        'notes.jpg': photo[:2] + 500*segment + photo[2:]}


def large_files(folder):
    "Write files of a hundred megapixels and more."
    ramp = (np.arange(10_900)*6).astype('>u2').tobytes()
    (folder/'deep.png').write_bytes(png(10_900, 10_900, repeated(ramp, 10_900), 16, 0))
    black = repeated(bytes(30_000), 10_000)
    (folder/'rgb.png').write_bytes(png(10_000, 10_000, black))
    (folder/'grey.png').write_bytes(png(10_000, 10_000, repeated(bytes(10_000), 10_000), 8, 0))
    photo = Image.open(PHANTOMS[0]).resize((10_000, 10_000), Image.Resampling.NEAREST)
    photo.save(folder/'photo.jpg')
    photo.save(folder/'side.jpg', exif=sideways())
    photo.save(folder/'progressive.jpg', progressive=True)


def peaks(*paths):
    "Name -> (MB, what came of it), each file or folder read in a process of its own."
    command = [sys.executable, ROOT/'scripts/read_memory.py', *paths]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = re.findall(r'^ *(\d+) MB +[\d.]+ s  (.+?)  (.*)$', done.stdout, re.M)
    return {name: (int(megabytes), result) for megabytes, name, result in lines}


PEAK = """
import os, resource, subprocess, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='counts in the units of Linux')
def test_large_photos_are_not_held(tmp_path):
    "Twenty photos of 12 megapixels on two cores: each is let go before the next one is unpacked."
    Image.open(PHANTOMS[0]).resize((4000, 3000)).save(tmp_path/'0.jpg')
    for number in range(1, 20): os.link(tmp_path/'0.jpg', tmp_path/f'{number}.jpg')
    command = [sys.executable, '-c', PEAK, BIN/'melanoma_predict', tmp_path, '--out',
               tmp_path/'risks.csv']
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) < 500  # MB; eight of them would take 384 more than the command's 230


@pytest.mark.skipif(os.name != 'posix', reason='resource is a module of POSIX')
def test_hostile_files_take_little_memory(tmp_path):
    "A process that reads every hostile file, one after another, stays under 400 MB."
    for name, content in hostile_files().items(): (tmp_path/name).write_bytes(content)
    megabytes, result = peaks(tmp_path)[tmp_path.name]
    assert megabytes < MAX_PEAK
    assert result == '14 of 34 files read'


@pytest.mark.skipif(os.name != 'posix', reason='resource is a module of POSIX')
def test_large_files_take_little_memory(tmp_path):
    "A hundred megapixels are read smaller or refused, under 400 MB; each in its own process."
    large_files(tmp_path)
    found = peaks(*tmp_path.iterdir())
    assert len(found) == 6 and max(megabytes for megabytes, _ in found.values()) < MAX_PEAK, found
    assert {name for name, (_, result) in found.items() if result.startswith('read')} == {
        'deep.png', 'grey.png', 'photo.jpg', 'side.jpg'}
    assert 'save it as JPEG' in found['rgb.png'][1]
    assert 'MB of memory' in found['progressive.jpg'][1]


# ---- a submission to Kaggle

def test_submission(tmp_path):
    """Rows in the sample's order, the median where there is no answer; the second run does not read
    the first one's files as images."""
    (tmp_path/'test').mkdir()
    for number, path in enumerate(PHANTOMS[:3]):
        shutil.copy(path, tmp_path/'test'/f'ISIC_{number}.jpg')
    (tmp_path/'test'/'ISIC_3.jpg').write_text('no picture')
    sample = tmp_path/'sample_submission.csv'
    sample.write_text('image_name,target\nISIC_2,0\nISIC_3,0\nISIC_0,0\nISIC_1,0\n')
    for _ in range(2):
        done = predict('test', '--out', 'test/risks.csv', '--submission', sample, cwd=tmp_path)
        assert done.returncode == 1 and '4 rows for Kaggle, 1 of them without' in done.stdout
    with open(tmp_path/'test'/'risks_submission.csv', encoding='utf-8', newline='') as file:
        given = {row['image_name']: float(row['target']) for row in csv.DictReader(file)}
    found = rows(tmp_path/'test'/'risks.csv')
    risks = {Path(name).stem: row['p_melanoma'] for name, row in found.items()}
    assert list(given) == ['ISIC_2', 'ISIC_3', 'ISIC_0', 'ISIC_1'] and len(risks) == 4
    answered = sorted(float(risk) for risk in risks.values() if risk)
    assert len(answered) == 3 and given.pop('ISIC_3') == answered[1]
    assert given == {name: float(risks[name]) for name in given}


@pytest.mark.parametrize('sample, said', [
    ('image_name,target\nISIC_9,0\n', '1 of 1 images of the submission were not among the files'),
    ('file,target\na.jpg,0\n', 'give the competition'),
])
def test_wrong_submission(tmp_path, sample, said):
    "Said before the first image, and no table is written."
    shutil.copy(PHANTOMS[0], tmp_path/'ISIC_0.jpg')
    (tmp_path/'sample.csv').write_text(sample)
    done = predict('ISIC_0.jpg', '--submission', 'sample.csv', cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path/'risks.csv').exists()
    done = predict('ISIC_0.jpg', '--submission', 'risks_submission.csv', cwd=tmp_path)
    assert done.returncode == 2 and 'would be written over' in done.stderr
    done = predict('ISIC_0.jpg', '--submission', 'sample.csv', '--out', 'submission.csv',
                   cwd=tmp_path)
    assert done.returncode == 2 and 'call it otherwise' in done.stderr


def test_a_slip_keeps_the_table(tmp_path):
    "Where nothing that was named exists, the answers of before stay."
    (tmp_path/'risks.csv').write_text('file,p_melanoma\na.jpg,0.5\n')
    done = predict('phots', 'gone.jpg', cwd=tmp_path)
    assert done.returncode == 2 and 'phots: there is no such file' in done.stderr
    assert (tmp_path/'risks.csv').read_text() == 'file,p_melanoma\na.jpg,0.5\n'
