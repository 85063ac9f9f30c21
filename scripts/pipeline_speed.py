"""How much of the bare step's speed the pipeline keeps, and how much faster it is than fastai's
plain loaders on the original files. One process, one run, one thread; CPU seconds, so that other
work on the machine disturbs little (on a GPU: seconds by the clock). MELANOMA_DATA=... python
scripts/pipeline_speed.py             # writes efficiency.json beside this file bare      forward,
backward and AdamW on one batch that is in memory pipeline  `learn.fit` of this project: order,
decoding or memory, augmentation, callbacks, optimizer; first epoch, and the later ones with squares
kept in memory plain     fastai's `ImageDataLoaders.from_df` on the original JPEGs with `Resize` and
`aug_transforms`, and the same model, loss and optimizer"""

import argparse, json, platform, time
from pathlib import Path
import pandas as pd, torch
from fastai.callback.core import Callback
from fastai.learner import Learner
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from melanoma_nbdev.training.callbacks import keep_freed_memory
from melanoma_nbdev.core import write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.training.losses import CELoss
from melanoma_nbdev.training.models import body_head
from melanoma_nbdev.data.splits import add_groups, make_folds
from melanoma_nbdev.training.learner import AdamW, build_model, make_config, make_learner
from melanoma_nbdev.training.pipeline import square_store
from melanoma_nbdev.training.options import label_classes

GPU = torch.cuda.is_available()


def clock():
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class Rate(Callback):
    "Images per second of the training part of each epoch."

    order = 90

    def before_fit(self):
        self.rates = []

    def before_train(self):
        self.t, self.n = clock(), 0

    def after_batch(self):
        self.n += len(self.y) if self.training else 0

    def after_train(self):
        self.rates.append(self.n / (clock() - self.t))


def bare(cfg, n):
    m = build_model(cfg).train()
    dev = 'cuda' if GPU else 'cpu'
    m.to(dev)
    x = torch.randn(cfg['bs'], 3, cfg['size'], cfg['size'], device=dev).contiguous(
        memory_format=torch.channels_last
    )
    y = torch.randint(0, len(cfg['classes']), (cfg['bs'],), device=dev)
    opt = torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True)
    amp = torch.autocast('cuda', torch.bfloat16, enabled=GPU and cfg['amp'])

    def step():
        with amp:
            loss = torch.nn.functional.cross_entropy(m(x).float(), y)
        loss.backward()
        opt.step()
        opt.zero_grad()

    step()
    step()
    t = clock()
    for _ in range(n):
        step()
    return n * cfg['bs'] / (clock() - t)


if __name__ == '__main__':
    ap = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument('--data', default='siim2020')
    ap.add_argument('--preset', default='small')
    ap.add_argument('--n', type=int, default=480)
    ap.add_argument('--workers', type=int, default=0)
    ap.add_argument('--rounds', type=int, default=3)
    ap.add_argument('--dest', type=Path, default=Path(__file__).parent / 'efficiency.json')
    a = ap.parse_args()
    if not GPU:
        torch.set_num_threads(1)
    keep_freed_memory()
    df = make_folds(add_groups(load_manifest(a.data, missing='drop').head(a.n)), k=5, seed=0)
    cfg = make_config(a.preset, weights='none', data=a.data, target='binary', num_workers=a.workers)
    cfg['classes'] = label_classes(df, 'binary')
    rows = []
    for _ in range(a.rounds):
        square_store.cache_clear()  # the first epoch decodes
        steps = len(df) * 4 // 5 // cfg['bs']
        b0 = bare(dict(cfg, classes=['MEL', 'NV']), steps)
        learn = make_learner(cfg, df, 0, '.', quiet=True)
        rate = Rate()
        learn.add_cb(rate)
        learn.remove_cb(learn.checkpoint)
        learn.remove_cb(learn.bar)
        learn.fit(2, 1e-4)
        ours = rate.rates
        plain = ImageDataLoaders.from_df(
            df.assign(valid=df.fold == 0),
            path='/',
            fn_col='path',
            label_col='target',
            valid_col='valid',
            item_tfms=Resize(cfg['size']),
            batch_tfms=aug_transforms(
                mult=1.0, do_flip=True, flip_vert=True, max_rotate=180.0, max_zoom=1.2, max_warp=0.0
            ),
            bs=cfg['bs'],
            val_bs=cfg['bs'],
            num_workers=a.workers,
        )
        pl = Learner(
            plain,
            build_model(dict(cfg, classes=['MEL', 'NV'])),
            CELoss(),
            opt_func=AdamW,
            splitter=body_head,
            cbs=[p := Rate()],
        )
        pl.logger = lambda *x: None
        pl.fit(1, 1e-4)
        b1 = bare(dict(cfg, classes=['MEL', 'NV']), steps)
        rows.append(
            dict(
                bare=(b0 + b1) / 2,
                bare_before=b0,
                bare_after=b1,
                pipeline_first=ours[0],
                pipeline=ours[1],
                plain=p.rates[0],
            )
        )
        print(rows[-1], flush=True)
    t = pd.DataFrame(rows).median()
    write_json(
        a.dest,
        dict(
            images_per_s={k: round(float(v), 2) for k, v in t.items()},
            pipeline_over_bare=round(float(t.pipeline / t.bare), 4),
            first_epoch_over_bare=round(float(t.pipeline_first / t.bare), 4),
            times_plain=round(float(t.pipeline / t.plain), 3),
            first_epoch_times_plain=round(float(t.pipeline_first / t.plain), 3),
            preset=a.preset,
            size=cfg['size'],
            bs=cfg['bs'],
            data=a.data,
            images=len(df),
            rounds=a.rounds,
            rows=rows,
            device=torch.cuda.get_device_name() if GPU else 'CPU, one thread, CPU seconds',
            machine=f'{platform.machine()}, Python {platform.python_version()}, torch '
            f'{torch.__version__}',
        ),
    )
    print(
        json.dumps(
            {k: v for k, v in json.loads(a.dest.read_text()).items() if k != 'rows'}, indent=1
        )
    )
