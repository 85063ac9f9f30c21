"The house: every module is its notebook, imports point down, the light floors stay light."
import ast
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT, run

PACKAGE = 'melanoma_nbdev'
HEAVY = ('torch', 'torchvision', 'fastai', 'timm')
SLOW = ('pandas', 'pyarrow', 'matplotlib', 'scipy', 'sklearn')
ANSWER = '''
import sys
from melanoma_nbdev.bedside.app import MelanomaPage
page = MelanomaPage()
page.example(0)
assert 'text/csv' in page.take.value
print(*{name.split(".")[0] for name in sys.modules})
'''
LIGHT_CHAPTERS = ('phantom', 'evidence', 'bedside')
LIGHT_ROOMS = ('core', 'images', 'engine')


# ---- notebooks and modules

def code_cells(path):
    "The source of each code cell of a notebook."
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def notebooks(root=ROOT):
    "All notebooks, without checkpoints and hidden ones."
    found = sorted((root/'nbs').rglob('*.ipynb'))
    return [path for path in found
            if not any(part[0] in '._' for part in path.relative_to(root/'nbs').parts)]


def rooms(root=ROOT):
    "Module (`data.splits`) -> notebook, as the `default_exp` lines say; a module has one notebook."
    found = {}
    for path in notebooks(root):
        for code in code_cells(path):
            said = re.match(r'\s*#\|\s*default_exp\s+(\S+)', code)
            if not said: continue
            module = said.group(1)
            assert module not in found, f'{path} and {found[module]} both export to {module}'
            found[module] = path
    return found


def number(path):
    "The number that a notebook's name begins with."
    return int(re.match(r'\d+', path.stem).group())


def test_modules_are_the_notebooks():
    "Every module comes from a notebook of the same name in the folder of the same name."
    package = ROOT/PACKAGE
    files = [path.relative_to(package).with_suffix('') for path in package.rglob('*.py')]
    modules = {'.'.join(path.parts) for path in files if path.name not in ('__init__', '_modidx')}
    found = rooms()
    assert modules == set(found)
    for module, path in found.items():
        chapter = path.relative_to(ROOT/'nbs').parts[:-1]
        name = re.sub(r'^\d+_', '', path.stem)
        assert module == '.'.join([*chapter, name]), f'{path.name} exports to {module}'


def test_numbers_run_through_the_book():
    "No two notebooks share a number, and a chapter's numbers follow one another."
    numbers = Counter(number(path) for path in rooms().values())
    assert not [n for n, times in numbers.items() if times > 1]


def test_chapters_say_what_comes_in_and_goes_out():
    "Each chapter's folder opens with a docstring."
    for chapter in {path.parent.name for path in rooms().values()} - {'nbs'}:
        text = (ROOT/PACKAGE/chapter/'__init__.py').read_text(encoding='utf-8')
        docstring = ast.get_docstring(ast.parse(text)) or ''
        assert {'in', 'out'} <= set(re.findall(r'\w+', docstring)), chapter


# ---- imports

def imported_modules(code, package):
    "The rooms that a piece of code imports, by absolute or relative name."
    try:
        tree = ast.parse(re.sub(r'^[%!].*$', 'pass', code, flags=re.M))
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from ((name.removeprefix(f'{PACKAGE}.'), []) for name in names
                        if name.startswith(f'{PACKAGE}.'))
        elif isinstance(node, ast.ImportFrom):
            imported = [alias.name for alias in node.names]
            yield from from_import(node, imported, package)


def from_import(node, imported, package):
    "The rooms of one `from ... import ...`, each with the names taken from it."
    module = node.module or ''
    if node.level:
        above = package[:len(package) - node.level + 1]
        module = '.'.join([*above, module]).strip('.')
    elif module == PACKAGE: module = ''
    elif module.startswith(f'{PACKAGE}.'): module = module.removeprefix(f'{PACKAGE}.')
    else: return
    yield module, imported
    for name in imported:
        yield f'{module}.{name}'.strip('.'), []


def upward_imports(root=ROOT):
    "One line for each import, in exported or other cells, of a room with no lower number."
    found = rooms(root)
    problems = []
    for module, path in found.items():
        package = module.split('.')[:-1]
        for code in code_cells(path):
            for name, _ in imported_modules(code, package):
                if name == module or name not in found: continue
                if number(found[name]) >= number(path):
                    problems.append(f'{path.name} imports {found[name].name}')
    return problems


def circles(root=ROOT):
    "The rooms that import one another in a circle, whatever their numbers."
    found = rooms(root)
    arrows = {}
    for module in found:
        code = (root/PACKAGE/f"{module.replace('.', '/')}.py").read_text(encoding='utf-8')
        taken = {name for name, _ in imported_modules(code, module.split('.')[:-1])}
        arrows[module] = taken & set(found) - {module}
    while True:
        ground = {module for module, taken in arrows.items() if not taken}
        if not ground: return sorted(arrows)
        above = arrows.keys() - ground
        arrows = {module: arrows[module] - ground for module in above}


def test_imports_point_down():
    "A notebook, its examples and tests too, imports from lower numbers only."
    assert not upward_imports()


