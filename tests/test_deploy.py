"""The page as others serve it: behind nginx under a name, from the Dockerfile's steps one by one
and without a network, and with the files that compose, Binder and Hugging Face Spaces read; the
static page as nginx serves it where nobody has configured anything, and with what IIS needs."""
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from conftest import CHROMIUM_ARGS, KEPT, PAGE, ROOT, Served, free_port, outside, until
from PIL import Image

PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
NAME = 'skin.example'


# ---- nginx

FRAME = """
daemon off; user root; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    include {folder}/page.conf;
}}
"""


@pytest.fixture(scope='module')
def nginx():
    "The path of nginx."
    found = shutil.which('nginx', path=f"{os.environ['PATH']}:/usr/sbin")
    return found or pytest.skip('no nginx on this machine (Debian: apt-get install nginx-light)')


def framed(nginx, folder, conf):
    "The command of an nginx with a configuration, in a frame that needs no rights."
    (folder/'page.conf').write_text(conf)
    (folder/'nginx.conf').write_text(FRAME.format(folder=folder))
    command = [nginx, '-p', str(folder), '-e', f'{folder}/error.log']
    command += ['-c', f'{folder}/nginx.conf']
    done = subprocess.run([*command, '-t'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return command


def configured(nginx, folder, port, page_port):
    "deploy/nginx.conf with other ports."
    text = (ROOT/'deploy'/'nginx.conf').read_text()
    assert text.count('listen 80') == 2 and text.count('127.0.0.1:8866') == 1
    text = text.replace('listen 80', f'listen 127.0.0.1:{port}')
    return framed(nginx, folder, text.replace('127.0.0.1:8866', f'127.0.0.1:{page_port}'))


@pytest.fixture(scope='module')
def behind(nginx, tmp_path_factory):
    "The port of an nginx that has the page behind it."
    folder = tmp_path_factory.mktemp('nginx')
    port, page_port = free_port(), free_port()
    command = configured(nginx, folder, port, page_port)
    page = [*PAGE, '--port', page_port, '--no_browser', '--names', NAME, '--patience', 8]
    server = Served(page, folder, folder/'page.log', wait=180)
    process = subprocess.Popen(command)
    time.sleep(1)
    yield port
    process.terminate()
    process.wait(10)
    server.stop()


def get(port, host):
    "Status and headers of the page, asked by a name; no status where the line was cut."
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
    connection.request('GET', '/', headers=dict(Host=host))
    try:
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    except http.client.RemoteDisconnected:
        return None, {}


def test_nginx_names_and_headers(behind):
    "The page's own headers arrive; who asks by another name gets nothing."
    status, headers = get(behind, NAME)
    assert status == 200 and headers['Server'] == 'nginx'
    assert f' wss://{NAME};' in headers['Content-Security-Policy']
    assert headers['X-Content-Type-Options'] == 'nosniff'
    assert '_xsrf' in headers['Set-Cookie']
    for name in ('evil.example', '127.0.0.1', f'{NAME}.evil.example'):
        assert get(behind, name)[0] is None, name


def test_nginx_carries_pictures(behind, browser, chromium, tmp_path):
    "Through nginx a picture of 8 MB is answered, by name; nothing is asked of another host."
    big = tmp_path/'big.png'
    Image.effect_noise((1700, 1700), 90).convert('RGB').save(big)
    assert big.stat().st_size > 7e6 or Image.open(big).size == (1700, 1700)
    rule = f'--host-resolver-rules=MAP {NAME} 127.0.0.1'
    url = f'http://{NAME}:{behind}/'
    named = browser.browser_type.launch(executable_path=chromium, args=[*CHROMIUM_ARGS, rule])
    page, asked = named.new_page(), []
    page.set_default_timeout(120_000)
    page.on('request', lambda request: asked.append(request.url))
    page.goto(url, wait_until='commit')
    page.wait_for_selector('.mel-btn.primary:not(:disabled)')
    with page.expect_file_chooser() as chooser: page.click('.mel-btn.primary')
    chooser.value.set_files([PHANTOMS[0], big])
    until(page, "document.querySelectorAll('.answers article').length == 2")
    assert page.locator('#gone').is_hidden()
    assert not [one for one in asked if not one.startswith((url, 'data:', 'blob:'))]
    named.close()


# ---- the static page

KNOWN_TO_IIS = {'.css', '.html', '.jpg', '.js', '.txt'}
SERVING = """
include {types}; default_type application/octet-stream;
server {{ listen 127.0.0.1:{port}; root {folder}; }}
"""


def stock_types(nginx):
    "The table of endings that nginx was installed with."
    told = subprocess.run([nginx, '-V'], capture_output=True, text=True).stderr
    return Path(re.search(r'--conf-path=(\S+)', told)[1]).with_name('mime.types')


@pytest.fixture
def static(nginx, site, tmp_path):
    "The address of the static page, served by nginx with the endings it was installed with."
    port = free_port()
    conf = SERVING.format(types=stock_types(nginx), port=port, folder=site.parent)
    process = subprocess.Popen(framed(nginx, tmp_path, conf))
    time.sleep(1)
    yield f'http://127.0.0.1:{port}/{site.name}/'
    process.terminate()
    process.wait(10)


def test_nginx_serves_the_static_page(static, browser):
    "With nothing configured, the page gets ready, answers an example, and is kept."
    page, failed = browser.new_page(), []
    page.set_default_timeout(60_000)
    page.on('console', lambda said: failed.append(said.text) if said.type == 'error' else None)
    page.goto(static)
    page.wait_for_selector('.mel-btn.primary')
    page.click('.thumb >> nth=0')
    page.wait_for_selector('article.answer:visible >> text=risk of melanoma')
    until(page, KEPT)
    assert not failed
    page.close()


def test_iis_gets_the_endings_it_lacks(site):
    "Each ending in the folder is one that IIS knows, or the web.config of 69_site names it."
    notebook = json.loads((ROOT/'nbs'/'bedside'/'69_site.ipynb').read_text('utf-8'))
    text = '\n'.join(''.join(cell['source']) for cell in notebook['cells'])
    config = ElementTree.fromstring(re.search(r'```xml\n(.*?)```', text, re.S)[1])
    added, removed = ([one.get('fileExtension') for one in config.iter(tag)]
                      for tag in ('mimeMap', 'remove'))
    endings = {path.suffix for path in site.rglob('*') if path.is_file()}
    assert added == removed == sorted(endings - KNOWN_TO_IIS)


# ---- the container

def steps():
    "The Dockerfile's instructions as (word, rest)."
    text = (ROOT/'Dockerfile').read_text().replace('\\\n', ' ')
    return [line.split(maxsplit=1) for line in text.splitlines() if re.match('[A-Z]+ ', line)]


def rest_of(word):
    "What stands behind each instruction of a kind."
    return [rest for found, rest in steps() if found == word]


def copied(folder):
    "A folder with what the Dockerfile copies, and nothing else."
    for rest in rest_of('COPY'):
        *names, target = rest.split()
        for name in names:
            place = folder/target/name if target == './' else folder/target
            if (ROOT/name).is_dir():
                shutil.copytree(ROOT/name, place, ignore=shutil.ignore_patterns('__pycache__'))
            else: shutil.copyfile(ROOT/name, place)


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "`bin` of an environment made by the Dockerfile's own pip line, from the copied files alone."
    folder = tmp_path_factory.mktemp('docker')
    source = folder/'src'
    source.mkdir()
    copied(source)
    subprocess.run([sys.executable, '-m', 'venv', str(folder/'env')], check=True)
    line = next(rest for rest in rest_of('RUN') if 'pip install' in rest).split('&&')[0]
    done = subprocess.run(f'{folder}/env/bin/{line.strip()}', shell=True, cwd=source, text=True,
                          capture_output=True, env=outside(), timeout=580)
    if done.returncode and re.search('Connection|resolve|timed out|No matching', done.stderr):
        pytest.skip('the package index cannot be reached: the steps were not run')
    assert done.returncode == 0, done.stderr[-3000:]
    shutil.rmtree(source)
    return folder/'env'/'bin'


OFFLINE = """
import os, subprocess, sys, time
command, check, folder = eval(sys.argv[1]), eval(sys.argv[2]), sys.argv[3]
links = open('/proc/net/dev').read()
page = subprocess.Popen(command, stdout=open(f'{folder}/log', 'w'), stderr=subprocess.STDOUT)
for _ in range(120):
    time.sleep(1)
    if subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0: break
else: sys.exit('the health check never passed: ' + open(f'{folder}/log').read())
url = [word for word in open(f'{folder}/log').read().split() if word.startswith('http')][0]
import urllib.request
text = urllib.request.urlopen(url, timeout=120).read().decode()
page.terminate()
page.wait(20)
print('kernelId' in text and 'Not a medical device' in text, 'eth' in links, 'token=' in url)
"""


def test_dockerfile_steps_without_network(built, tmp_path):
    "What the Dockerfile installs starts by its CMD and passes its HEALTHCHECK with no network."
    unshare = ['unshare', '-rn', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']
    if subprocess.run([*unshare, 'true'], capture_output=True).returncode:
        pytest.skip('this machine lets nobody turn the network off for one process')
    command, check = json.loads(rest_of('CMD')[-1]), rest_of('HEALTHCHECK')[0]
    check = json.loads(check[check.index('['):])
    command[0], check[0] = str(built/command[0]), str(built/check[0])
    env = outside(HOME=str(tmp_path), PYTHONUNBUFFERED='1', PATH=f"{built}:{os.environ['PATH']}")
    done = subprocess.run(
        [*unshare, sys.executable, '-c', OFFLINE, repr(command), repr(check), str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env=env, timeout=300)
    assert done.stdout.split() == ['True', 'False', 'True'], done.stdout + done.stderr[-2000:]


def test_container_is_no_root():
    "The page runs under a user of its own, and what is copied is let through."
    words = [word for word, _ in steps()]
    assert rest_of('USER') == ['page'] and words.index('USER') < words.index('CMD')
    assert words.index('USER') > max(place for place, word in enumerate(words) if word == 'RUN')
    ignored = (ROOT/'.dockerignore').read_text().split()
    for rest in rest_of('COPY'):
        assert all(f'!{name}' in ignored for name in rest.split()[:-1])


# ---- files that others read

def test_compose():
    "The container may write to memory only, has no privileges, and is published to this machine."
    page = yaml.safe_load((ROOT/'compose.yaml').read_text())['services']['page']
    port = rest_of('EXPOSE')[0]
    assert page['ports'] == [f'127.0.0.1:{port}:{port}']
    assert page['read_only'] and page['cap_drop'] == ['ALL'] and page['mem_limit'] == '2g'
    assert page['security_opt'] == ['no-new-privileges:true']
    assert 'MELANOMA_TOKEN' in page['environment']
    user = re.search(r'--uid (\d+)', ' '.join(rest_of('RUN'))).group(1)
    assert f'/home/page:uid={user},mode=0700' in page['tmpfs']


def test_binder():
    "Binder gets a Python that the package takes, this package, and the releases that are named."
    lines = (ROOT/'binder'/'requirements.txt').read_text().split('\n')
    assert lines[0] == '-c ../constraints.txt' and '.' in lines
    assert (ROOT/'binder'/lines[0].split()[1]).resolve() == ROOT/'constraints.txt'
    version = (ROOT/'binder'/'runtime.txt').read_text().strip().removeprefix('python-')
    assert rest_of('FROM')[0] == f'python:{version}-slim'


def test_spaces():
    "A Space's head names the port on which the container listens."
    head = (ROOT/'deploy'/'spaces'/'README.md').read_text().split('---')[1]
    facts = yaml.safe_load(head)
    assert facts['sdk'] == 'docker' and str(facts['app_port']) == rest_of('EXPOSE')[0]
