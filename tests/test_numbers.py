"""No figure is typed: what README, notebooks and cards say is what the files hold, and a figure
that was changed by hand is named."""
import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pandas as pd
import pytest
from conftest import ROOT
from melanoma_nbdev.core import read_json, write_csv, write_json
from melanoma_nbdev.report.card import checklists_text, model_card

SCRIPT = ROOT/'.ci'/'numbers.py'
WEIGHTS = ROOT/'melanoma_nbdev'/'weights'
EMBEDDED = ROOT/'results'/'embedded'
MODEL_IS_HERE = (WEIGHTS/'card.json').exists() and (EMBEDDED/'metrics.json').exists()
LOOKS_LIKE_A_MEASURE = r'(?<![\d.\w])0?\.\d{3,4}(?![\d.\w])'


def loaded():
    "The script as a module."
    spec = spec_from_file_location('ci_numbers', SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ci = loaded()


def mark(figure, key='auc.value', file='m.json', spec='.3f'):
    "A marked figure."
    return f'{ci.OPEN} {file} {key} {spec} -->{figure}{ci.CLOSE}'


# ---- the project

def test_all_figures_agree_with_their_files():
    assert ci.numbers(ROOT) == []


def readme_with_figures(tmp_path):
    "README.md and its root; where it has no figures, one that has."
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    if ci.MARK.search(text): return text, ROOT
    write_json(tmp_path/'m.json', dict(auc=dict(value=.9123)))
    return f'AUC {mark("0.912")}', tmp_path


def test_a_changed_figure_is_named(tmp_path):
    "One digit of the first figure of a copy of README is changed by hand."
    text, root = readme_with_figures(tmp_path)
    copy = tmp_path/'README.md'
    first = next(found for found in ci.MARK.finditer(text) if re.search(r'\d', found['figure']))
    place = first.start('figure') + re.search(r'\d(?=\D*$)', first['figure']).start()
    digit = (int(text[place]) + 1) % 10
    copy.write_text(f'{text[:place]}{digit}{text[place + 1:]}', encoding='utf-8')
    problems = ci.numbers(root, files=[copy])
    assert len(problems) == 1, problems
    assert all(word in problems[0] for word in (first['key'], first['file'], 'README.md'))


def test_readme_has_no_typed_measure():
    """What looks like an AUC or another measure with three decimals stands between marks, or is a
    figure of others that results/cited.csv lists with its source."""
    text = ci.MARK.sub('', (ROOT/'README.md').read_text(encoding='utf-8'))
    text = re.sub(r'```.*?```|`[^`]*`', '', text, flags=re.S)
    cited = set(pd.read_csv(ROOT/'results'/'cited.csv', dtype=str)['figure'])
    typed = sorted(set(re.findall(LOOKS_LIKE_A_MEASURE, text)) - cited)
    assert not typed, (f'typed by hand in README.md: {typed}; mark them (see .ci/numbers.py) or, '
                       'if they are of others, list them in results/cited.csv')


@pytest.mark.skipif(not MODEL_IS_HERE, reason='the embedded model or its results are not here')
def test_card_of_the_embedded_model():
    "card.json holds the figures of results/embedded, and the card in words is what files give."
    card = read_json(WEIGHTS/'card.json')['metrics']
    metrics = read_json(EMBEDDED/'metrics.json')
    ours = {name: metrics[name] for name in ('n', 'n_pos')}
    ours |= dict(auc=metrics['auc']['value'], lo=metrics['auc']['lo'], hi=metrics['auc']['hi'])
    assert {name: card[name] for name in ours} == ours
    for name, write in (('README.md', model_card), ('CHECKLISTS.md', checklists_text)):
        if not (WEIGHTS/name).exists(): continue
        text = (WEIGHTS/name).read_text(encoding='utf-8')
        assert text == write(EMBEDDED, WEIGHTS), (
            f'{name} of the embedded model is not what its files give; write it with '
            'melanoma_nbdev.report.card.write_cards')


# ---- the script

def test_shown():
    assert ci.shown(.91249, '.3f') == '0.912'
    assert ci.shown(33126, ',d') == '33,126'
    assert ci.shown(.0176, '.2%') == '1.76%'
    assert ci.shown('centre', 's') == 'centre'
    interval = dict(value=.9, lo=.85, hi=.94)
    assert ci.shown(interval, 'vci.2f') == '0.90 (0.85 to 0.94)'
    assert ci.shown(interval, 'ci.2f') == '0.85 to 0.94'


@pytest.fixture
def files(tmp_path):
    "A folder with a JSON and a CSV file."
    write_json(tmp_path/'m.json', dict(auc=dict(value=.9123), points=[dict(threshold=.1)]))
    table = dict(n=[50, 581, 581], how=['a', 'a', 'b'], cover=[.9, .94, .95])
    write_csv(tmp_path/'c.csv', pd.DataFrame(table))
    return tmp_path


def test_lookup(files):
    assert ci.lookup(files/'m.json', 'points.0.threshold') == .1
    assert ci.lookup(files/'c.csv', 'cover[n=581,how=b]') == .95


@pytest.mark.parametrize('file, key, said', [
    ('m.json', 'auc.val', "no 'auc.val'"),
    ('m.json', 'points.7.threshold', "nothing at '7'"),
    ('c.csv', 'cover[n=581]', 'fits 2 rows'),
    ('c.csv', 'cover[m=581]', "no column 'm'"),
    ('c.csv', 'auc[n=50]', "no column 'auc'"),
    ('x.json', 'a', 'does not exist')])
def test_lookup_names_what_is_missing(files, file, key, said):
    with pytest.raises(ci.FigureError, match=re.escape(said)):
        ci.lookup(files/file, key)


def test_one_text(files):
    right, wrong = (f'The AUC is {mark(figure)}, so.' for figure in ('0.912', '0.921'))
    assert ci.text_problems(right, files) == []
    assert ci.text_problems(wrong, files) == [
        'auc.value of m.json is 0.912, the text says 0.921']
    assert ci.fill_text(wrong, files) == ci.fill_text(right, files) == right
    assert 'malformed' in ci.text_problems(right.replace('/num', 'num'), files)[0]
    assert 'cannot be shown' in ci.text_problems(mark('1', 'nothing'), files)[0]


def test_a_project(tmp_path):
    "README and notebooks are checked and filled; code cells and explained marks stay as they are."
    write_json(tmp_path/'results'/'m.json', dict(auc=dict(value=.9123)))
    wrong, right = (mark(figure, file='results/m.json') for figure in ('0.900', '0.912'))
    readme = tmp_path/'README.md'
    readme.write_text(f'AUC {wrong}\n', encoding='utf-8')
    explained = mark('7').replace('<!--', '<\u200b!--', 1)
    cells = [dict(cell_type='markdown', source=[f'AUC {right}\n', 'end']),
             dict(cell_type='markdown', source=[f'{explained} {mark("7")}']),
             dict(cell_type='code', source=[f's = "{mark("7")}"'])]
    notebook = tmp_path/'nbs'/'a.ipynb'
    write_json(notebook, dict(cells=cells))
    before = json.loads(notebook.read_text(encoding='utf-8'))
    said = 'README.md: auc.value of results/m.json is 0.912, the text says 0.900'
    assert ci.numbers(tmp_path) == [said]
    assert ci.numbers(tmp_path, files=[notebook]) == []
    cells[0]['source'][0] = f'AUC {wrong}\n'
    write_json(notebook, dict(cells=cells[::2]))
    assert ci.numbers(tmp_path, fill=True) == []
    assert readme.read_text(encoding='utf-8') == f'AUC {right}\n'
    filled = json.loads(notebook.read_text(encoding='utf-8'))['cells']
    assert filled == before['cells'][::2]
    assert ci.numbers(tmp_path) == []


def copy_of_script(folder, readme):
    "A project of one file, with the script in it; the finished run of the script."
    (folder/'.ci').mkdir(exist_ok=True)
    (folder/'.ci'/'numbers.py').write_bytes(SCRIPT.read_bytes())
    (folder/'README.md').write_text(readme, encoding='utf-8')
    return [sys.executable, folder/'.ci'/'numbers.py']


def test_the_command(files):
    "The exit status says whether all figures agree; --fill mends what leads somewhere."
    text = f'{mark("0.900")} {mark("0.94", "cover[n=50]", "c.csv")} {mark("1", "nothing")}\n'
    command = copy_of_script(files, text)
    for more, status, lines in (([], 1, 3), (['--fill'], 1, 1), ([], 1, 1)):
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        said = done.stdout.splitlines()
        assert (done.returncode, len(said)) == (status, lines), done.stdout + done.stderr


def test_the_folder_hides_no_module(tmp_path):
    "A script beside numbers.py finds the standard library's module of that name."
    copy_of_script(tmp_path, '')
    other = tmp_path/'.ci'/'other.py'
    other.write_text('import decimal, numbers\nprint(numbers.Number, decimal.Decimal(1))\n')
    done = subprocess.run([sys.executable, other], capture_output=True, text=True)
    assert done.stdout.strip() == "<class 'numbers.Number'> 1", done.stderr


def test_the_command_on_this_project():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ''), done.stdout + done.stderr
