"Runs that are killed, starved, spread over processes: the command, as a user starts it."
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import BIN, ROOT

OPTIONS = ['--data', 'phantom', '--preset', 'nano', '--size', '32', '--folds', '3',
           '--epochs', '5', '--threads', '1', '--ema', '.9', '--accumulate', '2',
           '--tfms', 'full', '--tta', '2']
HIDDEN = ('MELANOMA_DATA', 'RAY_ADDRESS', 'RANK', 'WORLD_SIZE')
ROOM = 100_000  # bytes: a table fits, the weights do not

# Runs the command in a fresh interpreter, then says on the last line whether torch was loaded.
SAY_TORCH = """
import sys
from melanoma_nbdev.training.command import melanoma_train
try:
    melanoma_train(sys.argv[1:])
finally:
    print('torch loaded:', 'torch' in sys.modules)
"""


def environment():
    "The environment of a run: no data, no cluster, one thread, lines as they come."
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    return {**kept, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'}


def start(out, *more, launcher=(BIN/'melanoma_train',), **kwargs):
    "The command in a process group of its own, its output a pipe."
    command = [*map(str, launcher), *OPTIONS, '--out', str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            env=environment(), start_new_session=True, **kwargs)


def finish(process, limit=300):
    "Exit status and output of a process that ends within `limit` seconds."
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f'no end after {limit} s: {output[-2000:]}') from None
    return process.returncode, output


def succeed(process):
    "The output of a process that ends well."
    status, output = finish(process)
    assert status == 0, output
    return output


def fail_plainly(process, *words):
    "The process ends with a sentence that holds these words, and no traceback."
    status, output = finish(process)
    assert status == 1 and 'Traceback' not in output, output
    for word in words:
        assert word in output, output


def read_until(process, word):
    "Read lines until one holds `word`."
    seen = []
    for line in process.stdout:
        seen.append(line)
        if word in line:
            return
    raise AssertionError(f'{word!r} never came: {"".join(seen)[-2000:]}')


def assert_same(run, whole, *names):
    "These files of two runs are the same, byte for byte."
    for name in names:
        assert (run/name).read_bytes() == (whole/name).read_bytes(), f'{name} differs'


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nothing disturbs, and the seconds from its first line to its end."
    out = tmp_path_factory.mktemp('whole')/'run'
    process = start(out)
    read_until(process, 'run ')
    began = time.time()
    succeed(process)
    return out, time.time() - began


def kill_once(run, chance, longest):
    "Start or resume the run, and kill it some epochs and a moment later."
    process = start(run, *(['--resume'] if (run/'config.json').exists() else []))
    read_until(process, 'run ')
    for _ in range(chance.randint(1, 4)):  # three times at most 12 of 15 epochs: some are left
        read_until(process, ' epoch ')
    time.sleep(chance.uniform(0, longest))
    assert process.poll() is None, 'ended before it could be killed'
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_killed_three_times(whole, tmp_path):
    "kill -9 at three random moments, --resume each time: the same bytes"
    (undisturbed, seconds), run = whole, tmp_path/'run'
    seed = random.randrange(10**6)
    print(f'moments drawn with seed {seed}')  # shown where the test fails
    chance = random.Random(seed)
    for _ in range(3):
        kill_once(run, chance, seconds/15)
        if (run/'oof.csv').exists():
            rows = len(pd.read_csv(run/'oof.csv'))
            assert rows == len(pd.read_csv(undisturbed/'oof.csv')), 'half a file'
    succeed(start(run, '--resume'))
    weights = [f'fold{fold}/model.safetensors' for fold in range(3)]
    assert_same(run, undisturbed, 'oof.csv', 'oof_best.csv', *weights)


def limit_room():
    "Let this process write no file that is larger than `ROOM`."
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, ROOM))


