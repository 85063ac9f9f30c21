"""What `make test` runs, counted; the last line is `N passed, N failed` (and `, N skipped`).

1 the stack imports
2 ruff finds nothing; nbdev_clean, nbdev_export and README.md leave the tree as it is
3 nbdev_test, notebook by notebook
4 pytest tests/

    python .ci/test.py              all of it
    python .ci/test.py 3 4          some of it
    python .ci/test.py duplicates   notebooks whose name holds the word, and tests that name it

Each notebook is a process of its own, two at a time: one that hangs, crashes or runs out of memory
costs itself and not the count. MELANOMA_TEST_MINUTES (50) ends the whole run in time; what was not
reached by then counts as failed. The exit status is 1 if anything failed."""
import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor, as_completed
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
BEGAN = time.time()
DEADLINE = BEGAN + 60*float(os.environ.get('MELANOMA_TEST_MINUTES', 50))
ANSI = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')
NOT_OURS = {'.venv', '.git', 'build', 'dist', '_proc', '_docs', '__pycache__', 'runs',
            '.pytest_cache', '.hypothesis', '.ipynb_checkpoints', '.ruff_cache'}

counts = dict(passed=0, failed=0, skipped=0)
failures = []
skips = []
running = set()


# ---- counting

def tally(what, outcome, seconds=None, note=''):
    "Count one test and say so."
    counts[outcome] += 1
    if outcome == 'failed': failures.append(what)
    if outcome == 'skipped': skips.append(f'{what}: {note}')
    word = dict(passed='ok  ', failed='FAIL', skipped='skip')[outcome]
    duration = '' if seconds is None else f'{seconds:7.1f} s'
    remark = f'  {note}' if note and outcome != 'failed' else ''
    print(f'  {word} {what:<58}{duration}{remark}', flush=True)
    if outcome == 'failed' and note:
        for line in note.rstrip().splitlines():
            print(f'       {line}', flush=True)


def last_lines(text, n=25):
    "The end of an output, without the lines that only point at others."
    lines = [line[:240] for line in text.rstrip().splitlines() if line.strip(' ^~\t')]
    return '\n'.join(lines[-n:])


def verdict(status, output, seconds):
    "What to print of a command that failed."
    if status == 'timeout': return f'stopped: no end after {seconds:.0f} s\n{last_lines(output)}'
    return f'exit status {status}\n{last_lines(output)}'


# ---- running commands

