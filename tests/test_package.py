"The package as a stranger gets it: what the wheel holds, that it works without the tree and without torch, and that the lists kept in several places agree."
import ast, csv, json, os, re, subprocess, sys, zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
from conftest import ROOT, Served, free_port
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BIN = Path(sys.executable).parent
cfg = ConfigParser(delimiters=['=']); cfg.read(ROOT/'settings.ini', encoding='utf-8'); cfg = cfg['DEFAULT']
COMMANDS = [l.strip().split('=')[0] for l in cfg['console_scripts'].splitlines() if l.strip()]
LIGHT_COMMANDS = ('melanoma_predict', 'melanoma_app')
HEAVY = ('torch', 'torchvision', 'fastai', 'timm')

def requirements(*keys): return [Requirement(r) for k in keys for r in cfg[k].split()]
def outside(**kw):
    "An environment in which the tree cannot be found"
    return {**{k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'MELANOMA_DATA', 'VIRTUAL_ENV')}, **kw}
def run(cmd, cwd, **kw): return subprocess.run([str(c) for c in cmd], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, env=outside(), **kw)

def test_constraints_fit_settings():
    "Every release in constraints.txt lies inside the range that settings.ini gives, and so does what is installed"
    from importlib.metadata import version
    ranges = {canonicalize_name(r.name): r.specifier for r in requirements('requirements', 'train_requirements', 'dev_requirements')}
    pins = [Requirement(l) for l in (ROOT/'constraints.txt').read_text().splitlines() if l.strip() and not l.startswith('#')]
    assert pins
    for p in pins:
        name = canonicalize_name(p.name)
        assert name in ranges, f'{p.name} is pinned in constraints.txt and not asked for in settings.ini'
        exact = [s.version for s in p.specifier if s.operator == '==']
        for v in exact: assert ranges[name].contains(v), f'{p} lies outside {p.name}{ranges[name]}'
        if not exact:
            caps = [s for s in p.specifier if s.operator == '<']
            assert set(caps) <= set(ranges[name]), f'{p} and {p.name}{ranges[name]} set different limits'
        assert ranges[name].contains(version(p.name)) and p.specifier.contains(version(p.name)), f'{p.name} {version(p.name)} is installed, outside {p} or {ranges[name]}'

def test_light_set_is_light():
    "The plain install asks for no training library"
    names = {canonicalize_name(r.name) for r in requirements('requirements')}
    assert not names & {'torch', 'torchvision', 'fastai', 'timm', 'scikit-learn', 'scipy', 'nbdev'}
    assert {'numpy', 'pandas', 'onnxruntime', 'voila', 'ipywidgets', 'ipykernel', 'fastcore'} <= names

def exports():
    "module -> notebook, as the `default_exp` lines say; two notebooks with one module would overwrite each other"
    found = {}
    for nb in sorted((ROOT/'nbs').rglob('*.ipynb')):
        if any(x[0] in '._' for x in nb.relative_to(ROOT/'nbs').parts): continue
        for c in json.loads(nb.read_text(encoding='utf-8'))['cells']:
            m = re.match(r'\s*#\|\s*default_exp\s+(\S+)', ''.join(c['source'])) if c['cell_type'] == 'code' else None
            if m:
                assert m.group(1) not in found, f'{nb.name} and {found[m.group(1)].name} both export to {m.group(1)}'
                found[m.group(1)] = nb
    return found

def test_modules_are_the_notebooks():
    "Every module comes from a notebook, every exporting notebook has its module, and the file is named as the module"
    modules = {p.relative_to(ROOT/'melanoma_nbdev').with_suffix('').as_posix().replace('/', '.') for p in (ROOT/'melanoma_nbdev').rglob('*.py')} - {'__init__', '_modidx'}
    found = exports()
    assert modules == set(found), f'without a notebook: {sorted(modules - set(found))}; without a module: {sorted(set(found) - modules)}'
    for m, nb in found.items(): assert re.sub(r'^\d+[a-z]?_', '', nb.stem) == m, f'{nb.name} exports to {m}'

def test_imports_point_down():
    "A notebook imports from lower numbers only"
    found = exports()
    number = {m: re.match(r'\d+[a-z]?', nb.stem).group() for m, nb in found.items()}
    for m, nb in found.items():
        for n in ast.walk(ast.parse((ROOT/'melanoma_nbdev'/f'{m}.py').read_text(encoding='utf-8'))):
            if not isinstance(n, ast.ImportFrom): continue
            mod = n.module or ''
            names = [mod.split('.')[-1]] if mod.startswith('melanoma_nbdev.') or (n.level and mod) else [a.name for a in n.names] if mod == 'melanoma_nbdev' or n.level else []
            for x in names:
                if x in number and x != m: assert number[x] < number[m], f'{nb.name} (number {number[m]}) imports {x} (number {number[x]})'

