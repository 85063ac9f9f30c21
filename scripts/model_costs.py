#!/usr/bin/env python3
"""What the models cost on this machine, in two parts.

    python scripts/model_costs.py cost
    MELANOMA_DATA=... python scripts/model_costs.py presets
    python scripts/model_costs.py cost --models test_efficientnet:64:16 --dest runs/try

`cost` writes cost.csv: parameters, GFLOPs, images per second, memory. Each model is measured in a
process of its own, so that one's memory is not the other's.

`presets` writes presets.csv: the presets on real images at full size, two folds, a few steps
(`melanoma_train --limit`). It shows that a preset trains from image to out-of-fold file and what it
takes, and nothing about how well it does."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, machine, parser_of

MODELS = """test_efficientnet:64:16 mobilenetv2_100:64:64 mobilenetv2_100:128:64
    mobilenetv2_100:224:16 resnet18:128:32 resnet50:224:8 tf_efficientnet_b0:224:8
    tf_efficientnet_b3:384:2 tf_efficientnet_b5:384:1 tf_efficientnet_b3:512:2
    tf_efficientnet_b5:512:1 tf_efficientnet_b6:640:1""".split()
"Backbone, pixels, images a batch"
BUFFERS = ('running_mean', 'running_var', 'num_batches_tracked')


# ---- one model, in this process

class Bench:
    "A model, a batch and an optimizer on the device that is there."

    def __init__(self, arch, size, batch_size):
        import torch
        from melanoma_nbdev.training.models import DermModel
        self.cuda = torch.cuda.is_available()
        device = 'cuda' if self.cuda else 'cpu'
        layout = torch.channels_last
        self.batch_size = batch_size
        self.model = DermModel(arch, 7).to(device, memory_format=layout)
        pictures = torch.randn(batch_size, 3, size, size, device=device)
        self.pictures = pictures.contiguous(memory_format=layout)
        self.classes = torch.randint(0, 7, (batch_size,), device=device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.amp = torch.autocast('cuda', torch.bfloat16, enabled=self.cuda)

    def gflops(self):
        "Arithmetic of one prediction; a multiplication with its addition counts as two."
        import torch
        from torch.utils.flop_counter import FlopCounterMode
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.model.eval()(self.pictures[:1])
        return counter.get_total_flops()/1e9

    def train(self):
        "One step."
        import torch
        self.model.train()
        with self.amp:
            logits = self.model(self.pictures).float()
            loss = torch.nn.functional.cross_entropy(logits, self.classes)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def predict(self):
        "One batch."
        import torch
        self.model.eval()
        with torch.no_grad(), self.amp: self.model(self.pictures)

    def rate(self, step, seconds):
        "Images per second: by the clock on a GPU, of CPU time elsewhere."
        import torch
        step()
        steps, clock, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - clock < seconds or steps < 2:
            step()
            steps += 1
        if self.cuda: torch.cuda.synchronize()
        taken = time.perf_counter() - clock if self.cuda else time.process_time() - cpu
        return steps*self.batch_size/taken


def costs_of(arch, size, batch_size, seconds):
    "The costs of one model, measured here and now in this process."
    import torch
    from melanoma_nbdev.training.checkpoint import keep_freed_memory, memory_mb
    keep_freed_memory()
    before = memory_mb()['memory_mb']
    bench = Bench(arch, size, batch_size)
    threads = f'CPU, {torch.get_num_threads()} thread, images per CPU second'
    record = dict(
        arch=arch, size=size, bs=batch_size,
        parameters=sum(tensor.numel() for tensor in bench.model.parameters()),
        gflops=bench.gflops(), predict_images_per_s=bench.rate(bench.predict, seconds),
        train_images_per_s=bench.rate(bench.train, seconds))
    memory = memory_mb()
    record['memory_mb'] = memory['gpu_peak_mb'] if bench.cuda else memory['peak_mb'] - before
    return record | dict(device=torch.cuda.get_device_name() if bench.cuda else threads)


# ---- all models, each in its own process

def measured_apart(model, seconds):
    "The costs of one model from a process of its own; None where that failed."
    command = [sys.executable, __file__, 'one', '--models', model, '--seconds', str(seconds)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(model, done.stderr.splitlines()[-1:])
        return None
    record = json.loads(done.stdout.splitlines()[-1])
    print(record, flush=True)
    return record


def cost(models, seconds, dest):
    "Measure the models and write cost.csv."
    from melanoma_nbdev.core import write_csv
    found = [measured_apart(model, seconds) for model in models]
    table = pd.DataFrame([record for record in found if record])
    for name in ('gflops', 'predict_images_per_s', 'train_images_per_s', 'memory_mb'):
        table[name] = table[name].map(lambda value: float(f'{value:.4g}'))
    write_csv(dest/'cost.csv', table.assign(machine=machine()))


# ---- presets

def training_call(preset, given):
    "The command that trains a preset for a few steps."
    words = (f'--data siim2020 --preset {preset} --folds 2 --epochs 1 --limit {given.limit} '
             f'--bs {given.bs} --accumulate {given.accumulate} --tta 1 --weights none --out')
    return ['melanoma_train', *words.split()]


def steps_of(oof, config):
    "Steps of the optimizer, over both folds."
    batches = [int((oof.fold != fold).sum())//config['bs'] for fold in (0, 1)]
    return sum(-(-count//config['accumulate']) for count in batches)


def preset_row(preset, run, command):
    "What a finished run of a preset took."
    from melanoma_nbdev.core import read_json
    from melanoma_nbdev.training.models import read_weights
    config, oof = read_json(run/'config.json'), pd.read_csv(run/'oof.csv')
    history = pd.concat([pd.read_csv(path) for path in sorted(run.glob('fold*/history.csv'))])
    weights = read_weights(run/'fold0'/'model.safetensors')
    gpu = float(history.gpu_peak_mb.max()) if 'gpu_peak_mb' in history else None
    return dict(
        preset=preset, arch=config['arch'], size=config['size'],
        parameters=sum(tensor.numel() for name, tensor in weights.items()
                       if not name.endswith(BUFFERS)),
        folds=2, images=len(oof), bs=config['bs'], accumulate=config['accumulate'],
        steps=steps_of(oof, config),
        train_images_per_s=round(float(history.images_per_s.mean()), 4),
        peak_memory_mb=float(history.peak_mb.max()), gpu_peak_mb=gpu,
        finite=bool(np.isfinite(oof.p_melanoma).all()),
        device=read_json(run/'environment.json')['device'], threads=config['threads'],
        command=' '.join([*command, f'runs/presets/{preset}']))


def presets(given):
    "Train the presets for a few steps and write presets.csv."
    from melanoma_nbdev.core import write_csv
    rows = []
    for preset in given.names.split(','):
        run, command = given.out/preset, training_call(preset, given)
        if not (run/'oof.csv').exists():
            program = str(Path(sys.executable).parent/command[0])
            resume = ['--resume'] if run.exists() else []
            if subprocess.run([program, *command[1:], str(run), *resume]).returncode: continue
        rows.append(preset_row(preset, run, command))
        print(rows[-1], flush=True)
    write_csv(given.dest/'presets.csv', pd.DataFrame(rows))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('what', choices=['cost', 'presets', 'one'])
    parser.add_argument('--models', nargs='*', default=MODELS,
                        help='backbone:pixels:images a batch (cost, one)')
    parser.add_argument('--seconds', type=float, default=2., help='of each rate (cost, one)')
    parser.add_argument('--names', default='b3_384,b5_384,b3_512,b5_512', help='presets')
    parser.add_argument('--limit', type=int, default=24, help='images (presets)')
    parser.add_argument('--bs', type=int, default=2, help='images a batch (presets)')
    parser.add_argument('--accumulate', type=int, default=2, help='batches a step (presets)')
    parser.add_argument('--out', type=Path, default=Path('runs/presets'), help='folder of the runs')
    parser.add_argument('--dest', type=Path, default=RESULTS/'models', help='folder of the tables')
    return parser.parse_args()


def main():
    "Do one of the parts."
    given = options()
    if given.what == 'cost': cost(given.models, given.seconds, given.dest)
    elif given.what == 'presets': presets(given)
    else:
        arch, size, batch_size = given.models[0].split(':')
        print(json.dumps(costs_of(arch, int(size), int(batch_size), given.seconds)))


if __name__ == '__main__':
    main()