def environment(drop=()):
    "The environment of a test: this .venv first, one thread a process, no screen."
    ours = dict(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', MKL_NUM_THREADS='1', PYTHONUTF8='1',
                MPLBACKEND='agg', PYTHONHASHSEED='0')
    without = {'PYTHONPATH', 'PYTHONHOME', 'IN_TEST', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', *drop}
    inherited = {name: value for name, value in os.environ.items() if name not in without}
    return {**inherited, **ours, 'PATH': f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}


def kill(process):
    "End a process and all that it started."
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def run(command, limit, cwd=ROOT, stream=False, drop=()):
    "Exit status, output and seconds of a command; killed with its children after `limit` seconds."
    limit = max(1, min(limit, DEADLINE - time.time()))
    start = time.time()
    pipes = {} if stream else dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process = subprocess.Popen([str(word) for word in command], cwd=cwd, env=environment(drop),
                               stdin=subprocess.DEVNULL, text=True, errors='replace',
                               start_new_session=True, **pipes)
    running.add(process)
    try:
        output = process.communicate(timeout=limit)[0]
        status = process.returncode
    except subprocess.TimeoutExpired:
        kill(process)
        output, status = output_of_killed(process), 'timeout'
    kill(process)  # whatever it left behind
    running.discard(process)
    return status, ANSI.sub('', output or ''), time.time() - start


def output_of_killed(process):
    "What a killed process had printed."
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        return ''


def stopped(number, _frame):
    "Ctrl-C or the end of a time limit: nothing that was started goes on running."
    for process in list(running):
        kill(process)
    print(f'stopped by {signal.Signals(number).name}', flush=True)
    os._exit(128 + number)


def test_command(what, command, limit, **kwargs):
    "Count one command: passed where its exit status is 0."
    status, output, seconds = run(command, limit, **kwargs)
    if status == 0: tally(what, 'passed', seconds)
    else: tally(what, 'failed', seconds, verdict(status, output, seconds))


# ---- 1 the stack

def test_stack():
    "nbdev is where a wrong set of releases breaks first."
    for module in ('nbdev', 'nbdev.diff'):
        test_command(f'import {module}', [sys.executable, '-c', f'import {module}'], 180)


# ---- 2 the tree

def tree_files():
    "The files of the project: what git tracks or would; without git, everything but the builds."
    command = ['git', 'ls-files', '-coz', '--exclude-standard']
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
        names = [name for name in listed.split('\0') if name]
    except (OSError, subprocess.CalledProcessError):
        relative = [path.relative_to(ROOT) for path in ROOT.rglob('*')]
        names = [str(path) for path in relative if not NOT_OURS & set(path.parts)]
    names = [name for name in names if name.split('/')[0] not in ('data', 'runs')]
    return sorted(name for name in names if (ROOT/name).is_file())


def contents(folder):
    "Every file of a folder with its bytes, builds left out."
    found = {}
    for path in Path(folder).rglob('*'):
        parts = path.relative_to(folder).parts
        if path.is_file() and '__pycache__' not in parts and parts[0] != '_proc':
            found['/'.join(parts)] = path.read_bytes()
    return found


def first_differences(name, before, after):
    "The first lines in which one file differs."
    texts = [version[name].decode(errors='replace').splitlines() for version in (before, after)]
    lines = difflib.unified_diff(*texts, 'in the tree', 'made anew', lineterm='', n=0)
    return ['    ' + line[:200] for line in list(lines)[2:12]]


def changes(before, after):
    "One line a file that differs, with the first lines of the difference."
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after: lines.append(f'{name}: gone')
        elif name not in before: lines.append(f'{name}: new')
        elif before[name] != after[name]:
            lines += [f'{name}:', *first_differences(name, before, after)]
    return lines


def test_unchanged(what, command, tree):
    "Count a command that must leave the tree as it is."
    before = contents(tree)
    status, output, seconds = run(command, 300, cwd=tree)
    if status: note = verdict(status, output, seconds)
    else: note = '\n'.join(changes(before, contents(tree))[:40])
    if note: tally(what, 'failed', seconds, note + '\n-> make export, look at it, commit')
    else: tally(what, 'passed', seconds)


def test_tree():
    "On a copy, so that a failure leaves the work as it was and uncommitted changes do not matter."
    test_command('ruff finds nothing', [BIN/'ruff', 'check', '--no-cache', '.'], 120)
    # an exported cell may use a name that only a hidden cell imports: its module lacks it then
    lacking = ['check', '--no-cache', '--isolated', '--select', 'F821', 'melanoma_nbdev']
    test_command('no module lacks a name', [BIN/'ruff', *lacking], 120)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)/'tree'
        for name in tree_files():
            (tree/name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT/name, tree/name)
        test_unchanged('nbdev_clean leaves the tree unchanged', [BIN/'nbdev_clean'], tree)
        test_unchanged('nbdev_export leaves the tree unchanged', [BIN/'nbdev_export'], tree)
        test_unchanged('README.md is what nbs/index.ipynb makes',
                       [sys.executable, '.ci/readme.py'], tree)


# ---- 3 the notebooks

def notebooks(word=''):
    "Those that nbdev_test would take, the longer ones, which have no number, first."
    found = []
    for path in (ROOT/'nbs').rglob('*.ipynb'):
        hidden = any(part[0] in '._' for part in path.relative_to(ROOT/'nbs').parts)
        if not hidden and word in path.stem: found.append(path)
    return sorted(found, key=lambda path: (path.name[0].isdigit(), str(path)))


def leading_flags(cell):
    "The directives at the head of a code cell, as one text."
    if cell['cell_type'] != 'code': return ''
    return re.match(r'(?:\s*#\|[^\n]*\n?)*', ''.join(cell['source'])).group()