def test_no_machine_paths():
    "No path of the machine on which it was made stands in a notebook, a module or the README"
    bad = re.compile(r'(?<![\w.])/(?:work|root|home|tmp|Users)/[\w.-]+')
    files = [p for p in [*(ROOT/'nbs').rglob('*.ipynb'), *(ROOT/'melanoma_nbdev').rglob('*.py'), *(ROOT/'melanoma_nbdev').rglob('*.json'), *(ROOT/'results').rglob('*.json'), ROOT/'README.md']
             if '.ipynb_checkpoints' not in p.parts]
    found = [f'{f.relative_to(ROOT)}: {m.group()}' for f in files if (m := bad.search(f.read_text(encoding='utf-8')))]
    assert not found, '\n'.join(found)

@pytest.mark.parametrize('command', COMMANDS)
def test_help(command, tmp_path):
    "Every command says what it does and what its arguments mean"
    r = run([BIN/command, '--help'], tmp_path)
    assert r.returncode == 0, r.stderr[-2000:]
    assert 'usage' in r.stdout and len(r.stdout.split()) > 30, r.stdout
    undescribed = re.findall(r'^  (?:-h, )?(--?\w[\w-]*)(?: \w+)?$(?!\n {10,}\S)', r.stdout, flags=re.M)
    assert not undescribed, f'{command}: no word on {undescribed}'

def test_app_imports_light(tmp_path):
    "What the page imports loads no torch, fastai or timm, in the full environment too"
    r = run([sys.executable, '-X', 'importtime', '-c', 'import melanoma_nbdev.app'], tmp_path)
    assert r.returncode == 0, r.stderr[-2000:]
    loaded = {l.split('|')[-1].strip().split('.')[0] for l in r.stderr.splitlines() if l.startswith('import time:')}
    assert 'melanoma_nbdev' in loaded and not loaded & {*HEAVY, 'sklearn', 'nbdev'}, sorted(loaded & {*HEAVY, 'sklearn', 'nbdev'})

def test_wheel_holds(wheel):
    "Model, card, page, example images and licence are in the wheel; notebooks with data, runs and tests are not"
    names = zipfile.ZipFile(wheel).namelist()
    for want in ('melanoma_nbdev/weights/model.onnx', 'melanoma_nbdev/weights/card.json', 'melanoma_nbdev/bedside/page/app.ipynb'): assert want in names, f'{want} is not in the wheel'
    assert any(n.startswith('melanoma_nbdev/examples/') and n.lower().endswith(('.jpg', '.png')) for n in names)
    in_tree = {p.relative_to(ROOT).as_posix() for p in (ROOT/'melanoma_nbdev').rglob('*') if p.is_file() and '__pycache__' not in p.parts}
    assert in_tree <= set(names), f'not in the wheel: {sorted(in_tree - set(names))[:5]}'
    assert all(n.startswith(('melanoma_nbdev/', 'melanoma_nbdev-')) for n in names), sorted({n.split('/')[0] for n in names})
    assert any('LICENSE' in n for n in names)
    assert wheel.stat().st_size < 30 * 2**20

def test_wheel_page_is_the_notebook():
    "The page that is shipped is the notebook that is tested"
    assert (ROOT/'melanoma_nbdev/bedside/page/app.ipynb').read_bytes() == (ROOT/'nbs/app.ipynb').read_bytes()

def test_light_env_has_no_torch(light_env, tmp_path):
    code = f"import importlib.util as u; print([m for m in {HEAVY!r} if u.find_spec(m)], u.find_spec('melanoma_nbdev').origin)"
    r = run([light_env/'python', '-c', code], tmp_path)
    assert r.stdout.startswith('[] ') and str(ROOT) not in r.stdout, r.stdout + r.stderr