def test_no_room(whole, tmp_path):
    "No room to write: the run says so, keeps its finished folds, and goes on when there is some"
    (undisturbed, _), run = whole, tmp_path/'run'
    succeed(start(run, '--only', '0'))
    before = (run/'fold0'/'oof.csv').read_bytes()
    fail_plainly(start(run, '--resume', preexec_fn=limit_room), 'make room', '--resume')
    assert (run/'fold0'/'oof.csv').read_bytes() == before
    assert not (run/'fold1'/'model.safetensors').exists()
    assert not (run/'oof.csv').exists()
    succeed(start(run, '--resume'))
    assert_same(run, undisturbed, 'oof.csv')


def test_not_a_number(tmp_path):
    "A loss that is no number ends the run, and no checkpoint of it is written"
    run = tmp_path/'run'
    rates = ('--lr', '1e30', '--head_lr', '1e30')
    fail_plainly(start(run, *rates, '--only', '0'), 'lower --lr')
    assert not (run/'fold0'/'checkpoint.safetensors').exists()


def fold_workers(process):
    "The processes of Ray that train a fold."
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children
            if child.is_running() and any('fold' in word for word in child.cmdline()[:1])]


def test_ray_with_a_worker_killed(whole, tmp_path):
    "Two local workers, one killed in the middle: the bytes of the sequential run"
    pytest.importorskip('ray')
    (undisturbed, _), run = whole, tmp_path/'run'
    process = start(run, '--engine', 'ray', '--workers', '2')
    read_until(process, 'epoch 1/5')
    workers = fold_workers(process)
    assert workers, 'no worker of a fold was found'
    workers[0].kill()
    succeed(process)
    assert_same(run, undisturbed, 'oof.csv')


def test_two_processes_one_fold(tmp_path):
    "torchrun: one run folder, written by one of the two, with every image in it"
    pytest.importorskip('accelerate')
    run = tmp_path/'run'
    module = ('-m', 'melanoma_nbdev.training.command')
    launcher = (BIN/'torchrun', '--nproc_per_node', '2', *module)
    output = succeed(start(run, '--full', launcher=launcher, cwd=ROOT))
    assert '2 processes' in output and output.count('fold 0 epoch 1/5') == 1, output
    assert pd.read_csv(run/'oof.csv').image_id.nunique() == 240
    assert (run/'full'/'model.safetensors').exists()


def refusal(folder, *words):
    "What the command says of bad input, and the seconds that it took; torch was not loaded."
    command = [sys.executable, '-c', SAY_TORCH, '--out', str(folder/'run'), *words]
    began = time.time()
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    seconds = time.time() - began
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    assert done.stdout.strip() == 'torch loaded: False', done.stdout
    assert not (folder/'run').exists(), 'a run folder was made'
    return done.stderr, seconds


@pytest.mark.parametrize('words, said', [
    (('--tta', '9'), 'at most 8'),
    (('--loss', 'weighted'), 'pos_weight=5'),
    (('--loss_args', 'gamma'), 'name=number'),
    (('--preset', 'nano,b9'), 'use one of b3_384'),
    (('--seed', 'first'), '--seed is'),
    (('--only', '7'), 'there is no fold 7'),
    (('--engine', 'spark'), 'use sequential or ray'),
    (('--workers', '0'), 'workers is 0'),
    (('--columns', 'image_id'), 'image_id'),
])
def test_wrong_option_before_torch(tmp_path, words, said):
    "A wrong option is reported before torch is loaded, and no run folder is made"
    message, _ = refusal(tmp_path, *words)
    assert said in message, message


TABLE = 'Photo Name,Finding\na.jpg,common nevus\nb.jpg,melanoma\n'


def test_wrong_table_before_torch(tmp_path):
    "A wrong table is reported before torch is loaded, within seconds"
    (tmp_path/'labels.csv').write_text(TABLE)
    refusal(tmp_path, '--data', str(tmp_path))  # the first start may compile modules
    message, seconds = refusal(tmp_path, '--data', str(tmp_path))
    assert 'Photo Name' in message, message
    assert seconds < 3*max(1, os.getloadavg()[0]/os.cpu_count()), f'{seconds:.1f} s'


