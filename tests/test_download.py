"""Downloads from a server on this machine that cuts the connection, stalls, sends wrong bytes,
errs, changes its file and ignores ranges."""

import http.server
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest

pytest.importorskip('pooch')
from melanoma_nbdev.core import ManifestError, read_json, sha256
from melanoma_nbdev.data import command
from melanoma_nbdev.data.download import fetch, get_source
from melanoma_nbdev.data.sources import SOURCES, Source, SourceFile

BODY = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()


class Archive(http.server.BaseHTTPRequestHandler):
    """Serves BODY; the first part of the path says how badly. The server object counts requests and
    remembers the ranges asked for."""

    protocol_version = 'HTTP/1.1'

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.send_response(200)
        self.send_header('Content-Length', str(len(self.server.body)))
        self.end_headers()

    def do_GET(self):
        mode = self.path.split('/')[1]
        self.server.hits += 1
        self.server.ranges.append(self.headers.get('Range'))
        if mode == 'gone':
            self.send_error(404)
        elif mode == 'busy' and self.server.hits < 3:
            self.send_error(503)
        else:
            self.send_body(mode)

    def send_body(self, mode):
        "The headers, and of the body what this mode of failing lets through."
        server = self.server
        body = server.body[::-1] if mode == 'changes' and server.hits > 1 else server.body
        tag = f'"{sha256(body)[:16]}"'
        start = self.start(mode, tag)
        self.send_response(206 if start else 200)
        self.send_header('ETag', tag)
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        self.send_some(mode, body[start:])
        self.close_connection = True

    def start(self, mode, tag):
        "Where the answer begins: what was asked for, if the server knows ranges and has this file."
        asked = self.headers.get('Range')
        if not asked or mode == 'norange' or self.headers.get('If-Range') not in (None, tag):
            return 0
        return begin(asked)

    def send_some(self, mode, body):
        "As much of the body as a broken server sends."
        server = self.server
        attempts_cut = dict(cuts=3, changes=3, norange=1, stalls=2).get(mode, 0)
        stalls = mode == 'stalls' and server.hits <= attempts_cut
        if server.hits <= attempts_cut:
            body = body[:700_000]
        elif mode == 'dead':
            body = b''
        elif mode == 'wrong':
            body = bytes(len(body))
        try:
            self.wfile.write(body)
            self.wfile.flush()
            if stalls:
                server.woken.wait(20)
        except OSError:
            pass


def begin(asked):
    "The first byte of a range."
    return int(asked[6:].split('-')[0]) if asked else 0


@pytest.fixture
def server():
    "The archive on a free port."
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Archive)
    server.daemon_threads = True
    server.body, server.hits, server.ranges = BODY, 0, []
    server.woken = threading.Event()
    server.at = f'http://127.0.0.1:{server.server_address[1]}'
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.woken.set()
    server.shutdown()
    server.server_close()


FAST = dict(progress=False, wait=0.01, timeout=2)
GOOD = 'sha256:' + sha256(BODY)


def names_in(folder):
    "The names of what lies in a folder."
    return sorted(path.name for path in folder.iterdir())


def fetch_body(server, folder, mode, checksum=GOOD, **options):
    "What `fetch` brings from a server that fails in this way."
    path = fetch(f'{server.at}/{mode}/x.zip', folder / 'x.zip', checksum, **(FAST | options))
    return path.read_bytes()


def test_good(server, tmp_path):
    assert fetch_body(server, tmp_path, 'good') == BODY
    assert names_in(tmp_path) == ['x.zip']
    assert server.hits == 1
    fetch_body(server, tmp_path, 'good')
    assert server.hits == 1  # what is there and right is not fetched again


def test_cut_connection_goes_on(server, tmp_path):
    assert fetch_body(server, tmp_path, 'cuts') == BODY
    starts = [begin(asked) for asked in server.ranges]
    assert server.hits == 4
    assert starts[0] == 0
    assert starts[1] > 600_000
    assert starts[3] > starts[2] > starts[1]
    assert names_in(tmp_path) == ['x.zip']


def test_stall_counts_as_cut(server, tmp_path):
    began = time.time()
    assert fetch_body(server, tmp_path, 'stalls', timeout=1) == BODY
    assert time.time() - began < 15
    assert begin(server.ranges[1]) > 600_000


def test_busy_server_is_asked_again(server, tmp_path):
    assert fetch_body(server, tmp_path, 'busy') == BODY


