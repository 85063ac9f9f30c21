"""Downloads from a server on this machine that cuts the connection, stalls, sends wrong bytes,
errs, changes its file and ignores ranges."""

import http.server, subprocess, sys, threading, time, zipfile

import numpy as np, pytest

pytest.importorskip('pooch')
from melanoma_nbdev.data import command
from melanoma_nbdev.core import ManifestError, read_json, sha256
from melanoma_nbdev.data.download import fetch, get_source
from melanoma_nbdev.data.manifest import SOURCES, Source

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
        s = self.server
        body = s.body
        if mode == 'changes' and s.hits > 1:
            body = body[::-1]
        tag = f'"{sha256(body)[:16]}"'
        start = 0
        want = self.headers.get('Range')
        if want and mode != 'norange' and self.headers.get('If-Range') in (None, tag):
            start = int(want[6:].split('-')[0])
        self.send_response(206 if start else 200)
        self.send_header('ETag', tag)
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        self.send_some(mode, body[start:])
        self.close_connection = True

    def send_some(self, mode, out):
        "As much of the body as a broken server sends."
        s = self.server
        if (
            mode in ('cuts', 'changes', 'norange')
            and s.hits < 4
            and not (mode == 'norange' and s.hits > 1)
        ):
            out = out[:700_000]
        if mode == 'dead':
            out = b''
        if mode == 'wrong':
            out = bytes(len(out))
        try:
            self.wfile.write(out[:700_000] if mode == 'stalls' and s.hits < 3 else out)
            self.wfile.flush()
            if mode == 'stalls' and s.hits < 3:
                s.woken.wait(20)
        except OSError:
            pass


@pytest.fixture
def server():
    s = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Archive)
    s.daemon_threads, s.body, s.hits, s.ranges, s.woken = True, BODY, 0, [], threading.Event()
    s.at = f'http://127.0.0.1:{s.server_address[1]}'
    threading.Thread(target=s.serve_forever, daemon=True).start()
    yield s
    s.woken.set()
    s.shutdown()
    s.server_close()


FAST = dict(progress=False, wait=0.01, timeout=2)
GOOD = 'sha256:' + sha256(BODY)


def begin(r):
    return int(r[6:-1]) if r else 0


def left(d):
    return sorted(p.name for p in d.iterdir())


def test_good(server, tmp_path):
    assert fetch(f'{server.at}/good/x.zip', tmp_path / 'x.zip', GOOD, **FAST).read_bytes() == BODY
    assert left(tmp_path) == ['x.zip'] and server.hits == 1
    fetch(f'{server.at}/good/x.zip', tmp_path / 'x.zip', GOOD, **FAST)
    assert server.hits == 1  # what is there and right is not fetched again


def test_cut_connection_goes_on(server, tmp_path):
    assert fetch(f'{server.at}/cuts/x.zip', tmp_path / 'x.zip', GOOD, **FAST).read_bytes() == BODY
    starts = [begin(r) for r in server.ranges]
    assert (
        starts[0] == 0
        and starts[1] > 600_000
        and starts[3] > starts[2] > starts[1]
        and server.hits == 4
        and left(tmp_path) == ['x.zip']
    )


def test_stall_counts_as_cut(server, tmp_path):
    t = time.time()
    assert (
        fetch(
            f'{server.at}/stalls/x.zip',
            tmp_path / 'x.zip',
            GOOD,
            progress=False,
            wait=0.01,
            timeout=1,
        ).read_bytes()
        == BODY
    )
    assert time.time() - t < 15 and begin(server.ranges[1]) > 600_000


def test_busy_server_is_asked_again(server, tmp_path):
    assert fetch(f'{server.at}/busy/x.zip', tmp_path / 'x.zip', GOOD, **FAST).read_bytes() == BODY


def test_wrong_bytes_are_refused_and_removed(server, tmp_path):
    with pytest.raises(ManifestError, match='checksum is wrong.*was removed'):
        fetch(f'{server.at}/wrong/x.zip', tmp_path / 'x.zip', GOOD, **FAST)
    assert left(tmp_path) == []