def test_light_env_predicts(light_env, tmp_path):
    "`melanoma_predict` on the shipped images, far from the tree: a row a file, a risk in each"
    r = run([light_env/'python', '-c', 'import melanoma_nbdev, pathlib; print(pathlib.Path(melanoma_nbdev.__file__).parent)'], tmp_path)
    images = sorted(p for p in (Path(r.stdout.strip())/'examples').rglob('*') if p.suffix.lower() in ('.jpg', '.png'))[:4]
    assert images and not str(images[0]).startswith(str(ROOT))
    (tmp_path/'in').mkdir()
    for p in images: (tmp_path/'in'/p.name).write_bytes(p.read_bytes())
    r = run([light_env/'melanoma_predict', 'in', '--out', 'risks.csv'], tmp_path)
    assert r.returncode == 0, r.stdout + r.stderr
    rows = list(csv.DictReader(open(tmp_path/'risks.csv')))
    assert {Path(x['file']).name for x in rows} == {p.name for p in images}
    assert all(0 <= float(x['p_melanoma']) <= 1 and not x['error'] for x in rows), rows
    (tmp_path/'in'/'not.jpg').write_text('this is text')
    r = run([light_env/'melanoma_predict', 'in', '--out', 'risks.csv'], tmp_path)
    rows = {Path(x['file']).name: x for x in csv.DictReader(open(tmp_path/'risks.csv'))}
    assert r.returncode != 0 and rows['not.jpg']['error'] and not rows['not.jpg']['p_melanoma'], r.stdout + r.stderr

def test_light_env_serves(light_env, tmp_path):
    "`melanoma_app` from the wheel, far from the tree, answers with the page"
    import urllib.request
    s = Served([light_env/'melanoma_app', '--port', free_port()], tmp_path, tmp_path/'log', env=outside())
    try:
        html = urllib.request.urlopen(s.url, timeout=120).read().decode()
        assert '127.0.0.1' in s.url or 'localhost' in s.url
        assert 'melanoma' in html.lower() and 'Traceback' not in html and 'There was an error' not in html, html[-2000:]
    finally: s.stop()

# ---- what README.md says
readme = (ROOT/'README.md').read_text(encoding='utf-8')
def shell_lines(): return [l.split('#')[0].strip() for b in re.findall(r'```sh\n(.*?)```', readme, flags=re.S) for l in b.splitlines() if l.split('#')[0].strip()]

def test_readme_commands_exist(tmp_path):
    "Each command line in README.md calls a make target, a command or an option that there is; every command is named"
    targets, helps = set(re.findall(r'^([a-z]+):', (ROOT/'Makefile').read_text(), flags=re.M)), {}
    lines = shell_lines()
    assert {'make app', 'make test'} <= set(lines)
    for l in lines + re.findall(r'`(make \w+)', readme):
        w = l.split()
        if '-m melanoma_nbdev.train' in l: l = 'melanoma_train' + l.partition('-m melanoma_nbdev.train')[2]; w = l.split()  # under accelerate launch
        if w[0] == 'make': assert w[1] in targets, l
        elif w[0].startswith('melanoma_'):
            assert w[0] in COMMANDS, l
            if w[0] not in helps: helps[w[0]] = run([BIN/w[0], '--help'], tmp_path).stdout
            said = helps[w[0]]
            for o in re.findall(r'--\w+', l): assert re.search(rf'{o}\b', said), f'{l}: no {o} in {w[0]} --help'
        else: assert w[0] in ('git', 'cd', 'docker'), f'{l}: not a command that is tested'
    assert all(f'`{c}`' in readme for c in COMMANDS)

def test_readme_links_exist():
    "Every file that README.md links to or names is in the tree, and every notebook is in its table"
    for l in re.findall(r'\]\((?!https?://)([^)#]+)', readme): assert (ROOT/l).exists(), l
    for f in re.findall(r'`([\w./-]+\.(?:md|cff|json|toml|txt|ini))`', readme):
        if f not in ('metrics.json', 'config.json', 'card.json'):  # of any run or artefact
            assert (ROOT/f).exists(), f
    notebooks = {p.relative_to(ROOT).as_posix() for p in (ROOT/'nbs').glob('*.ipynb')} - {'nbs/index.ipynb'}
    listed = set(re.findall(r'\]\((nbs/[\w./]+\.ipynb)\)', readme))
    assert notebooks <= listed, f'not in the table of README.md: {sorted(notebooks - listed)}'

def test_readme_warns():
    "Not a medical device, see a doctor: in the README, on the card and with each command that answers for an image"
    assert 'Not a medical device' in readme and 'see a doctor' in readme

def test_workflows_run_the_readme():
    "The public CI runs make app and make test, on the Python versions that setup.py names"
    import yaml
    w = yaml.safe_load((ROOT/'.github/workflows/test.yaml').read_text())
    steps = [s.get('run', '') for j in w['jobs'].values() for s in j['steps']]
    assert '.ci/run' in steps and '.ci/smoke' in steps
    assert re.search(r'\bmake test\b', (ROOT/'.ci/run').read_text()) and re.search(r'\bmake app\b', (ROOT/'.ci/smoke').read_text())
    python = w['jobs']['test']['strategy']['matrix']['python']
    assert python[0] == cfg['min_python']
    for v in python: assert f"'{v}'" in (ROOT/'setup.py').read_text() and v in readme
