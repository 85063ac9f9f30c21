"""What the models cost on this machine. Two parts, each in processes of its own so that one's
memory is not the other's: python scripts/model_costs.py cost                               #
parameters, GFLOPs, images per second, memory -> cost.csv MELANOMA_DATA=... python
scripts/model_costs.py presets          # the presets on real images at full size: two folds, a few
steps -> presets.csv `presets` runs `melanoma_train --limit`: it shows that a preset trains from
image to out-of-fold file and what it takes, and nothing about how well it does."""

import argparse, json, os, platform, subprocess, sys, time
from pathlib import Path
import numpy as np, pandas as pd

HERE = Path(__file__).parent
COST = [
    ('test_efficientnet', 64, 16),
    ('mobilenetv2_100', 64, 64),
    ('mobilenetv2_100', 128, 64),
    ('mobilenetv2_100', 224, 16),
    ('resnet18', 128, 32),
    ('resnet50', 224, 8),
    ('tf_efficientnet_b0', 224, 8),
    ('tf_efficientnet_b3', 384, 2),
    ('tf_efficientnet_b5', 384, 1),
    ('tf_efficientnet_b3', 512, 2),
    ('tf_efficientnet_b5', 512, 1),
    ('tf_efficientnet_b6', 640, 1),
]
"Backbone, pixels, images a batch"


def images_per_second(step, bs, device, seconds):
    "Images per second of `step`: of the processor's time on a CPU, of the clock's on a GPU."
    step()
    n, began, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds or n < 2:
        step()
        n += 1
    if device != 'cuda':
        return n * bs / (time.process_time() - busy)
    import torch

    torch.cuda.synchronize()
    return n * bs / (time.perf_counter() - began)


def device_name(device):
    "What the costs were measured on."
    import torch

    if device == 'cuda':
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} thread, images per CPU second'


def made_up_batch(model, size, bs, device):
    "The model on its device, a random batch, its labels and an optimizer."
    import torch

    channels_last = torch.channels_last
    model = model.to(device, memory_format=channels_last)
    images = torch.randn(bs, 3, size, size, device=device).contiguous(memory_format=channels_last)
    labels = torch.randint(0, 7, (bs,), device=device)
    return model, images, labels, torch.optim.AdamW(model.parameters(), fused=True)


def one(arch, size, bs, seconds=2.0):
    "The costs of one model, measured here and now in this process."
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from melanoma_nbdev.training.callbacks import keep_freed_memory, memory_mb
    from melanoma_nbdev.training.models import DermModel

    keep_freed_memory()
    dev = 'cuda' if torch.cuda.is_available() else 'cpu'
    base = memory_mb()['memory_mb']
    m, x, y, opt = made_up_batch(DermModel(arch, 7), size, bs, dev)
    amp = torch.autocast('cuda', torch.bfloat16, enabled=dev == 'cuda')
    with FlopCounterMode(display=False) as f, torch.no_grad():
        m.eval()(x[:1])

    def train():
        m.train()
        with amp:
            loss = torch.nn.functional.cross_entropy(m(x).float(), y)
        loss.backward()
        opt.step()
        opt.zero_grad()

    def infer():
        m.eval()
        with torch.no_grad(), amp:
            m(x)

    r = dict(
        arch=arch,
        size=size,
        bs=bs,
        parameters=sum(p.numel() for p in m.parameters()),
        gflops=f.get_total_flops() / 1e9,
        predict_images_per_s=images_per_second(infer, bs, dev, seconds),
        train_images_per_s=images_per_second(train, bs, dev, seconds),
    )
    mem = memory_mb()
    return r | dict(
        memory_mb=(mem['gpu_peak_mb'] if dev == 'cuda' else mem['peak_mb'] - base),
        device=device_name(dev),
    )


def cost():
    rows = []
    for c in COST:
        p = subprocess.run(
            [sys.executable, __file__, 'one', *map(str, c)],
            capture_output=True,
            text=True,
            env={**os.environ, 'OMP_NUM_THREADS': '1'},
        )
        if p.returncode:
            print(c, p.stderr.splitlines()[-1:])
            continue
        rows.append(json.loads(p.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    from melanoma_nbdev.core import write_csv

    t = pd.DataFrame(rows)
    for k in ('gflops', 'predict_images_per_s', 'train_images_per_s', 'memory_mb'):
        t[k] = t[k].map(lambda v: float(f'{v:.4g}'))
    write_csv(
        HERE / 'cost.csv',
        t.assign(machine=f'{platform.machine()}, Python {platform.python_version()}'),
    )


def presets(names, limit, bs, accumulate, out):
    from melanoma_nbdev.core import read_json, write_csv
    from melanoma_nbdev.training.models import read_weights

    rows = []
    for n in names:
        run = out / n
        cmd = [
            'melanoma_train',
            '--data',
            'siim2020',
            '--preset',
            n,
            '--folds',
            '2',
            '--epochs',
            '1',
            '--limit',
            str(limit),
            '--bs',
            str(bs),
            '--accumulate',
            str(accumulate),
            '--tta',
            '1',
            '--weights',
            'none',
            '--out',
            str(run),
        ]
        if not (run / 'oof.csv').exists():
            p = subprocess.run(
                [
                    str(Path(sys.executable).parent / cmd[0]),
                    *cmd[1:],
                    *(['--resume'] if run.exists() else []),
                ]
            )
            if p.returncode:
                continue
        cfg, h = (
            read_json(run / 'config.json'),
            pd.concat([pd.read_csv(f) for f in sorted(run.glob('fold*/history.csv'))]),
        )
        o = pd.read_csv(run / 'oof.csv')
        buffers = ('running_mean', 'running_var', 'num_batches_tracked')
        rows.append(
            dict(
                preset=n,
                arch=cfg['arch'],
                size=cfg['size'],
                parameters=sum(
                    v.numel()
                    for k, v in read_weights(run / 'fold0' / 'model.safetensors').items()
                    if not k.endswith(buffers)
                ),
                folds=2,
                images=len(o),
                bs=cfg['bs'],
                accumulate=cfg['accumulate'],
                steps=int(
                    sum(-(-((o.fold != k).sum() // cfg['bs']) // cfg['accumulate']) for k in (0, 1))
                ),
                train_images_per_s=round(float(h.images_per_s.mean()), 4),
                peak_memory_mb=float(h.peak_mb.max()),
                gpu_peak_mb=float(h.gpu_peak_mb.max()) if 'gpu_peak_mb' in h else None,
                finite=bool(np.isfinite(o.p_melanoma).all()),
                device=read_json(run / 'environment.json')['device'],
                threads=cfg['threads'],
                command=' '.join(cmd[:-1] + [f'runs/presets/{n}']),
            )
        )
        print(rows[-1], flush=True)
    write_csv(HERE / 'presets.csv', pd.DataFrame(rows))


if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('what', choices=['cost', 'presets', 'one'])
    ap.add_argument('more', nargs='*')
    ap.add_argument('--names', default='b3_384,b5_384,b3_512,b5_512')
    ap.add_argument('--limit', type=int, default=24)
    ap.add_argument('--bs', type=int, default=2)
    ap.add_argument('--accumulate', type=int, default=2)
    ap.add_argument('--out', type=Path, default=Path('runs/presets'))
    a = ap.parse_args()
    if a.what == 'one':
        print(json.dumps(one(a.more[0], int(a.more[1]), int(a.more[2]))))
    elif a.what == 'cost':
        cost()
    else:
        presets(a.names.split(','), a.limit, a.bs, a.accumulate, a.out)
