#!/usr/bin/env python3
"""Is a lesion that differs from the patient's others more often a melanoma, as the model sees it?

    python scripts/ugly_duckling.py
    MELANOMA_DATA=... python scripts/ugly_duckling.py --features runs/without_isic2018 --part 0

Dermatologists call it the ugly duckling. Here it is the distance of a lesion from the median of
the patient's other lesions, in two spaces, both out of fold:

    answers    the logits of the diagnoses in a run's oof.csv, each divided by its spread
    features   the pooled features of the network of one fold, on the images that it had not seen

Patients with at least three images count. The distance is judged beside the risk itself, within
patients (pairs of a melanoma and a benign lesion of one patient) and over all; and it is added to
the risk by a logistic regression, out of fold by patient. Rows go to
results/siim2020_300/ugly_duckling.csv; rows of the same space are replaced."""
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, parser_of
from melanoma_nbdev.core import write_csv
from melanoma_nbdev.evidence.auc import auc
from melanoma_nbdev.evidence.comparison import compare_models
from melanoma_nbdev.evidence.discrimination import auc_within
from melanoma_nbdev.evidence.oof import clusters, read_oof
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = RESULTS/'siim2020_300'
FEWEST = 3  # images of a patient


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--run', type=Path, default=FOLDER/'joint_lite0_160-0',
                        help='folder with the oof.csv whose answers are taken')
    parser.add_argument('--features', type=Path, help='run folder with the network of a fold')
    parser.add_argument('--part', type=int, default=0, help='which fold')
    parser.add_argument('--dest', type=Path, default=FOLDER/'ugly_duckling.csv',
                        help='file that is written')
    parser.add_argument('--n_boot', type=int, default=2000, help='resamples of patients')
    parser.add_argument('--seed', type=int, default=0, help='seed of the resamples')
    return parser.parse_args()


# ---- the two spaces

def answers_of(run):
    "Out-of-fold predictions, and (n, d) logits that do not depend on their common height."
    oof = read_oof(run/'oof.csv')
    oof = oof[oof.source.str.startswith('siim')].reset_index(drop=True)
    logits = oof.filter(regex='^logit_').to_numpy()
    return oof, logits - logits.mean(axis=1, keepdims=True)


def features_of(run, part):
    "Out-of-fold predictions of one fold on SIIM-ISIC 2020, and (n, d) pooled features."
    from melanoma_nbdev.data.manifest import load_manifest
    from melanoma_nbdev.training.learner import predict_logits
    from melanoma_nbdev.training.models import load_model
    oof = read_oof(run/f'fold{part}'/'oof.csv')
    oof = oof[oof.source.str.startswith('siim')].reset_index(drop=True)
    manifest = load_manifest('siim2020').set_index('image_id').loc[oof.image_id].reset_index()
    model, config = load_model(run, part)
    kept = []
    last = [layer for layer in model.modules() if hasattr(layer, 'in_features')][-1]
    last.register_forward_pre_hook(lambda _, given: kept.append(given[0].detach().numpy()))
    predict_logits(model, manifest, config, 1, label=f'fold {part}')
    return oof, np.concatenate(kept)


# ---- distances and what they are worth

def distances(places, patient):
    "(n,) distance of each row from the median of the patient's other rows."
    places = places/places.std(axis=0).clip(1e-6)
    found = np.zeros(len(places))
    for rows in pd.Series(patient).groupby(patient).indices.values():
        for row in rows:
            others = places[rows[rows != row]]
            found[row] = np.linalg.norm(places[row] - np.median(others, axis=0))
    return found


def together(oof, distance):
    "(n,) risks of a logistic regression on log-odds and distance, out of fold by patient."
    known = np.stack([logit(oof.p_melanoma), np.log(distance.clip(1e-6))], axis=1)
    model = make_pipeline(StandardScaler(), LogisticRegression())
    return cross_val_predict(model, known, oof.target, groups=oof.patient_id, cv=GroupKFold(5),
                             method='predict_proba')[:, 1]


def row_of(name, scores, oof, given):
    "AUC of scores over all pairs, and over pairs of one patient."
    found = auc_within(oof.target, scores, oof.patient_id, clusters(oof, warn=False),
                       n_boot=given.n_boot, seed=given.seed)
    names = dict(auc='within', lo='within_lo', hi='within_hi', strata='patients_with_both')
    return dict(score=name, auc=auc(oof.target, scores),
                **{column: found[key] for key, column in names.items()})


def worth(space, oof, places, given):
    "The rows of one space."
    several = oof.groupby('patient_id').image_id.transform('size') >= FEWEST
    oof, places = oof[several].reset_index(drop=True), places[several.to_numpy()]
    distance = distances(places, oof.patient_id.to_numpy())
    scores = dict(risk=oof.p_melanoma.to_numpy(), distance=distance,
                  together=together(oof, distance))
    gain = compare_models(oof.assign(p_melanoma=scores['together']), oof, ('auc',),
                          given.n_boot, given.seed)['auc']
    counts = dict(space=space, n=len(oof), n_pos=int(oof.target.sum()),
                  patients=oof.patient_id.nunique())
    rows = [counts | row_of(name, score, oof, given) for name, score in scores.items()]
    rows[-1] |= {'gain' + end: gain[key] for end, key in (('', 'diff'), ('_lo', 'lo'),
                                                          ('_hi', 'hi'))}
    return pd.DataFrame(rows)


def main():
    "Judge one space and write its rows."
    given = options()
    space = 'features' if given.features else 'answers'
    places = features_of(given.features, given.part) if given.features else answers_of(given.run)
    table = worth(space, *places, given)
    if given.dest.exists():
        before = pd.read_csv(given.dest)
        table = pd.concat([before[before.space != space], table])
    write_csv(given.dest, table.sort_values('space', kind='stable'))
    print(table.to_string(index=False))


if __name__ == '__main__':
    main()
