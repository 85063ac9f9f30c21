#!/usr/bin/env python3
"""Teach a network the five criteria of the ABCD rule, before it sees a diagnosis.

    python scripts/teach_criteria.py --phantom data/phantom-criteria --out runs/criteria \\
        --weights mobilenetv2_100_in1k.pth --crop inner

    torchrun --nproc_per_node 2 scripts/teach_criteria.py ...   # two processes share every batch

    python scripts/teach_criteria.py --phantom data/phantom-criteria --out runs/criteria128 \\
        --weights runs/criteria/model.safetensors --crop inner --size 128   # further, more pixels

The pictures are a synthetic set of another seed than the one that is scored; a reader's notes on
its lesions are `phantom.bounds.picture_truth`. Written are OUT/model.safetensors (for
`melanoma_train --weights`), history.csv and criteria.json: the share of each criterion's variance
that it reads, of lesions of patients that it never saw. Killed, it goes on at the last epoch that
was finished when it is called again in the same way."""
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import options_in_words, parser_of
from distance_to_truth import CRITERIA, made_by
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import Learner
from fastai.data.block import DataBlock, RegressionBlock, TransformBlock
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.losses import MSELossFlat
from melanoma_nbdev.core import friendly, read_json, seed_everything, sha256, write_json
from melanoma_nbdev.phantom.bounds import picture_truth
from melanoma_nbdev.training.transforms import derm_tfms
from melanoma_nbdev.training.callbacks import EpochSeed, FiniteLoss
from melanoma_nbdev.training.checkpoint import (
    Checkpoint, Distributed, EpochProgress, keep_freed_memory, processes, wait_for_all)
from melanoma_nbdev.training.learner import AdamW, predict_logits
from melanoma_nbdev.training.models import DermModel, body_head, load_backbone, save_model
from melanoma_nbdev.training.pipeline import AsTensor, Field
from melanoma_nbdev.training.squares import square_store

OPTIONS = dict(arch='mobilenetv2_100', size=96, crop='centre', epochs=14, bs=64, lr=1.4e-3,
               augment=.2, seed=0, threads=1, tta=8, test=.1)
HALF = [.5]*3


def lessons(phantom, share):
    "One row an image: path, criteria (0 to 1), and whether its patient is kept for the test."
    truth = picture_truth(phantom)
    patients = truth.true_patient_id.unique()
    kept = patients[:round(share*len(patients))]
    paths = [str(phantom/'jpeg'/'train'/f'{name}.jpg') for name in truth.image_name]
    return truth.assign(path=paths, test=truth.true_patient_id.isin(kept))


def standardised(rows, taught):
    "The criteria of some rows, by mean and standard deviation of those that are taught on."
    return (rows[CRITERIA] - taught[CRITERIA].mean())/taught[CRITERIA].std()


def loaders(given, table):
    "fastai's loaders: picture -> five standardised criteria."
    values = standardised(table, table[~table.test]).to_numpy('f4').copy()
    items = [dict(path=path, y=value) for path, value in zip(table.path, values, strict=True)]
    places = list(np.flatnonzero(~table.test)), list(np.flatnonzero(table.test))
    store = square_store(given.size, given.crop)
    picture = TransformBlock(type_tfms=AsTensor(store), batch_tfms=IntToFloatTensor)
    scale = Normalize.from_stats(HALF, HALF, cuda=torch.cuda.is_available())
    block = DataBlock(
        blocks=(picture, RegressionBlock(n_out=len(CRITERIA))), get_x=Field('path'),
        get_y=Field('y'), splitter=lambda _: places,
        batch_tfms=[*derm_tfms(given.augment), scale])
    found = block.dataloaders(items, bs=given.bs, val_bs=2*given.bs, num_workers=0)
    found.train.targets = np.zeros(len(places[0]), int)
    return found


