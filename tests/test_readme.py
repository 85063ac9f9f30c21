"What README.md says is so: its commands, options, links; and it says what it must."
import re

import pytest
import yaml
from conftest import BIN, ROOT, run
from test_package import COMMANDS, settings

README = (ROOT/'README.md').read_text(encoding='utf-8')
OF_ANY_RUN = ('metrics.json', 'config.json', 'card.json')
LAUNCHED = '-m melanoma_nbdev.training.command'
MARK = re.compile(r'<!--.*?-->', flags=re.S)
NUMBER = re.compile(r'(?<![\w.-])\d[\d,.]*\d|(?<![\w.-])\d\b')
FILES = re.compile(r'`([\w./-]+\.(?:md|cff|json|toml|txt|ini))`')


def shell_lines():
    "The commands of README.md, without their comments."
    blocks = re.findall(r'```sh\n(.*?)```', README, flags=re.S)
    lines = [line.split('#')[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def command_of(line):
    "The line as the command that it runs: under accelerate launch it is melanoma_train."
    if LAUNCHED in line: return 'melanoma_train' + line.partition(LAUNCHED)[2]
    return line


@pytest.fixture(scope='module')
def help_of(tmp_path_factory):
    "Command -> what its --help prints."
    folder = tmp_path_factory.mktemp('help')
    return {command: run([BIN/command, '--help'], folder).stdout for command in COMMANDS}


def test_commands_exist(help_of):
    "Each command line calls a make target, a command or an option that there is."
    targets = re.findall(r'^([a-z]+):', (ROOT/'Makefile').read_text(), flags=re.M)
    lines = shell_lines()
    assert {'make app', 'make test'} <= set(lines)
    for line in map(command_of, lines + re.findall(r'`(make \w+)', README)):
        program, *words = line.split()
        if program == 'make': assert words[0] in targets, line
        elif program in COMMANDS:
            for option in re.findall(r'--\w+', line.split('&&')[0]):
                assert re.search(rf'{option}\b', help_of[program]), f'{line}: no {option}'
        else: assert program in ('git', 'cd', 'docker'), f'{line}: not a command that is tested'


def test_every_command_is_named():
    "README.md names each command."
    assert all(f'`{command}`' in README for command in COMMANDS)


def test_links_exist():
    "Every file that README.md links to or names is in the tree."
    for link in re.findall(r'\]\((?!https?://)([^)#]+)', README):
        assert (ROOT/link).exists(), link
    for name in FILES.findall(README):
        assert name in OF_ANY_RUN or (ROOT/name).exists(), name


def test_every_notebook_is_listed():
    "Every notebook is in the book's contents."
    files = (ROOT/'nbs').rglob('*.ipynb')
    names = {path.relative_to(ROOT).as_posix() for path in files
             if '.ipynb_checkpoints' not in path.parts} - {'nbs/index.ipynb'}
    listed = set(re.findall(r'\]\((nbs/[\w./]+\.ipynb)\)', README))
    assert names <= listed, f'not in README.md: {sorted(names - listed)}'


def test_warns():
    "Not a medical device, see a doctor."
    assert 'Not a medical device' in README and 'see a doctor' in README


def prose():
    "README.md without marks, code, tables, links' addresses and headings."
    text = re.sub(r'```.*?```', '', MARK.sub('', README), flags=re.S)
    text = re.sub(r'\]\([^)]*\)', ']', text)
    lines = [line for line in text.splitlines() if not re.match(r'\s*(\||#|!\[)', line)]
    return '\n'.join(lines)


def test_reads_to_its_end():
    "At most 1,300 words, no sentence over 30, no paragraph of prose with more than three numbers."
    whole = re.sub(r'```.*?```', '', MARK.sub('', README), flags=re.S)
    assert len(re.findall(r"[A-Za-z][\w'-]*", re.sub(r'\]\([^)]*\)', ']', whole))) <= 1300
    for paragraph in re.split(r'\n\s*\n|\n(?=- )', prose()):
        for sentence in re.split(r'(?<=[.:?!;])\s+', paragraph):
            words = re.findall(r"[A-Za-z][\w'-]*", re.sub(r'`[^`]*`', 'code', sentence))
            assert len(words) <= 30, sentence
        numbers = NUMBER.findall(re.sub(r'`[^`]*`', '', paragraph))
        if not paragraph.startswith('Whoever uses the data'): assert len(numbers) <= 3, paragraph


def test_workflows_run_the_readme():
    "The public CI runs make app and make test, on the Python versions that setup.py names."
    workflow = yaml.safe_load((ROOT/'.github'/'workflows'/'test.yaml').read_text())
    steps = [step.get('run', '') for job in workflow['jobs'].values() for step in job['steps']]
    assert '.ci/run' in steps and '.ci/smoke' in steps
    assert re.search(r'\bmake test\b', (ROOT/'.ci'/'run').read_text())
    assert re.search(r'\bmake app\b', (ROOT/'.ci'/'smoke').read_text())
    pythons = workflow['jobs']['test']['strategy']['matrix']['python']
    assert pythons[0] == settings['min_python']
    for python in pythons:
        assert f"'{python}'" in (ROOT/'setup.py').read_text() and python in README
