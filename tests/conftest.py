"What the tests share: the browser, the page on a free port, an environment with the wheel in it."
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PAGE = [sys.executable, '-m', 'melanoma_nbdev.bedside.serve']  # as melanoma_app, of this tree
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
CHROMIUM_ARGS = [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync']
NO_NETWORK = re.compile(
    r'dns error|[Ff]ailed to (fetch|connect)|connection|timed? ?out|unreachable|resolve host'
    r'|NewConnectionError')
KEPT = "navigator.serviceWorker.ready.then(kept => kept.active.state == 'activated')"
AXE = 'axe-core@4.14.1'
AXE_SHA256 = '29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c'
WHEEL_NEEDS = ('settings.ini', 'setup.py', 'MANIFEST.in', 'README.md', 'LICENSE',
               'constraints.txt', 'melanoma_nbdev')


def outside(**more):
    "An environment in which the tree and the data cannot be found."
    hidden = ('PYTHONPATH', 'MELANOMA_DATA', 'VIRTUAL_ENV')
    return {**{k: v for k, v in os.environ.items() if k not in hidden}, **more}


def run(command, cwd, **kwargs):
    "A finished command, away from the tree and the data."
    return subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=300, env=outside(), **kwargs)


def absent(why):
    "Skip in plain words; where a browser is required (`.ci/run`), fail."
    if os.environ.get('MELANOMA_REQUIRE_BROWSER') == '1':
        pytest.fail(f'{why}, and MELANOMA_REQUIRE_BROWSER=1 forbids the skip', pytrace=False)
    pytest.skip(f'{why}: the page was not tried in a browser '
                '(Debian, Ubuntu: apt-get install chromium)')


def starts(path):
    "Does this browser start?"
    command = [path, '--version']
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0


@pytest.fixture(scope='session')
def chromium():
    "Path of a Chromium that starts."
    for name in (os.environ.get('CHROMIUM', ''), *BROWSERS):
        path = shutil.which(name) if name else None
        if path and starts(path): return path
    absent('no Chromium on this machine')


@pytest.fixture(scope='session')
def playwright():
    "Playwright itself, which knows browsers and devices."
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent('no Playwright in this environment')
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope='session')
def browser(playwright, chromium):
    "A headless Chromium under Playwright."
    started = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
    yield started
    started.close()


def fetch_axe(kept):
    "Write axe-core's one file, as npm gives it and as its hash pins it."
    folder = kept.parent
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(['npm', 'pack', AXE, '--silent'], cwd=folder, capture_output=True,
                          text=True)
    if done.returncode: pytest.skip(f'npm could not fetch {AXE}: accessibility was not tried')
    packed = folder/done.stdout.split()[-1]
    with tarfile.open(packed) as files:
        kept.write_bytes(files.extractfile('package/axe.min.js').read())
    packed.unlink()


@pytest.fixture(scope='session')
def axe():
    "The source of axe-core, which looks for faults of accessibility."
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home()/'.cache')
    kept = cache/'melanoma_nbdev'/f'{AXE}.js'
    if not kept.is_file():
        if not shutil.which('npm'): pytest.skip(f'no npm to fetch {AXE}')
        fetch_axe(kept)
    assert sha256(kept.read_bytes()).hexdigest() == AXE_SHA256, f'{kept} is not {AXE}; remove it'
    return kept.read_text()


def until(page, condition, arg=None, seconds=120):
    "Wait until an expression is true. Playwright's own waiting needs a policy that allows eval."
    began = time.time()
    while not page.evaluate(condition, arg):
        assert time.time() < began + seconds, condition
        page.wait_for_timeout(50)


def free_port():
    "A port that nobody listens on."
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


class Served:
    "`melanoma_app` as a process: `url` once it answers, `log()`, `stop()` with all it started."
    def __init__(self, command, cwd, log, env=None, wait=120):
        self._log = Path(log)
        env = {**os.environ, 'BROWSER': 'true', 'PYTHONUNBUFFERED': '1', **(env or {})}
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL,
            stdout=open(log, 'wb'), stderr=subprocess.STDOUT, start_new_session=True)
        self.url = self._wait_for_answer(wait)

    def _wait_for_answer(self, wait):
        "The address in the log, once the page answers there."
        began = time.time()
        while time.time() < began + wait and self.process.poll() is None:
            found = re.search(r'https?://[\w.\-\[\]:]+:\d+\S*', self.log())
            url = found.group().rstrip('.,)') if found else None
            if url and self.answers(url): return url
            time.sleep(.3)
        status = self.process.poll()
        self.stop()
        raise AssertionError(f'the page did not come up in {time.time() - began:.0f} s '
                             f'(exit status {status}):\n{self.log()[-3000:]}')

    def answers(self, url):
        "Does the page answer at this address?"
        url = url.replace('0.0.0.0', '127.0.0.1')
        try:
            return urllib.request.urlopen(url, timeout=60).status == 200
        except OSError:
            return False

    def log(self):
        "What the process printed."
        return self._log.read_text(errors='replace') if self._log.exists() else ''

    def stop(self):
        "Interrupt, then kill the process and all that it started."
        for number in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(5)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture(scope='session')
def served(tmp_path_factory):
    "The page of this tree, served on a free port."
    folder = tmp_path_factory.mktemp('served')
    command = [*PAGE, '--port', free_port()]
    page = Served(command, folder, folder/'app.log')
    yield page
    page.stop()


@pytest.fixture(scope='session')
def parts():
    "The parts of the static page that come from npm."
    from melanoma_nbdev.bedside.site import fetch_parts
    from melanoma_nbdev.core import MelanomaError
    try: return fetch_parts()
    except MelanomaError as error: pytest.skip(f'{error}: the static page was not tried')


@pytest.fixture(scope='session')
def site(parts, tmp_path_factory):
    "The static page in a folder."
    from melanoma_nbdev.bedside.site import write_site
    return write_site(tmp_path_factory.mktemp('site')/'melanoma', parts=parts)


@pytest.fixture(scope='session')
def wheel(tmp_path_factory):
    "The wheel built from a copy of the tree: building leaves nothing behind in it."
    folder = tmp_path_factory.mktemp('wheel')
    source = folder/'src'
    source.mkdir()
    for name in WHEEL_NEEDS:
        if (ROOT/name).is_dir():
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT/name, source/name, ignore=ignored)
        else:
            shutil.copyfile(ROOT/name, source/name)
    command = [sys.executable, '-m', 'build', '--wheel', '--no-isolation']
    done = subprocess.run([*command, '--outdir', str(folder/'dist'), str(source)],
                          capture_output=True, text=True)
    assert done.returncode == 0, f'{done.stdout[-2000:]}\n{done.stderr[-2000:]}'
    return next((folder/'dist').glob('*.whl'))


@pytest.fixture(scope='session')
def light_env(wheel, tmp_path_factory):
    "`bin` of an environment with the wheel and what it asks for; it knows nothing of the tree."
    folder = tmp_path_factory.mktemp('light')/'env'
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(folder)], check=True)
    uv = shutil.which('uv', path=f'{BIN}{os.pathsep}{os.environ["PATH"]}')
    pip = [uv, 'pip', 'install'] if uv else [sys.executable, '-m', 'pip', 'install']
    target = ['-q', '--python', folder/'bin'/'python']
    command = [*pip, *target, '-c', ROOT/'constraints.txt', wheel]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    offline = NO_NETWORK.search(done.stderr) and 'No solution' not in done.stderr
    if done.returncode and offline:
        pytest.skip('the package index cannot be reached: the wheel was not tried by itself')
    assert done.returncode == 0, done.stderr[-3000:]
    return folder/'bin'