def learner(given, table, rank, world):
    "The fastai Learner, with the recipe of `melanoma_train`."
    model = DermModel(given.arch, len(CRITERIA), drop=0., **given.arch_kwargs)
    load_backbone(model, given.weights)
    callbacks = [EpochSeed(given.seed, 0, rank=rank, world=world), FiniteLoss(),
                 Checkpoint(given.out, None, rank == 0), EpochProgress('criteria', rank > 0)]
    if world > 1: callbacks.append(Distributed())
    learn = Learner(
        loaders(given, table), model.to(memory_format=torch.channels_last), MSELossFlat(),
        opt_func=AdamW, splitter=body_head, path=given.out, wd=.01, cbs=callbacks)
    learn.logger = lambda *_: None
    learn.remove_cbs([found for found in learn.cbs if isinstance(found, ProgressCallback)])
    return learn


def explained(given, model, table):
    "Share of each criterion's variance that the model reads, of the patients kept for the test."
    test = table[table.test]
    sight = dict(size=given.size, crop=given.crop, mean=HALF, std=HALF)
    readings = predict_logits(model, test, sight, given.tta)
    truth = standardised(test, table[~table.test])
    return 1 - ((readings - truth)**2).mean()/truth.var(ddof=0)


def command(given, world):
    "The call that did this; a weights file from elsewhere lies where the reader put it."
    weights = given.weights
    of_a_run = weights.name == 'model.safetensors'
    name = f'runs/{weights.parent.name}/{weights.name}' if of_a_run else weights.name
    more = [option for option, usual in OPTIONS.items() if getattr(given, option) != usual]
    return (f'torchrun --nproc_per_node {world} scripts/teach_criteria.py '
            f'--phantom data/{given.phantom.name} --out runs/{given.out.name} '
            f'--weights {name} {options_in_words(given, more)}').strip()


def calls_before(given):
    "The calls that came first: that drew the pictures, or made the model that is taught further."
    earlier = given.weights.parent/'criteria.json'
    calls = read_json(earlier)['commands'] if earlier.exists() else []
    drawing = made_by(given.phantom)
    return calls if drawing in calls else [*calls, drawing]


def report(given, learn, table, world):
    "Save the model and write criteria.json."
    shares, test = explained(given, learn.model, table), table[table.test]
    path = given.out/'model.safetensors'
    save_model(learn.model, path)
    settings = {name: getattr(given, name) for name in
                ('arch', 'size', 'crop', 'epochs', 'bs', 'lr', 'augment', 'seed')}
    seconds = pd.read_csv(given.out/'history.csv').seconds.sum()
    write_json(given.out/'criteria.json', dict(
        r2={name: round(float(share), 3) for name, share in shares.items()},
        mean_r2=round(float(shares.mean()), 3), n=len(test),
        patients=int(test.true_patient_id.nunique()), n_trained_on=int((~table.test).sum()),
        symmetries=given.tta, **settings, processes=world, hours=round(float(seconds)/3600, 3),
        started_from=given.weights.name, started_from_sha256=sha256(given.weights),
        model_sha256=sha256(path), commands=[*calls_before(given), command(given, world)]))
    print((given.out/'criteria.json').read_text())


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--phantom', type=Path, required=True, help='folder of the lessons')
    parser.add_argument('--out', type=Path, required=True, help='folder that is written')
    parser.add_argument('--weights', type=Path, required=True, help='weights to begin with')
    for name, usual in OPTIONS.items():
        parser.add_argument(f'--{name}', type=type(usual), default=usual)
    given = parser.parse_args()
    given.arch_kwargs = dict(pad_type='same') if given.arch == 'mobilenetv2_100' else {}
    return given


@friendly
def main():
    "Teach, or go on teaching, and write the report."
    given = options()
    rank, world = processes()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    seed_everything(given.seed)
    table = lessons(given.phantom, given.test)
    given.out.mkdir(parents=True, exist_ok=True)
    learn = learner(given, table, rank, world)
    done = learn.checkpoint.restore(learn)
    if done < given.epochs:
        rates = [given.lr, 4*given.lr]
        learn.fit_one_cycle(given.epochs, lr_max=rates, pct_start=.15, start_epoch=done)
    if rank == 0: report(given, learn, table, world)
    wait_for_all()


if __name__ == '__main__':
    main()