def test_file_that_changes_half_way_is_begun_anew(server, tmp_path):
    assert (
        fetch(f'{server.at}/changes/x.zip', tmp_path / 'x.zip', **FAST).read_bytes() == BODY[::-1]
    )  # never half of one and half of the other


def test_server_without_ranges(server, tmp_path):
    assert (
        fetch(f'{server.at}/norange/x.zip', tmp_path / 'x.zip', GOOD, **FAST).read_bytes() == BODY
    )


def test_dead_server_gives_up_with_a_sentence(server, tmp_path):
    with pytest.raises(ManifestError, match='does not get further .*run the command again'):
        fetch(f'{server.at}/dead/x.zip', tmp_path / 'x.zip', GOOD, tries=3, **FAST)
    assert server.hits == 3


def test_nobody_listens(tmp_path):
    with pytest.raises(ManifestError, match='no connection to the server'):
        fetch('http://127.0.0.1:9/x.zip', tmp_path / 'x.zip', tries=2, **FAST)


def test_missing_file(server, tmp_path):
    with pytest.raises(ManifestError, match='answers 404'):
        fetch(f'{server.at}/gone/x.zip', tmp_path / 'x.zip', GOOD, **FAST)
    assert server.hits == 1


def test_killed_download_goes_on_in_the_next_run(server, tmp_path):
    "The process dies while the server stalls; a new process asks only for the rest."
    code = (
        f"from melanoma_nbdev.data.download import fetch; fetch('{server.at}/stalls/x.zip', "
        f"r'{tmp_path}/x.zip', '{GOOD}', progress=False, timeout=60)"
    )
    p = subprocess.Popen([sys.executable, '-c', code])
    part = tmp_path / 'x.zip.part'
    for _ in range(1200):
        if part.exists() and part.stat().st_size:
            break
        time.sleep(0.05)
        assert p.poll() is None
    time.sleep(0.5)
    p.kill()
    p.wait()
    have = part.stat().st_size
    assert 0 < have < len(BODY) and not (tmp_path / 'x.zip').exists()
    server.hits = 10
    server.ranges.clear()
    server.woken.set()
    assert fetch(
        f'{server.at}/stalls/x.zip', tmp_path / 'x.zip', GOOD, **FAST
    ).read_bytes() == BODY and server.ranges == [f'bytes={have}-']
    assert 'x.zip.part' not in left(tmp_path)


@pytest.fixture
def toy(server, tmp_path):
    "A source of two files whose archive is cut on the way"
    z = tmp_path / 'made.zip'
    with zipfile.ZipFile(z, 'w') as f:
        for i in range(40):
            f.writestr(f'train/im{i}.jpg', BODY[i * 50_000 : (i + 1) * 50_000])
    server.body = z.read_bytes()
    SOURCES['toy'] = Source(
        'toy',
        'toy',
        'A toy',
        ('t.csv',),
        ('jpeg/train',),
        'CC0',
        'https://example.org',
        {},
        (('b.zip', f'{server.at}/cuts/b.zip', 'jpeg', None),),
    )
    yield tmp_path / 'home'
    del SOURCES['toy']


def test_get_source_through_a_bad_line(toy, server):
    d = get_source('toy', toy, **FAST)
    assert len(list((d / 'jpeg' / 'train').glob('*.jpg'))) == 40 and left(d) == [
        'jpeg',
        'source.json',
    ]
    note = read_json(d / 'source.json')
    assert note['licence'] == 'CC0' and note['files']['b.zip']['sha256'] == sha256(server.body)
    hits = server.hits
    get_source('toy', toy, **FAST)
    assert server.hits == hits


def test_disk_space_is_checked_before_the_start(toy, server, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda p: type('U', (), dict(free=10**6)))
    with pytest.raises(ManifestError, match='GB are needed'):
        get_source('toy', toy, **FAST)
    assert server.hits == 0


def test_command_prints_the_licence_first(toy, server, capsys, monkeypatch):
    monkeypatch.setattr(
        command, 'get_source', lambda *a, **k: (_ for _ in ()).throw(ManifestError('no room'))
    )
    with pytest.raises(SystemExit):
        command.melanoma_data('get', 'toy', root=str(toy))
    said = capsys.readouterr()
    assert 'licence CC0' in said.out and 'no room' in said.err
