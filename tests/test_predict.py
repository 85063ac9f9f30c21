"melanoma_predict as people use it: a folder with everything in it, and every exit status."
import csv, io, json, os, shutil, signal, struct, subprocess, sys, zlib
from pathlib import Path

import numpy as np, pytest
from conftest import ROOT
from PIL import Image

PREDICT = Path(sys.executable).parent/'melanoma_predict'
WEIGHTS = ROOT/'melanoma_nbdev/weights'
PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))

def predict(*args, cwd, **kw): return subprocess.run([str(PREDICT), *map(str, args)], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, **kw)
def rows(path): return {r['file']: r for r in csv.DictReader(open(path, encoding='utf-8', newline=''))}
def encode(im, fmt, **kw): b = io.BytesIO(); im.save(b, fmt, **kw); return b.getvalue()
def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
def bomb(w, h): return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(b'\0'*9)) + chunk(b'IEND', b'')

def kinds(p):
    "What lies in people's folders: name -> (bytes, whether it can be answered)"
    im, raw = Image.open(p).convert('RGB'), p.read_bytes()
    exif = Image.Exif(); exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16) * 257)
    return {'good.jpg': (raw, True), 'grey.png': (encode(im.convert('L'), 'PNG'), True), 'rgba.png': (encode(im.convert('RGBA').rotate(20), 'PNG'), True),
            'palette.gif': (encode(im.quantize(64), 'GIF'), True), 'cmyk.jpg': (encode(im.convert('CMYK'), 'JPEG'), True), 'deep.png': (encode(deep, 'PNG'), True),
            'deep.tif': (encode(deep, 'TIFF'), True), 'float.tif': (encode(Image.fromarray(np.asarray(im.convert('L'), dtype=np.float32) / 255), 'TIFF'), True),
            'side.jpg': (encode(im, 'JPEG', exif=exif), True), 'moving.gif': (encode(im, 'GIF', save_all=True, append_images=[im.rotate(90)]), True),
            'moving.webp': (encode(im, 'WEBP', save_all=True, append_images=[im.rotate(90)]), True), 'progressive.jpg': (encode(im, 'JPEG', progressive=True), True),
            'png in disguise.jpg': (encode(im, 'PNG'), True), 'flat.bmp': (encode(Image.new('RGB', (90, 300), 'red'), 'BMP'), True),
            'cut.jpg': (raw[:len(raw)//2], False), 'cut.png': (encode(im, 'PNG')[:3000], False), 'noise.jpg': (np.random.default_rng(0).bytes(5000), False),
            'bomb.png': (bomb(30000, 30000), False), 'tiny.png': (encode(im.resize((9, 9)), 'PNG'), False), 'empty.jpg': (b'', False),
            'words.jpg': ('größer als letztes Jahr'.encode(), False), 'phone.heic': (b'\0\0\0\x18ftypheic' + bytes(50), False),
            'letter.pdf': (b'%PDF-1.7 and so on', False), 'page.jpg': (b'<!doctype html><html><body>not found</body></html>', False),
            'headeronly.jpg': (raw[:300], False)}

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A hundred files, four of each kind, in folders of folders with names from everywhere"
    d = tmp_path_factory.mktemp('mixed')
    for i in range(4):
        sub = d/['', 'zweiter Besuch', 'a/b', 'сентябрь'][i]; sub.mkdir(parents=True, exist_ok=True)
        for k, (b, _) in kinds(PHANTOMS[i]).items(): (sub/f'{i} {k}').write_bytes(b)
    return d

def test_hundred_files(folder, tmp_path):
    "Every file has a row with a risk or a reason, and the exit status says that some failed"
    r = predict(folder, '--out', 'risks.csv', cwd=tmp_path)
    assert r.returncode == 1 and 'Traceback' not in r.stderr, r.stderr[-2000:]
    got = rows(tmp_path/'risks.csv')
    assert len(got) == 100 and '56 of 100 files answered, 44 not' in r.stdout
    for name, x in got.items():
        ok = kinds(PHANTOMS[0])[Path(name).name[2:]][1]
        assert bool(x['p_melanoma']) == ok and bool(x['error']) == (not ok), (name, x)
        if ok: assert 0 <= float(x['p_melanoma']) <= 1 and int(x['width']) and abs(sum(float(v) for k, v in x.items() if k.startswith('p_') and k != 'p_melanoma') - 1) < 1e-6
        else: assert len(x['error'].split()) > 4, x
    assert list(next(iter(got.values())))[:3] == ['file', 'p_melanoma', 'error']
    said = {Path(n).name[2:]: x for n, x in got.items() if '/0 ' in n}
    for k, word in {'phone.heic': 'HEIC', 'empty.jpg': 'empty', 'words.jpg': 'text', 'bomb.png': 'pixels', 'cut.jpg': 'cut off', 'letter.pdf': 'PDF'}.items(): assert word in said[k]['error'], (k, said[k])
    for k, word in {'moving.gif': '2 pictures', 'grey.png': 'grey', 'rgba.png': 'transparent', 'deep.png': 'scaled', 'flat.bmp': 'structure'}.items(): assert word in said[k]['warning'], (k, said[k])
    same = [float(said[k]['p_melanoma']) for k in ('good.jpg', 'png in disguise.jpg')]
    assert abs(same[0] - same[1]) < 1e-6

def test_one_answer_whatever_the_batch(folder, tmp_path):
    "The same file gets the same risk alone and among others, and the table is the same byte for byte"
    a, b = (predict(folder/'zweiter Besuch', '--out', f'{n}.csv', '--batch', n, cwd=tmp_path) for n in (1, 7))
    x, y = rows(tmp_path/'1.csv'), rows(tmp_path/'7.csv')
    for k in x: assert x[k]['error'] == y[k]['error'] and (not x[k]['p_melanoma'] or abs(float(x[k]['p_melanoma']) - float(y[k]['p_melanoma'])) < 1e-5)
    predict(folder/'zweiter Besuch', '--out', 'again.csv', '--batch', 7, cwd=tmp_path)
    assert (tmp_path/'again.csv').read_bytes() == (tmp_path/'7.csv').read_bytes()

def test_large_photo(tmp_path):
    "A photo of 24 megapixels is answered; a turned one as if it had been turned back"
    im = Image.open(PHANTOMS[3]).convert('RGB').resize((6000, 4000)); im.save(tmp_path/'large.jpg')
    exif = Image.Exif(); exif[0x0112] = 6
    small = im.resize((600, 400)); small.save(tmp_path/'upright.png'); small.transpose(Image.Transpose.ROTATE_90).save(tmp_path/'side.png', exif=exif)
    r = predict('large.jpg', 'upright.png', 'side.png', cwd=tmp_path); got = rows(tmp_path/'risks.csv')
    assert r.returncode == 0 and got['large.jpg']['width'] == '6000', r.stderr
    assert got['side.png']['p_melanoma'] == got['upright.png']['p_melanoma'] and got['side.png']['width'] == '600'

def test_status(tmp_path):
    "0: every file answered; 1: some not, or the model is refused; 2: wrong use"
    shutil.copy(PHANTOMS[0], tmp_path/'a.jpg'); (tmp_path/'none').mkdir()
    assert predict('a.jpg', cwd=tmp_path).returncode == 0
    for args in ([], ['none'], ['a.jpg', '--nonsense']): assert predict(*args, cwd=tmp_path).returncode == 2, args
    r = predict('a.jpg', 'gone.jpg', cwd=tmp_path); assert r.returncode == 1 and rows(tmp_path/'risks.csv')['gone.jpg']['error']
    r = predict('a.jpg', '--out', 'no/folder/x.csv', cwd=tmp_path); assert r.returncode == 1 and 'create it first' in r.stderr and 'Traceback' not in r.stderr

@pytest.mark.skipif(os.name != 'posix', reason='names and pipes of POSIX')
def test_odd_files(tmp_path):
    "A pipe, a link in a circle, a dead link, a name that is no text, a hidden file: nothing waits, nothing crashes"
    d = tmp_path/'in'; d.mkdir(); shutil.copy(PHANTOMS[0], d/'a.jpg'); shutil.copy(PHANTOMS[0], d/'.hidden.jpg')
    os.mkfifo(d/'pipe.jpg'); os.symlink(d, d/'circle'); os.symlink(d/'gone.jpg', d/'dead.jpg')
    shutil.copy(PHANTOMS[1], os.fsencode(d) + b'/\xff\xfe.jpg'); shutil.copy(PHANTOMS[1], d/'=1+1, "quoted"\n.jpg')
    r = predict('in', cwd=tmp_path); got = rows(tmp_path/'risks.csv')
    assert r.returncode == 1 and 'Traceback' not in r.stderr, r.stderr
    assert {k for k, x in got.items() if x['p_melanoma']} == {'in/a.jpg', 'in/\\xff\\xfe.jpg', 'in/=1+1, "quoted"\n.jpg'}
    assert {k for k, x in got.items() if x['error']} == {'in/pipe.jpg', 'in/dead.jpg'}

def test_refuses_a_changed_model(tmp_path):
    "One bit of the model, a field of the card or a missing file: no answer, one sentence, status 1"
    shutil.copy(PHANTOMS[0], tmp_path/'a.jpg')
    def tried(change):
        d = tmp_path/'model'; shutil.rmtree(d, ignore_errors=True); shutil.copytree(WEIGHTS, d); change(d)
        r = predict('a.jpg', '--model', 'model', '--out', 'x.csv', cwd=tmp_path)
        assert r.returncode == 1 and 'Traceback' not in r.stderr and not (tmp_path/'x.csv').exists(), r.stderr
        return r.stderr
    def flip(d): b = bytearray((d/'model.onnx').read_bytes()); b[len(b)//3] ^= 4; (d/'model.onnx').write_bytes(b)
    def card(**kw): return lambda d: (d/'card.json').write_text(json.dumps({**json.loads((d/'card.json').read_text()), **kw}))
    assert 'changed or damaged' in tried(flip)
    assert 'changed or damaged' in tried(card(sha256='0'*64))
    assert 'MEL among them' in tried(card(classes=['NV', 'BCC']))
    assert 'temperature' in tried(card(calibration={}))
    assert 'is missing' in tried(lambda d: (d/'model.onnx').unlink())
    assert 'not a JSON file' in tried(lambda d: (d/'card.json').write_text('{'))

@pytest.mark.skipif(os.name != 'posix', reason='signals of POSIX')
def test_killed_leaves_the_old_table(tmp_path):
    "Stopped in the middle, it leaves the table of last time, whole"
    d = tmp_path/'in'; d.mkdir(); im = Image.open(PHANTOMS[0]).resize((3000, 2000))
    for i in range(150): (im.save(d/f'{i}.jpg') if i == 0 else os.link(d/'0.jpg', d/f'{i}.jpg'))
    (tmp_path/'risks.csv').write_text('old')
    p = subprocess.Popen([str(PREDICT), 'in'], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    p.stderr.readline(); p.send_signal(signal.SIGINT); _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and 'nothing half-written' in err, (p.returncode, err[-500:])
    assert (tmp_path/'risks.csv').read_text() == 'old' and sorted(f.name for f in tmp_path.iterdir()) == ['in', 'risks.csv']
