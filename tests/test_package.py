"The package as a stranger gets it: the wheel, without the tree and without torch; its releases."
import csv
import re
import sys
import urllib.request
import zipfile
from configparser import ConfigParser
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import BIN, ROOT, Served, free_port, outside, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAVY = ('torch', 'torchvision', 'fastai', 'timm')
LIGHT_SET = {'numpy', 'pandas', 'onnxruntime', 'voila', 'ipywidgets', 'anywidget', 'ipykernel',
             'fastcore'}
FULL_SET = {*HEAVY, 'scikit-learn', 'scipy', 'nbdev'}
WHEEL_HOLDS = ('weights/model.onnx', 'weights/card.json', 'weights/seen.bin',
               'bedside/page/app.ipynb')
UNDESCRIBED = re.compile(r'^  (?:-h, )?(--?\w[\w-]*)(?: \w+)?$(?!\n {10,}\S)', flags=re.M)

parser = ConfigParser(delimiters=['='])
parser.read(ROOT/'settings.ini', encoding='utf-8')
settings = parser['DEFAULT']
SCRIPTS = [line.strip() for line in settings['console_scripts'].splitlines() if line.strip()]
COMMANDS = [line.split('=')[0] for line in SCRIPTS]


def requirements(*keys):
    "The requirements of entries of settings.ini."
    return [Requirement(word) for key in keys for word in settings[key].split()]


# ---- releases

def pins():
    "The releases of constraints.txt."
    lines = (ROOT/'constraints.txt').read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith('#')]


@pytest.mark.parametrize('pin', pins(), ids=str)
def test_constraints_fit_settings(pin):
    "A release of constraints.txt lies in the range of settings.ini; so does what is installed."
    asked = requirements('requirements', 'train_requirements', 'dev_requirements')
    ranges = {canonicalize_name(wanted.name): wanted.specifier for wanted in asked}
    name = canonicalize_name(pin.name)
    assert name in ranges, f'{pin.name} is pinned and not asked for in settings.ini'
    exact = [part.version for part in pin.specifier if part.operator == '==']
    for release in exact:
        assert ranges[name].contains(release), f'{pin} lies outside {pin.name}{ranges[name]}'
    if not exact:
        caps = {part for part in pin.specifier if part.operator == '<'}
        assert caps <= set(ranges[name]), f'{pin} and {pin.name}{ranges[name]} set different limits'
    installed = version(pin.name)
    assert ranges[name].contains(installed) and pin.specifier.contains(installed)


def test_light_set_is_light():
    "The plain install asks for no training library."
    names = {canonicalize_name(wanted.name) for wanted in requirements('requirements')}
    assert not names & FULL_SET
    assert LIGHT_SET <= names


@pytest.mark.parametrize('command', COMMANDS)
def test_help(command, tmp_path):
    "Every command says what it does and what its arguments mean."
    done = run([BIN/command, '--help'], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 'usage' in done.stdout and len(done.stdout.split()) > 30, done.stdout
    undescribed = UNDESCRIBED.findall(done.stdout)
    assert not undescribed, f'{command}: no word on {undescribed}'


# ---- the wheel

def test_wheel_holds(wheel):
    "Everything of the package is in the wheel; notebooks with data, runs and tests are not."
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f'melanoma_nbdev/{name}' for name in WHEEL_HOLDS} <= names
    pictures = [name for name in names if name.startswith('melanoma_nbdev/examples/')]
    assert any(name.lower().endswith(('.jpg', '.png')) for name in pictures)
    files = [path for path in (ROOT/'melanoma_nbdev').rglob('*') if path.is_file()]
    in_tree = {path.relative_to(ROOT).as_posix() for path in files
               if '__pycache__' not in path.parts}
    assert in_tree <= names, f'not in the wheel: {sorted(in_tree - names)[:5]}'
    assert all(name.startswith(('melanoma_nbdev/', 'melanoma_nbdev-')) for name in names)
    assert any('LICENSE' in name for name in names)
    assert wheel.stat().st_size < 30*2**20


def test_wheel_page_is_the_notebook():
    "The page that is shipped is the notebook that is tested."
    shipped = ROOT/'melanoma_nbdev'/'bedside'/'page'/'app.ipynb'
    assert shipped.read_bytes() == (ROOT/'nbs'/'app.ipynb').read_bytes()


def test_light_env_has_no_torch(light_env, tmp_path):
    "An environment with the wheel holds no training library, and the package lies in it."
    code = ('import importlib.util as util; '
            f'print([name for name in {HEAVY!r} if util.find_spec(name)], '
            "util.find_spec('melanoma_nbdev').origin)")
    done = run([light_env/'python', '-c', code], tmp_path)
    assert done.stdout.startswith('[] ') and str(ROOT) not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize('command', ['melanoma_train', 'melanoma_export'])
def test_light_env_says_what_training_needs(light_env, tmp_path, command):
    "Where the packages of training are missing, a command that needs them says how to get them."
    done = run([light_env/command, '--help'], tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert done.stderr.startswith(f'{command} needs ') and 'melanoma_nbdev[train]' in done.stderr


def shipped_images(python, tmp_path):
    "Four of the images that came with the wheel."
    code = 'from melanoma_nbdev.core import package_dir; print(package_dir())'
    package = Path(run([python, '-c', code], tmp_path).stdout.strip())
    files = sorted((package/'examples').rglob('*'))
    return [path for path in files if path.suffix.lower() in ('.jpg', '.png')][:4]


def read_risks(folder):
    "Name of the file -> its row in risks.csv."
    with open(folder/'risks.csv', newline='', encoding='utf-8') as file:
        return {Path(row['file']).name: row for row in csv.DictReader(file)}


def test_light_env_predicts(light_env, tmp_path):
    "`melanoma_predict` on the shipped images, far from the tree: a row a file, a risk in each."
    images = shipped_images(light_env/'python', tmp_path)
    assert images and not str(images[0]).startswith(str(ROOT))
    (tmp_path/'in').mkdir()
    for path in images:
        (tmp_path/'in'/path.name).write_bytes(path.read_bytes())
    command = [light_env/'melanoma_predict', 'in', '--out', 'risks.csv']
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = read_risks(tmp_path)
    assert set(rows) == {path.name for path in images}
    for row in rows.values():
        assert 0 <= float(row['p_melanoma']) <= 1 and not row['error']
    (tmp_path/'in'/'not.jpg').write_text('this is text')
    done = run(command, tmp_path)
    row = read_risks(tmp_path)['not.jpg']
    assert done.returncode != 0 and row['error'] and not row['p_melanoma']


def test_light_env_serves(light_env, tmp_path):
    "`melanoma_app` from the wheel, far from the tree, answers with the page."
    command = [light_env/'melanoma_app', '--port', free_port()]
    page = Served(command, tmp_path, tmp_path/'log', env=outside())
    try:
        html = urllib.request.urlopen(page.url, timeout=120).read().decode()
        assert '127.0.0.1' in page.url or 'localhost' in page.url
        assert 'melanoma' in html.lower()
        assert 'Traceback' not in html and 'There was an error' not in html
    finally:
        page.stop()


def test_installed_from_this_tree(tmp_path):
    "The environment of the tests runs this tree, not another copy."
    code = 'from melanoma_nbdev.core import package_dir; print(package_dir())'
    done = run([sys.executable, '-c', code], tmp_path)
    assert Path(done.stdout.strip()) == ROOT/'melanoma_nbdev', done.stderr
