"""What `make test` runs, counted; the last line is `N passed, N failed` (and `, N skipped`), the exit status 1 if anything failed.

1 the stack imports   2 nbdev_clean, nbdev_export and README.md leave the tree as it is   3 nbdev_test, notebook by notebook   4 pytest tests/
Each notebook is a process of its own, two at a time: one that hangs, crashes or runs out of memory costs itself and not the count.
MELANOMA_TEST_MINUTES (50) ends the whole run in time; what was not reached by then counts as failed."""
import difflib, json, os, re, shutil, signal, subprocess, sys, tempfile, time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor, as_completed
from configparser import ConfigParser
from pathlib import Path

root = Path(__file__).resolve().parent.parent
bin_dir = Path(sys.executable).parent
began = time.time()
deadline = began + 60*float(os.environ.get('MELANOMA_TEST_MINUTES', 50))
ansi = re.compile(r'\x1b\[[0-9;?]*[A-Za-z]')
counts, failures, skips, live = dict(passed=0, failed=0, skipped=0), [], [], set()

def tally(what, outcome, seconds=None, note=''):
    "Count one test and say so"
    counts[outcome] += 1
    if outcome == 'failed': failures.append(what)
    if outcome == 'skipped': skips.append(f'{what}: {note}')
    t = '' if seconds is None else f'{seconds:7.1f} s'
    print(f"  {dict(passed='ok  ', failed='FAIL', skipped='skip')[outcome]} {what:<58}{t}{'  ' + note if note and outcome != 'failed' else ''}")
    if outcome == 'failed' and note: print('\n'.join('       ' + l for l in note.rstrip().splitlines()))
    sys.stdout.flush()

def environment(**kw):
    "The environment of a test: this .venv first, one thread per process, nothing that asks for a screen"
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME', 'IN_TEST', 'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS')}
    return {**env, 'PATH': f"{bin_dir}{os.pathsep}{env.get('PATH', '')}", 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1',
            'PYTHONUTF8': '1', 'MPLBACKEND': 'agg', 'PYTHONHASHSEED': '0', **kw}

def run(cmd, limit, cwd=root, stream=False, drop=(), **kw):
    "Exit status, output and seconds of a command; killed with all its children after `limit` seconds (status 'timeout')"
    limit, start = max(1, min(limit, deadline - time.time())), time.time()
    env = {k: v for k, v in environment(**kw).items() if k not in drop}
    p = subprocess.Popen([str(c) for c in cmd], cwd=cwd, env=env, stdin=subprocess.DEVNULL, text=True, errors='replace', start_new_session=True,
                         stdout=None if stream else subprocess.PIPE, stderr=None if stream else subprocess.STDOUT)
    live.add(p)
    try: out = p.communicate(timeout=limit)[0]; rc = p.returncode
    except subprocess.TimeoutExpired:
        kill(p); rc = 'timeout'
        try: out = p.communicate(timeout=10)[0]
        except subprocess.TimeoutExpired: out = ''
    kill(p); live.discard(p)  # whatever it left behind
    return rc, ansi.sub('', out or ''), time.time() - start

def kill(p):
    try: os.killpg(p.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError): pass

def stopped(sig, frame):
    "Ctrl-C or the end of a time limit: nothing that was started goes on running"
    for p in list(live): kill(p)
    print(f'stopped by {signal.Signals(sig).name}', flush=True); os._exit(128 + sig)

def last(text, n=25): return '\n'.join([l[:240] for l in text.rstrip().splitlines() if l.strip(' ^~\t')][-n:])
def verdict(rc, out, limit): return (f'stopped: no end after {limit:.0f} s\n' if rc == 'timeout' else f'exit status {rc}\n') + last(out)

# ---- 1 the stack
def stack():
    for m in ('nbdev', 'nbdev.diff'):
        rc, out, s = run([sys.executable, '-c', f'import {m}'], 180)
        tally(f'import {m}', 'passed' if rc == 0 else 'failed', s, '' if rc == 0 else verdict(rc, out, s))

# ---- 2 the tree
def tree_files():
    "The files of the project: what git tracks or would, else everything but the builds"
    try:
        o = subprocess.run(['git', 'ls-files', '-coz', '--exclude-standard'], cwd=root, capture_output=True, check=True).stdout.decode()
        fs = [f for f in o.split('\0') if f]
    except (OSError, subprocess.CalledProcessError):
        skip = {'.venv', '.git', 'build', 'dist', '_proc', '_docs', '__pycache__', 'runs', '.pytest_cache', '.hypothesis', '.ipynb_checkpoints'}
        fs = [str(p.relative_to(root)) for p in root.rglob('*') if not skip & set(p.relative_to(root).parts)]
    return sorted(f for f in fs if (root/f).is_file() and f.split('/')[0] not in ('data', 'runs'))

def contents(folder, skip=('_proc',)):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob('*')
            if p.is_file() and '__pycache__' not in p.parts and p.relative_to(folder).parts[0] not in skip}