def test_no_circle():
    "No import runs in a circle."
    assert not circles()


def test_planted_imports_are_found(tmp_path):
    "An import upward, planted in a copy, is found; so is the circle that it closes."
    for path in notebooks():
        copy = tmp_path/path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding='utf-8'), encoding='utf-8')
    for path in (ROOT/PACKAGE).rglob('*.py'):
        copy = tmp_path/path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding='utf-8'), encoding='utf-8')
    assert not upward_imports(tmp_path) and not circles(tmp_path)
    planted = f'from {PACKAGE}.evidence.oof import read_oof\n'
    path = tmp_path/'nbs'/'00_core.ipynb'
    notebook = json.loads(path.read_text(encoding='utf-8'))
    notebook['cells'].append(dict(cell_type='code', source=[planted]))
    path.write_text(json.dumps(notebook), encoding='utf-8')
    module = tmp_path/PACKAGE/'core.py'
    module.write_text(module.read_text(encoding='utf-8') + planted, encoding='utf-8')
    assert upward_imports(tmp_path) == ['00_core.ipynb imports 33_oof.ipynb']
    assert {'core', 'evidence.oof'} <= set(circles(tmp_path))


def test_no_private_name_travels():
    "No room imports a private name of another."
    problems = []
    for module, path in rooms().items():
        for code in code_cells(path):
            for name, taken in imported_modules(code, module.split('.')[:-1]):
                private = [word for word in taken if word.startswith('_') and word != '__version__']
                problems += [f'{path.name} takes {word} from {name}' for word in private]
    assert not problems


def test_nothing_is_exported_twice():
    "A public name is defined in one room."
    homes = {}
    for module in rooms():
        path = ROOT/PACKAGE/f"{module.replace('.', '/')}.py"
        found = re.search(r'^__all__ = (\[.*?\])', path.read_text(encoding='utf-8'), re.M | re.S)
        for name in ast.literal_eval(found.group(1)) if found else []:
            homes.setdefault(name, []).append(module)
    assert not {name: modules for name, modules in homes.items() if len(modules) > 1}


LIGHT = [module for module in rooms()
         if module in LIGHT_ROOMS or module.split('.')[0] in LIGHT_CHAPTERS]


def test_light_floors_load_no_torch(tmp_path):
    "Ground floor, phantom, evidence and bedside load no torch, fastai or timm when imported."
    imports = '\n'.join(f'import {PACKAGE}.{module}' for module in LIGHT)
    code = f'{imports}\nimport sys\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))'
    done = run([sys.executable, '-c', code], tmp_path)
    assert done.stdout.strip() == '[]', done.stdout + done.stderr[-2000:]


@pytest.mark.parametrize('module', ['bedside.app', 'bedside.inference', 'bedside.serve'])
def test_the_page_imports_light(module, tmp_path):
    "What the page imports loads no torch, no tables and no figures, in the full environment too."
    code = f'import {PACKAGE}.{module}, sys\nprint(*{{name.split(".")[0] for name in sys.modules}})'
    done = run([sys.executable, '-c', code], tmp_path)
    loaded = set(done.stdout.split())
    assert PACKAGE in loaded, done.stderr[-2000:]
    assert not loaded & {*HEAVY, *SLOW, 'nbdev'}


def test_the_page_answers_without_tables(tmp_path):
    "An answer, its table and its report load nothing that the import had left out."
    done = run([sys.executable, '-c', ANSWER], tmp_path)
    loaded = set(done.stdout.split())
    assert 'onnxruntime' in loaded, done.stderr[-2000:]
    assert not loaded & {*HEAVY, *SLOW, 'nbdev'}


# ---- what the files say

def test_no_machine_paths():
    "No path of the machine on which it was made stands in what is published."
    bad = re.compile(r'(?<![\w.])/(?:work|root|home|tmp|Users)/[\w.-]+')
    patterns = ('nbs/**/*.ipynb', f'{PACKAGE}/**/*.py', f'{PACKAGE}/**/*.json', 'scripts/*',
                'results/**/*.json', 'README.md')
    files = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    texts = {path: path.read_text(encoding='utf-8') for path in files
             if '.ipynb_checkpoints' not in path.parts and '__pycache__' not in path.parts}
    found = [f'{path.relative_to(ROOT)}: {hit.group()}' for path, text in texts.items()
             if (hit := bad.search(text))]
    assert not found


def house_table():
    "Room -> notebook, as the table of the house in CONTRIBUTING.md says."
    text = (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8')
    return set(re.findall(r'`(\d\d_\w+)`', text))


def test_the_house_table_is_true():
    "CONTRIBUTING.md lists every numbered notebook, and no other."
    assert house_table() == {path.stem for path in rooms().values()}


def test_contributing_paths_exist():
    "Each file that CONTRIBUTING.md names is there."
    text = (ROOT/'CONTRIBUTING.md').read_text(encoding='utf-8')
    for name in re.findall(r'`((?:nbs|tests|scripts|\.ci|melanoma_nbdev)/[\w./]+\.\w+)`', text):
        assert Path(ROOT/name).exists(), name