def phantom_under_other_names(folder):
    "The embedded phantom set, its table under headings and words of its own."
    from melanoma_nbdev.data.manifest import load_manifest
    manifest = load_manifest('phantom')
    words = manifest.dx.map({'MEL': 'melanoma'}).fillna('harmless spot')
    pd.DataFrame({'Photo Name': manifest.path, 'Finding': words, 'Who': manifest.patient_id}
                 ).to_csv(folder/'labels.csv', index=False)


def test_columns_and_labels(tmp_path):
    "Headings and words of one's own, told on the command line; recorded in config.json"
    phantom_under_other_names(tmp_path)
    run = tmp_path/'run'
    names = ('--columns', 'path=Photo Name', 'dx=Finding', 'patient_id=Who')
    words = ('--labels', 'harmless spot=NV')
    data = ('--data', str(tmp_path), '--epochs', '1', '--folds', '2')
    succeed(start(run, *data, *names, *words))
    record = json.loads((run/'config.json').read_text())
    assert record['columns']['path'] == 'Photo Name'
    assert record['labels'] == {'harmless spot': 'NV'}
    assert len(pd.read_csv(run/'oof.csv')) == 240


OWN_NAMES = ('--columns', 'path=Photo Name', 'dx=Finding', 'patient_id=Who')
OWN_WORDS = ('--labels', 'harmless spot=NV', 'open=none')


def spoil(folder):
    "The table of `phantom_under_other_names` with a damaged image, a lost one and one unlabelled."
    rows = pd.read_csv(folder/'labels.csv')
    (folder/'cut.jpg').write_bytes(Path(rows['Photo Name'][0]).read_bytes()[:900])
    rows.loc[0, 'Photo Name'], rows.loc[1, 'Photo Name'] = 'cut.jpg', 'nowhere.jpg'
    rows.loc[2, 'Finding'] = 'open'
    rows.to_csv(folder/'labels.csv', index=False)
    return rows


def test_a_list_of_images_to_leave_out(tmp_path):
    """Images that are damaged, lost or without a label: `melanoma_data check` lists them, training
    says what to do, and goes on without them."""
    phantom_under_other_names(tmp_path)
    spoil(tmp_path)
    faults, run = tmp_path/'faults.txt', tmp_path/'run'
    train = ('--data', str(tmp_path), '--epochs', '1', '--folds', '2', *OWN_NAMES, *OWN_WORDS)
    fail_plainly(start(run, *train), '1 of 239 images have no dx', '--leave_out')
    check = [BIN/'melanoma_data', 'check', tmp_path, *OWN_NAMES, *OWN_WORDS, '--report', faults]
    done = subprocess.run(list(map(str, check)), capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and f'--leave_out {faults}' in done.stderr, done.stderr
    listed = pd.read_csv(faults).set_index('image_id')['reason']
    assert listed['nowhere'] == 'no file' and 'damaged' in listed['cut'], listed
    assert list(listed).count('no label') == 1
    succeed(start(run, *train, '--leave_out', str(faults)))
    assert len(pd.read_csv(run/'oof.csv')) == 237


def test_a_changed_table_is_said(tmp_path):
    "A run is resumed with its own images only; what changed since is named."
    phantom_under_other_names(tmp_path)
    rows, run = pd.read_csv(tmp_path/'labels.csv'), tmp_path/'run'
    train = ('--data', str(tmp_path), '--epochs', '1', '--folds', '2', *OWN_NAMES, *OWN_WORDS)
    succeed(start(run, *train, '--only', '0'))
    rows.loc[5, 'Who'] = 'somebody else'
    rows.drop(index=9).to_csv(tmp_path/'labels.csv', index=False)
    changed = start(run, *train, '--resume')
    fail_plainly(changed, 'the data are not those', '1 image is gone', 'another patient_id')


def test_an_interrupt_says_how_to_go_on(tmp_path):
    "Ctrl-C ends with 130 and the command that goes on."
    process = start(tmp_path/'run', '--epochs', '50')
    read_until(process, ' epoch ')
    os.killpg(process.pid, signal.SIGINT)
    status, output = finish(process)
    assert status == 130, output
    assert f"go on with melanoma_train --resume --out {tmp_path/'run'}" in output, output
