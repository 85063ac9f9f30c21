"""What a network can be taught before it sees a diagnosis: to read the five criteria of the ABCD rule from pictures of other lesions.

    python scripts/teach_criteria.py --phantom data/phantom-criteria --out runs/criteria --weights mobilenetv2_100_in1k.pth --crop inner
    torchrun --nproc_per_node 2 scripts/teach_criteria.py ...    (two processes share every batch)
    python scripts/teach_criteria.py --phantom data/phantom-criteria --out runs/criteria128 --weights runs/criteria/model.safetensors --crop inner --size 128    (taught further, with more pixels)

The pictures are a synthetic set of another seed than the one that is scored; a reader's notes on its lesions are `phantom.picture_truth`.
Writes OUT/model.safetensors (for `melanoma_train --weights`), history.csv and criteria.json: of lesions of patients that it never saw, the share of each criterion's variance that it reads.
Killed, it goes on at the last epoch that was finished when it is called again in the same way."""
import argparse
from pathlib import Path
import numpy as np, pandas as pd, torch
from fastai.callback.progress import ProgressCallback
from fastai.callback.schedule import Learner
from fastai.data.block import DataBlock, RegressionBlock, TransformBlock
from fastai.data.transforms import IntToFloatTensor, Normalize
from fastai.losses import MSELossFlat
from melanoma_nbdev.training.augment import derm_tfms
from melanoma_nbdev.training.callbacks import Bar, Checkpoint, Distributed, EpochSeed, Watch, keep_freed_memory, processes, wait_for_all
from melanoma_nbdev.core import friendly, read_json, seed_everything, sha256, write_json
from melanoma_nbdev.training.models import DermModel, body_head, load_backbone, save_model
from melanoma_nbdev.phantom.bounds import picture_truth
from melanoma_nbdev.training.pipeline import AsTensor, Field, square_store
from melanoma_nbdev.training.learner import AdamW, predict_logits
from truth import made_by

OPTIONS = dict(arch='mobilenetv2_100', size=96, crop='centre', epochs=14, bs=64, lr=1.4e-3, augment=.2, seed=0, threads=1, tta=8, test=.1)
CRITERIA = ['asymmetry', 'border', 'colours', 'structures', 'diameter']

def table(path:Path, share:float)->pd.DataFrame:
    "One row an image: path, the criteria (0 to 1) and whether its patient is kept for the test."
    t = picture_truth(path); who = t.true_patient_id.unique()
    return t.assign(path=[str(path/'jpeg'/'train'/f'{i}.jpg') for i in t.image_name], test=t.true_patient_id.isin(who[:round(share*len(who))]))

def learner(a, t:pd.DataFrame, rank:int, world:int)->Learner:
    "Picture -> five standardised criteria, with the recipe of `melanoma_train`."
    tr = t[~t.test]; mid, sd = tr[CRITERIA].mean(), tr[CRITERIA].std()
    items = [dict(path=p, y=y) for p, y in zip(t.path, ((t[CRITERIA] - mid)/sd).to_numpy('f4').copy())]
    block = DataBlock(blocks=(TransformBlock(type_tfms=AsTensor(square_store(a.size, a.crop)), batch_tfms=IntToFloatTensor), RegressionBlock(n_out=len(CRITERIA))), get_x=Field('path'), get_y=Field('y'),
                      splitter=lambda _: (list(np.flatnonzero(~t.test)), list(np.flatnonzero(t.test))), batch_tfms=[*derm_tfms(a.augment), Normalize.from_stats(*[[.5]*3]*2, cuda=torch.cuda.is_available())])
    dls = block.dataloaders(items, bs=a.bs, val_bs=2*a.bs, num_workers=0); dls.train.targets = np.zeros(len(tr), int)
    model = DermModel(a.arch, len(CRITERIA), drop=0., **a.arch_kwargs); load_backbone(model, a.weights)
    learn = Learner(dls, model.to(memory_format=torch.channels_last), MSELossFlat(), opt_func=AdamW, splitter=body_head, path=a.out, wd=.01,
                    cbs=[EpochSeed(a.seed, 0, rank=rank, world=world), Watch(), Checkpoint(a.out, None, rank == 0), Bar('criteria', rank > 0), *([Distributed()] if world > 1 else [])])
    learn.logger = lambda *x: None; learn.remove_cbs([c for c in learn.cbs if isinstance(c, ProgressCallback)])
    return learn

def command(a, world:int)->str:
    "The call that did this."
    more = ' '.join(f'--{k} {getattr(a, k)}' for k, v in OPTIONS.items() if getattr(a, k) != v)
    w = a.weights.name if a.weights.name != 'model.safetensors' else f'runs/{a.weights.parent.name}/{a.weights.name}'   # another run's model; a weights file from elsewhere lies where the reader put it
    return f"torchrun --nproc_per_node {world} scripts/teach_criteria.py --phantom data/{a.phantom.name} --out runs/{a.out.name} --weights {w} {more}".strip()

def before(a)->list:
    "The calls that came first: that drew the pictures, or all that made the model which is taught further."
    p = a.weights.parent/'criteria.json'; calls = read_json(p)['commands'] if p.exists() else []
    return calls + [c for c in [made_by(a.phantom)] if c not in calls]

@friendly
def main(a):
    rank, world = processes(); torch.set_num_threads(a.threads); keep_freed_memory(); seed_everything(a.seed); t = table(a.phantom, a.test)
    a.out.mkdir(parents=True, exist_ok=True); learn = learner(a, t, rank, world); done = learn.checkpoint.restore(learn)
    if done < a.epochs: learn.fit_one_cycle(a.epochs, lr_max=[a.lr, 4*a.lr], pct_start=.15, start_epoch=done)
    if rank == 0:
        test, tr = t[t.test], t[~t.test]; p = predict_logits(learn.model, test, dict(size=a.size, crop=a.crop, mean=[.5]*3, std=[.5]*3), a.tta)
        y = (test[CRITERIA] - tr[CRITERIA].mean())/tr[CRITERIA].std(); r2 = 1 - ((p - y)**2).mean()/y.var(ddof=0)
        save_model(learn.model, a.out/'model.safetensors')
        write_json(a.out/'criteria.json', dict(r2={k: round(float(v), 3) for k, v in r2.items()}, mean_r2=round(float(r2.mean()), 3), n=len(test), patients=int(test.true_patient_id.nunique()), n_trained_on=len(tr), symmetries=a.tta,
            arch=a.arch, size=a.size, crop=a.crop, epochs=a.epochs, bs=a.bs, lr=a.lr, augment=a.augment, seed=a.seed, processes=world, hours=round(float(pd.read_csv(a.out/'history.csv').seconds.sum())/3600, 3),
            started_from=a.weights.name, started_from_sha256=sha256(a.weights), model_sha256=sha256(a.out/'model.safetensors'), commands=[*before(a), command(a, world)]))
        print((a.out/'criteria.json').read_text())
    wait_for_all()

if __name__ == '__main__':
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for k, v in dict(phantom=Path, out=Path, weights=Path).items(): ap.add_argument(f'--{k}', type=v, required=True)
    for k, v in OPTIONS.items(): ap.add_argument(f'--{k}', type=type(v), default=v)
    a = ap.parse_args(); a.arch_kwargs = dict(pad_type='same') if a.arch == 'mobilenetv2_100' else {}; main(a)