def changes(a, b):
    "One line a file that differs, with the first lines of the difference"
    out = []
    for f in sorted(a.keys() | b.keys()):
        if a.get(f) == b.get(f): continue
        if f not in b: out.append(f'{f}: gone'); continue
        if f not in a: out.append(f'{f}: new'); continue
        d = list(difflib.unified_diff(*(x[f].decode(errors='replace').splitlines() for x in (a, b)), 'in the tree', 'made anew', lineterm='', n=0))[2:12]
        out += [f'{f}:'] + ['    ' + l[:200] for l in d]
    return out

def tree():
    "On a copy, so that a failure leaves the work as it was and uncommitted changes do not matter"
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d)/'tree'
        for f in tree_files():
            (copy/f).parent.mkdir(parents=True, exist_ok=True); shutil.copyfile(root/f, copy/f)
        for what, cmd in (('nbdev_clean leaves the tree unchanged', [bin_dir/'nbdev_clean']),
                          ('nbdev_export leaves the tree unchanged', [bin_dir/'nbdev_export']),
                          ('README.md is what nbs/index.ipynb makes', [sys.executable, '.ci/readme.py'])):
            before = contents(copy)
            rc, out, s = run(cmd, 300, cwd=copy)
            note = verdict(rc, out, s) if rc else '\n'.join(changes(before, contents(copy))[:40])
            tally(what, 'failed' if note else 'passed', s, note and note + '\n-> make export, look at the difference, commit')

# ---- 3 the notebooks
def notebooks():
    "Those that nbdev_test would take; the longer ones, which have no number, first"
    fs = [p for p in (root/'nbs').rglob('*.ipynb') if not any(x[0] in '._' for x in p.relative_to(root/'nbs').parts)]
    return sorted(fs, key=lambda p: (p.name[0].isdigit(), str(p)))

def flagged(fs):
    "How many code cells the flags leave out, by flag"
    cfg = ConfigParser(delimiters=['=']); cfg.read(root/'settings.ini', encoding='utf-8')
    n = dict.fromkeys(cfg['DEFAULT']['tst_flags'].split(), 0)
    for f in fs:
        for c in json.loads(f.read_text(encoding='utf-8'))['cells']:
            lead = re.match(r'(?:\s*#\|[^\n]*\n?)*', ''.join(c['source'])).group() if c['cell_type'] == 'code' else ''
            for k in n: n[k] += bool(re.search(rf'#\|\s*{k}\s*$', lead, flags=re.M))
    return {k: v for k, v in n.items() if v}

def nbdev_tests(limit=900):
    fs = notebooks()
    if not fs: return tally('notebooks under nbs/', 'failed', note='there are none')
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as ex:
        todo = {ex.submit(run, [bin_dir/'nbdev_test', '--path', f], limit, drop=('MELANOMA_DATA',)): f for f in fs}
        for t in as_completed(todo):
            rc, out, s = t.result()
            ok = rc == 0 and 'No files were eligible' not in out
            tally(str(todo[t].relative_to(root)), 'passed' if ok else 'failed', s, '' if ok else verdict(rc, out, s))
    n = flagged(fs)
    if n: print(f"  (left out by flag: {', '.join(f'{v} cells {k}' for k, v in n.items())}; nbdev_test --flags '{' '.join(n)}' runs them)")

# ---- 4 the tests
def pytests(limit=1500):
    if not list((root/'tests').glob('test_*.py')): return tally('pytest tests/', 'failed', note='there are no tests under tests/')
    with tempfile.TemporaryDirectory() as d:
        xml = Path(d)/'junit.xml'
        rc, _, s = run([sys.executable, '-m', 'pytest', 'tests', '-q', '-rs', '--tb=short', '--color=no', '-p', 'no:cacheprovider', f'--junitxml={xml}'], limit, stream=True)
        cases = list(ET.parse(xml).getroot().iter('testcase')) if xml.exists() else []
    before = counts['failed']
    for c in cases:
        name = f"{c.get('classname', '').replace('.', '/')}::{c.get('name')}"
        bad, skip = [x for x in c if x.tag in ('failure', 'error')], c.find('skipped')
        if bad: tally(name, 'failed', float(c.get('time', 0)), (bad[0].get('message') or '').splitlines()[0][:240] if bad[0].get('message') else '')
        elif skip is not None: tally(name, 'skipped', note=(skip.get('message') or '')[:300])
        else: tally(name, 'passed', float(c.get('time', 0)))
    if rc not in (0, 1) or not cases: tally('pytest tests/', 'failed', s, f'pytest did not end as it should ({rc})')
    elif rc == 1 and counts['failed'] == before: tally('pytest tests/', 'failed', s, 'pytest failed outside its tests')

if __name__ == '__main__':
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(sig, stopped)
    steps = {'1': ('the stack', stack), '2': ('the tree', tree), '3': ('nbdev_test', nbdev_tests), '4': ('pytest', pytests)}
    for k in sys.argv[1:] or steps:
        title, f = steps[k]
        print(f'== {title}', flush=True)
        try: f()
        except Exception as e: tally(title, 'failed', note=f'{type(e).__name__}: {e}')
    for s in skips: print(f'skipped  {s}')
    for f in failures: print(f'failed   {f}')
    print(f'{(time.time() - began)/60:.1f} minutes')
    print(f"{counts['passed']} passed, {counts['failed']} failed" + (f", {counts['skipped']} skipped" if counts['skipped'] else ''), flush=True)
    sys.exit(bool(counts['failed']))