def left_out(paths):
    "How many code cells the flags leave out, by flag."
    settings = ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    number = dict.fromkeys(settings['DEFAULT']['tst_flags'].split(), 0)
    for path in paths:
        for cell in json.loads(path.read_text(encoding='utf-8'))['cells']:
            head = leading_flags(cell)
            for flag in number:
                number[flag] += bool(re.search(rf'#\|\s*{flag}\s*$', head, flags=re.M))
    return {flag: n for flag, n in number.items() if n}


def test_notebooks(word='', limit=900):
    "Run each notebook with nbdev_test."
    paths = notebooks(word)
    if not paths: return tally(f'notebooks named {word!r}', 'failed', note='there are none')
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        todo = {}
        for path in paths:
            command = [BIN/'nbdev_test', '--path', path]
            todo[pool.submit(run, command, limit, drop=('MELANOMA_DATA',))] = path
        for task in as_completed(todo):
            status, output, seconds = task.result()
            name = str(todo[task].relative_to(ROOT))
            if status == 0 and 'No files were eligible' not in output:
                tally(name, 'passed', seconds)
            else:
                tally(name, 'failed', seconds, verdict(status, output, seconds))
    flags = left_out(paths)
    if flags:
        words = ', '.join(f'{n} cells {flag}' for flag, n in flags.items())
        print(f"  (left out by flag: {words}; nbdev_test --flags '{' '.join(flags)}' runs them)")


# ---- 4 the tests

def tally_case(case):
    "Count one test of pytest's report."
    name = f"{case.get('classname', '').replace('.', '/')}::{case.get('name')}"
    seconds = float(case.get('time', 0))
    bad = [part for part in case if part.tag in ('failure', 'error')]
    skip = case.find('skipped')
    if bad:
        message = (bad[0].get('message') or '').splitlines() or ['']
        tally(name, 'failed', seconds, message[0][:240])
    elif skip is not None: tally(name, 'skipped', note=(skip.get('message') or '')[:300])
    else: tally(name, 'passed', seconds)


def test_pytest(selection=(), limit=2700):
    "Run tests/ and count each of them."
    if not list((ROOT/'tests').glob('test_*.py')):
        return tally('pytest tests/', 'failed', note='there are no tests under tests/')
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder)/'junit.xml'
        options = ['-q', '-rs', '--tb=short', '--color=no', '-p', 'no:cacheprovider']
        command = [sys.executable, '-m', 'pytest', 'tests', *options, f'--junitxml={report}']
        status, _, seconds = run([*command, *selection], limit, stream=True)
        tree = ElementTree.parse(report).getroot() if report.exists() else []
        cases = list(tree.iter('testcase')) if len(tree) else []
    before = counts['failed']
    for case in cases:
        tally_case(case)
    if status == 5 and selection: return
    if status not in (0, 1) or not cases:
        tally('pytest tests/', 'failed', seconds, f'pytest did not end as it should ({status})')
    elif status == 1 and counts['failed'] == before:
        tally('pytest tests/', 'failed', seconds, 'pytest failed outside its tests')


# ---- all of it

def test_part(word):
    "The notebooks whose name holds a word, and the tests that name them."
    test_notebooks(word)
    test_pytest(['-k', word])


STEPS = {'1': ('the stack', test_stack), '2': ('the tree', test_tree),
         '3': ('nbdev_test', test_notebooks), '4': ('pytest', test_pytest)}


def main(words):
    "Run the steps, or the part that a word names; print the count."
    if words and words[0] not in STEPS: steps = [(words[0], lambda: test_part(words[0]))]
    else: steps = [STEPS[word] for word in words or STEPS]
    for title, step in steps:
        print(f'== {title}', flush=True)
        try:
            step()
        except Exception as error:
            tally(title, 'failed', note=f'{type(error).__name__}: {error}')
    for line in skips:
        print(f'skipped  {line}')
    for line in failures:
        print(f'failed   {line}')
    print(f'{(time.time() - BEGAN)/60:.1f} minutes')
    skipped = f", {counts['skipped']} skipped" if counts['skipped'] else ''
    print(f"{counts['passed']} passed, {counts['failed']} failed{skipped}", flush=True)
    return bool(counts['failed'])


if __name__ == '__main__':
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, stopped)
    sys.exit(main(sys.argv[1:]))
