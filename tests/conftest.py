"""What the tests share: the browser, the page served on a free port, an environment with the wheel in it."""
import os, re, shutil, signal, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM_ARGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

def absent(why):
    "Skip in plain words; where a browser is required (`.ci/run`), fail"
    if os.environ.get('MELANOMA_REQUIRE_BROWSER') == '1': pytest.fail(f'{why}, and MELANOMA_REQUIRE_BROWSER=1 forbids the skip', pytrace=False)
    pytest.skip(f'{why}: the page was not tried in a browser (Debian, Ubuntu: apt-get install chromium)')

@pytest.fixture(scope='session')
def chromium():
    "Path of a Chromium that starts"
    for name in (os.environ.get('CHROMIUM', ''), 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'):
        path = shutil.which(name) if name else None
        if path and subprocess.run([path, '--version'], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0: return path
    absent('no Chromium on this machine')

@pytest.fixture(scope='session')
def browser(chromium):
    "A headless Chromium under Playwright"
    try: from playwright.sync_api import sync_playwright
    except ImportError: absent('no Playwright in this environment')
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        yield b
        b.close()

def free_port():
    with socket.socket() as s: s.bind(('127.0.0.1', 0)); return s.getsockname()[1]

class Served:
    "`melanoma_app` as a process: `url` once it answers, `log()` for what it said, `stop()`; whatever it started goes with it"
    def __init__(self, cmd, cwd, log, env=None, wait=120):
        self._log = Path(log)
        env = {**os.environ, 'BROWSER': 'true', 'PYTHONUNBUFFERED': '1', **(env or {})}
        self.p = subprocess.Popen([str(c) for c in cmd], cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=open(log, 'wb'), stderr=subprocess.STDOUT, start_new_session=True)
        began = time.time()
        while time.time() < began + wait:
            m = re.search(r'https?://[\w.\-\[\]:]+:\d+\S*', self.log())
            if m and self.answers(m.group().rstrip('.,)')): self.url = m.group().rstrip('.,)'); return
            if self.p.poll() is not None: break
            time.sleep(.3)
        code = self.p.poll(); self.stop()
        raise AssertionError(f'the page did not come up in {time.time() - began:.0f} s (exit status {code}):\n{self.log()[-3000:]}')
    def answers(self, url):
        try: return urllib.request.urlopen(url.replace('0.0.0.0', '127.0.0.1'), timeout=60).status == 200
        except OSError: return False
    def log(self): return self._log.read_text(errors='replace') if self._log.exists() else ''
    def stop(self):
        for s, t in ((signal.SIGINT, 5), (signal.SIGKILL, 5)):
            try: os.killpg(self.p.pid, s)
            except ProcessLookupError: break
            try: self.p.wait(t); break
            except subprocess.TimeoutExpired: pass
        try: os.killpg(self.p.pid, signal.SIGKILL)
        except ProcessLookupError: pass

@pytest.fixture(scope='session')
def served(tmp_path_factory):
    "The page of this tree, served on a free port"
    d = tmp_path_factory.mktemp('served')
    s = Served([Path(sys.executable).parent/'melanoma_app', '--port', free_port()], d, d/'app.log')
    yield s
    s.stop()

@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "The wheel built from a copy of the tree: building leaves nothing behind in it"
    d = tmp_path_factory.mktemp('wheel')
    src = d/'src'
    keep = ['settings.ini', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE', 'constraints.txt', 'melanoma_nbdev']
    src.mkdir()
    for k in keep:
        if (ROOT/k).is_dir(): shutil.copytree(ROOT/k, src/k, ignore=shutil.ignore_patterns('__pycache__'))
        elif (ROOT/k).exists(): shutil.copyfile(ROOT/k, src/k)
    r = subprocess.run([sys.executable, '-m', 'build', '--wheel', '--no-isolation', '--outdir', str(d/'dist'), str(src)], capture_output=True, text=True)
    assert r.returncode == 0, f'{r.stdout[-2000:]}\n{r.stderr[-2000:]}'
    return next((d/'dist').glob('*.whl'))

@pytest.fixture(scope='session')
def light_env(wheel, tmp_path_factory):
    "`bin` folder of an environment that holds the wheel and what it asks for, nothing else, and knows nothing of the tree"
    d = tmp_path_factory.mktemp('light')/'env'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(d)], check=True)
    uv = shutil.which('uv', path=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    cmd = [uv, 'pip', 'install', '-q', '--python', d/'bin'/'python'] if uv else [sys.executable, '-m', 'pip', '--python', d/'bin'/'python', 'install', '-q']
    r = subprocess.run([str(c) for c in cmd] + ['-c', str(ROOT/'constraints.txt'), str(wheel)], capture_output=True, text=True)
    if r.returncode and re.search(r'dns error|[Ff]ailed to (fetch|connect)|connection|timed? ?out|unreachable|resolve host|NewConnectionError', r.stderr) and 'No solution' not in r.stderr:
        pytest.skip('the package index cannot be reached: the wheel was not tried in an environment of its own')
    assert r.returncode == 0, r.stderr[-3000:]
    return d/'bin'
