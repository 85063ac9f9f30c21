"Runs that are killed, starved, spread over processes: the command, as a user starts it."

import os, random, resource, signal, subprocess, sys, time
from pathlib import Path

import pandas as pd, psutil, pytest
from conftest import ROOT

BIN = Path(sys.executable).parent
ARGS = [
    '--data',
    'phantom',
    '--preset',
    'nano',
    '--size',
    '32',
    '--folds',
    '3',
    '--epochs',
    '5',
    '--threads',
    '1',
    '--ema',
    '.9',
    '--accumulate',
    '2',
    '--tfms',
    'full',
    '--tta',
    '2',
]

TRAINING = 'melanoma_nbdev.training.command'


def env():
    return {
        **{
            k: v
            for k, v in os.environ.items()
            if k not in ('MELANOMA_DATA', 'RAY_ADDRESS', 'RANK', 'WORLD_SIZE')
        },
        'OMP_NUM_THREADS': '1',
        'PYTHONUNBUFFERED': '1',
    }


def start(out, *more, launcher=(BIN / 'melanoma_train',), **kw):
    "The command in a process group of its own, its output a pipe"
    return subprocess.Popen(
        [*map(str, launcher), *ARGS, '--out', str(out), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env(),
        start_new_session=True,
        **kw,
    )


def finish(p, limit=300):
    try:
        out, _ = p.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        said = p.communicate()[0][-2000:]
        raise AssertionError(f'no end after {limit} s: {said}') from None
    return p.returncode, out


def until(p, word):
    "Read lines until one holds `word`"
    seen = []
    for line in p.stdout:
        seen.append(line)
        if word in line:
            return seen
    raise AssertionError(f'{word!r} never came: {"".join(seen)[-2000:]}')


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nothing disturbs, and the seconds from its first line to its end"
    out = tmp_path_factory.mktemp('whole') / 'run'
    p = start(out)
    until(p, 'run ')
    began = time.time()
    rc, text = finish(p)
    assert rc == 0, text
    return out, time.time() - began


def test_killed_three_times(whole, tmp_path):
    "kill -9 at three random moments, --resume each time: the same bytes"
    out, took = whole
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    run, killed = tmp_path / 'run', 0
    while killed < 3:
        p = start(run, *(['--resume'] if (run / 'config.json').exists() else []))
        until(p, 'run ')
        for _ in range(rng.randint(1, 4)):
            until(
                p, ' epoch '
            )  # at most 12 of the run's 15 epochs in all, so that there is something to kill
        time.sleep(rng.uniform(0, took / 15))
        assert p.poll() is None, f'ended before it could be killed (seed {seed})'
        killed += 1
        os.killpg(p.pid, signal.SIGKILL)
        p.communicate()
        assert (
            not (run / 'oof.csv').exists()
            or pd.read_csv(run / 'oof.csv').shape[0] == pd.read_csv(out / 'oof.csv').shape[0]
        ), f'half a file (seed {seed})'
    rc, text = finish(start(run, '--resume'))
    assert rc == 0, text
    for f in ('oof.csv', 'oof_best.csv', *(f'fold{k}/model.safetensors' for k in range(3))):
        assert (run / f).read_bytes() == (out / f).read_bytes(), f'{f} differs (seed {seed})'


def test_no_room(whole, tmp_path):
    """Where a file cannot be written whole, the run says so, keeps its finished folds, and goes on
    when there is room"""
    out, _ = whole
    run = tmp_path / 'run'
    rc, text = finish(start(run, '--only', '0'))
    assert rc == 0, text
    before = (run / 'fold0' / 'oof.csv').read_bytes()
    limit = 100_000  # bytes: a table fits, the weights do not
    rc, text = finish(
        start(
            run,
            '--resume',
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
    )
    assert rc == 1 and 'make room' in text and '--resume' in text and 'Traceback' not in text, text
    assert (
        (run / 'fold0' / 'oof.csv').read_bytes() == before
        and not (run / 'fold1' / 'model.safetensors').exists()
        and not (run / 'oof.csv').exists()
    )
    rc, text = finish(start(run, '--resume'))
    assert rc == 0, text
    assert (run / 'oof.csv').read_bytes() == (out / 'oof.csv').read_bytes()


def test_not_a_number(tmp_path):
    rc, text = finish(start(tmp_path / 'run', '--lr', '1e30', '--head_lr', '1e30', '--only', '0'))
    assert rc == 1 and 'lower --lr' in text and 'Traceback' not in text, text
    assert not (tmp_path / 'run' / 'fold0' / 'checkpoint.safetensors').exists()


def test_ray_with_a_worker_killed(whole, tmp_path):
    "Two local workers, one killed in the middle: the bytes of the sequential run"
    pytest.importorskip('ray')
    out, _ = whole
    run = tmp_path / 'run'
    p = start(run, '--engine', 'ray', '--workers', '2')
    until(p, 'epoch 1/5')
    tasks = [
        c
        for c in psutil.Process(p.pid).children(recursive=True)
        if c.is_running() and any('fold' in x for x in c.cmdline()[:1])
    ]
    assert tasks, 'no worker of a fold was found'
    tasks[0].kill()
    rc, text = finish(p)
    assert rc == 0, text
    assert (run / 'oof.csv').read_bytes() == (out / 'oof.csv').read_bytes()


def test_two_processes_one_fold(tmp_path):
    "torchrun: one run folder, written by one of the two, with every image in it"
    pytest.importorskip('accelerate')
    run = tmp_path / 'run'
    rc, text = finish(
        start(
            run,
            '--full',
            launcher=(BIN / 'torchrun', '--nproc_per_node', '2', '-m', TRAINING),
            cwd=ROOT,
        )
    )
    assert rc == 0, text
    assert '2 processes' in text and text.count('fold 0 epoch 1/5') == 1, text
    assert (
        pd.read_csv(run / 'oof.csv').image_id.nunique() == 240
        and (run / 'full' / 'model.safetensors').exists()
    )