def test_wrong_bytes_are_refused_and_removed(server, tmp_path):
    with pytest.raises(ManifestError, match='checksum is wrong.*was removed'):
        fetch_body(server, tmp_path, 'wrong')
    assert names_in(tmp_path) == []


def test_file_that_changes_half_way_is_begun_anew(server, tmp_path):
    "Never half of one and half of the other."
    assert fetch_body(server, tmp_path, 'changes', checksum=None) == BODY[::-1]


def test_server_without_ranges(server, tmp_path):
    assert fetch_body(server, tmp_path, 'norange') == BODY


def test_dead_server_gives_up_with_a_sentence(server, tmp_path):
    with pytest.raises(ManifestError, match='does not get further .*run the command again'):
        fetch_body(server, tmp_path, 'dead', tries=3)
    assert server.hits == 3


def test_nobody_listens(tmp_path):
    with pytest.raises(ManifestError, match='no connection to the server'):
        fetch('http://127.0.0.1:9/x.zip', tmp_path / 'x.zip', tries=2, **FAST)


def test_missing_file(server, tmp_path):
    with pytest.raises(ManifestError, match='answers 404'):
        fetch_body(server, tmp_path, 'gone')
    assert server.hits == 1


def begin_and_kill(server, folder):
    "Start a download in another process, kill it while the server stalls; the bytes that arrived."
    script = (
        'from melanoma_nbdev.data.download import fetch\n'
        f'fetch({server.at + "/stalls/x.zip"!r}, {str(folder / "x.zip")!r}, {GOOD!r},'
        ' progress=False, timeout=60)'
    )
    process = subprocess.Popen([sys.executable, '-c', script])
    part = folder / 'x.zip.part'
    for _ in range(1200):
        if part.exists() and part.stat().st_size:
            break
        time.sleep(0.05)
        assert process.poll() is None
    time.sleep(0.5)
    process.kill()
    process.wait()
    return part.stat().st_size


def test_killed_download_goes_on_in_the_next_run(server, tmp_path):
    "The process dies while the server stalls; a new process asks only for the rest."
    arrived = begin_and_kill(server, tmp_path)
    assert 0 < arrived < len(BODY)
    assert not (tmp_path / 'x.zip').exists()
    server.hits = 10
    server.ranges.clear()
    server.woken.set()
    assert fetch_body(server, tmp_path, 'stalls') == BODY
    assert server.ranges == [f'bytes={arrived}-']
    assert 'x.zip.part' not in names_in(tmp_path)


@pytest.fixture
def toy(server, tmp_path):
    "The data folder for a source of one archive that is cut on the way."
    path = tmp_path / 'made.zip'
    with zipfile.ZipFile(path, 'w') as archive:
        for number in range(40):
            content = BODY[number * 50_000 : (number + 1) * 50_000]
            archive.writestr(f'train/im{number}.jpg', content)
    server.body = path.read_bytes()
    SOURCES['toy'] = Source(
        name='toy',
        folder='toy',
        title='A toy',
        tables=('t.csv',),
        images=('jpeg/train',),
        licence='CC0',
        url='https://example.org',
        files=(SourceFile('b.zip', f'{server.at}/cuts/b.zip', 'jpeg'),),
    )
    yield tmp_path / 'home'
    del SOURCES['toy']


def test_get_source_through_a_bad_line(toy, server):
    folder = get_source('toy', toy, **FAST)
    assert len(list((folder / 'jpeg' / 'train').glob('*.jpg'))) == 40
    assert names_in(folder) == ['jpeg', 'source.json']
    note = read_json(folder / 'source.json')
    assert note['licence'] == 'CC0'
    assert note['files']['b.zip']['sha256'] == sha256(server.body)
    hits = server.hits
    get_source('toy', toy, **FAST)
    assert server.hits == hits


class FullDisk:
    "What `shutil.disk_usage` says of a disk that is nearly full."

    free = 10**6


def test_disk_space_is_checked_before_the_start(toy, server, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda path: FullDisk)
    with pytest.raises(ManifestError, match='GB are needed'):
        get_source('toy', toy, **FAST)
    assert server.hits == 0


def test_command_prints_the_licence_first(toy, server, capsys, monkeypatch):
    def no_room(*args, **kwargs):
        raise ManifestError('no room')

    monkeypatch.setattr(command, 'get_source', no_room)
    with pytest.raises(SystemExit):
        command.melanoma_data(['get', 'toy', '--root', str(toy)])
    said = capsys.readouterr()
    assert 'licence CC0' in said.out
    assert 'no room' in said.err
