"""The same run one fold after another, on two local Ray workers, and on two with one killed in the
middle: seconds, and whether the bytes are equal. On a machine that does nothing else: python
scripts/ray_side_by_side.py --data data/phantom-2000         # writes ray.json beside this file
Start-up (imports, Ray itself) is in the seconds, as it is in a user's."""

import argparse, os, platform, subprocess, sys, tempfile, time
from pathlib import Path
import psutil
from melanoma_nbdev.core import sha256, write_json


def run(out, *more, kill=False):
    cmd = [str(Path(sys.executable).parent / 'melanoma_train'), *ARGS, '--out', str(out), *more]
    began, killed = time.time(), None
    p = subprocess.Popen(
        cmd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'},
    )
    seen = []
    for line in p.stdout:
        seen.append(line)
        if kill and not killed and 'epoch 2/' in line:
            killed = [
                c
                for c in psutil.Process(p.pid).children(recursive=True)
                if any('fold' in x for x in c.cmdline()[:1])
            ][0]
            killed.kill()
    if p.wait():
        sys.exit(''.join(seen)[-3000:])
    return dict(
        seconds=round(time.time() - began, 1),
        oof_sha256=sha256(out / 'oof.csv'),
        oof_best_sha256=sha256(out / 'oof_best.csv'),
        **(dict(worker_killed=killed is not None) if kill else {}),
    )


if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--data', default='data/phantom-2000')
    ap.add_argument('--epochs', default='3')
    ap.add_argument('--folds', default='4')
    a = ap.parse_args()
    ARGS = [
        '--data',
        a.data,
        '--preset',
        'nano',
        '--folds',
        a.folds,
        '--epochs',
        a.epochs,
        '--threads',
        '1',
    ]
    with tempfile.TemporaryDirectory() as d:
        d = Path(d)
        r = dict(
            sequential=run(d / 'sequential'),
            ray=run(d / 'ray', '--engine', 'ray', '--workers', '2'),
            ray_killed=run(d / 'killed', '--engine', 'ray', '--workers', '2', kill=True),
        )
    same = lambda k: all(r[k][f] == r['sequential'][f] for f in ('oof_sha256', 'oof_best_sha256'))
    write_json(
        Path(__file__).parent / 'ray.json',
        r
        | dict(
            ray_equals_sequential=same('ray'),
            ray_killed_equals_sequential=same('ray_killed'),
            ray_over_sequential=round(r['ray']['seconds'] / r['sequential']['seconds'], 3),
            workers=2,
            cores=os.cpu_count(),
            command=' '.join(
                [
                    'melanoma_train',
                    *ARGS[:1],
                    Path(a.data).name,
                    *ARGS[2:],
                    '--engine ray --workers 2',
                ]
            ),
            machine=f'{platform.machine()}, Python {platform.python_version()}',
        ),
    )
    print(Path(__file__).with_name('ray.json').read_text())
