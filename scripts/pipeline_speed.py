#!/usr/bin/env python3
"""How much of the bare step's speed the pipeline keeps, and what fastai's plain loaders reach.

    MELANOMA_DATA=... python scripts/pipeline_speed.py
    python scripts/pipeline_speed.py --data phantom --preset nano --n 60 --rounds 1 --dest try.json

One process, one run, one thread; CPU seconds, so that other work on the machine disturbs little (on
a GPU: seconds by the clock). Writes efficiency.json.

bare      forward, backward and AdamW on one batch that is in memory
pipeline  `learn.fit` of this project: order, decoding or memory, augmentation, callbacks,
          optimizer; first epoch, and the later ones with squares kept in memory
plain     fastai's `ImageDataLoaders.from_df` on the original JPEGs with `Resize` and
          `aug_transforms`, and the same model, loss and optimizer"""
import json
import time
from pathlib import Path

import pandas as pd
import torch
from common import RESULTS, machine, parser_of
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from melanoma_nbdev.core import write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.data.splits import add_groups, make_folds
from melanoma_nbdev.training.checkpoint import keep_freed_memory
from melanoma_nbdev.training.learner import AdamW, build_model, make_config, make_learner
from melanoma_nbdev.training.losses import CELoss
from melanoma_nbdev.training.models import body_head
from melanoma_nbdev.training.presets import label_classes
from melanoma_nbdev.training.squares import square_store

GPU = torch.cuda.is_available()
TWO_CLASSES = ['MEL', 'NV']


def clock():
    "Seconds: by the clock on a GPU, of this process's CPU time elsewhere."
    if not GPU: return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()



class Rate(Callback):
    "Images per second of the training part of each epoch."

    order = 90

    def before_fit(self): self.rates = []

    def before_train(self): self.began, self.images = clock(), 0

    def after_batch(self): self.images += len(self.y) if self.training else 0

    def after_train(self): self.rates.append(self.images/(clock() - self.began))


def bare_rate(config, steps):
    "Images per second of forward, backward and optimizer on a batch in memory."
    device = 'cuda' if GPU else 'cpu'
    model = build_model(config).train().to(device)
    pictures = torch.randn(config['bs'], 3, config['size'], config['size'], device=device)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    classes = torch.randint(0, len(config['classes']), (config['bs'],), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    amp = torch.autocast('cuda', torch.bfloat16, enabled=GPU and config['amp'])

    def step():
        with amp: loss = torch.nn.functional.cross_entropy(model(pictures).float(), classes)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(2): step()
    began = clock()
    for _ in range(steps): step()
    return steps*config['bs']/(clock() - began)


def pipeline_rates(config, manifest):
    "Images per second of this project's first epoch, and of its second."
    learn, rate = make_learner(config, manifest, 0, '.', quiet=True), Rate()
    learn.add_cb(rate)
    for name in ('checkpoint', 'epoch_progress'): learn.remove_cb(getattr(learn, name))
    learn.fit(2, 1e-4)
    return rate.rates


def plain_rate(config, manifest, workers):
    "Images per second of fastai's plain loaders on the original files."
    augment = aug_transforms(mult=1., do_flip=True, flip_vert=True, max_rotate=180., max_zoom=1.2,
                             max_warp=0.)
    loaders = ImageDataLoaders.from_df(
        manifest.assign(valid=manifest.fold == 0), path='/', fn_col='path', label_col='target',
        valid_col='valid', item_tfms=Resize(config['size']), batch_tfms=augment,
        bs=config['bs'], val_bs=config['bs'], num_workers=workers)
    rate = Rate()
    learn = Learner(loaders, build_model(config), CELoss(), opt_func=AdamW, splitter=body_head,
                    cbs=[rate])
    learn.logger = lambda *_: None
    learn.fit(1, 1e-4)
    return rate.rates[0]


def one_round(config, manifest, workers):
    "All rates once, the bare step's before and after."
    square_store.cache_clear()  # the first epoch decodes
    steps = max(1, len(manifest)*4//5//config['bs'])
    small = dict(config, classes=TWO_CLASSES)
    before = bare_rate(small, steps)
    first, later = pipeline_rates(config, manifest)[:2]
    plain = plain_rate(small, manifest, workers)
    after = bare_rate(small, steps)
    return dict(bare=(before + after)/2, bare_before=before, bare_after=after,
                pipeline_first=first, pipeline=later, plain=plain)


def summary(rows):
    "Medians over the rounds, and their ratios."
    median = pd.DataFrame(rows).median()
    return dict(
        images_per_s={name: round(float(value), 2) for name, value in median.items()},
        pipeline_over_bare=round(float(median.pipeline/median.bare), 4),
        first_epoch_over_bare=round(float(median.pipeline_first/median.bare), 4),
        times_plain=round(float(median.pipeline/median.plain), 3),
        first_epoch_times_plain=round(float(median.pipeline_first/median.plain), 3))


def setup(given):
    "Configuration and manifest."
    manifest = load_manifest(given.data, missing='drop').head(given.n)
    manifest = make_folds(add_groups(manifest), k=5, seed=0)
    config = make_config(given.preset, weights='none', data=given.data, target='binary',
                         num_workers=given.workers)
    return dict(config, classes=label_classes(manifest, 'binary')), manifest


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--data', default='siim2020', help='source or folder of the images')
    parser.add_argument('--preset', default='small')
    parser.add_argument('--n', type=int, default=480, help='images')
    parser.add_argument('--workers', type=int, default=0, help='processes that load')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--dest', type=Path, default=RESULTS/'pipeline'/'efficiency.json',
                        help='file that is written')
    return parser.parse_args()


def main():
    "Measure, and write efficiency.json."
    given, rows = options(), []
    if not GPU: torch.set_num_threads(1)
    keep_freed_memory()
    config, manifest = setup(given)
    for _ in range(given.rounds):
        rows.append(one_round(config, manifest, given.workers))
        print(rows[-1], flush=True)
    found = summary(rows) | dict(
        preset=given.preset, size=config['size'], bs=config['bs'], data=given.data,
        images=len(manifest), rounds=given.rounds)
    device = torch.cuda.get_device_name() if GPU else 'CPU, one thread, CPU seconds'
    write_json(given.dest, found | dict(rows=rows, device=device, machine=machine('torch')))
    print(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()
