#!/usr/bin/env python3
"""What whole-number arithmetic (int8) costs and brings, on a source that the network never saw.

    MELANOMA_DATA=... python scripts/int8.py runs/without_ham10000 --source ham10000
    python scripts/int8.py runs/phantom --source phantom --n 60 --calibration 16 --dest try.json

The network of a run's fold is quantised by onnxruntime: weights and activations of 8 bits, scales
by channel, ranges from pictures of the run's own training images. Float and int8 answer for the
same images, one view each; the AUC's difference has a paired interval (DeLong's, lesions or
patients together). Milliseconds are of batches of eight views on one thread, both networks in
turn, their medians. Writes int8.json."""
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
from common import RESULTS, machine, parser_of
from melanoma_nbdev.core import softmax, write_json
from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.evidence.auc import auc
from melanoma_nbdev.evidence.comparison import paired_delong
from melanoma_nbdev.images import open_image, preprocess
from melanoma_nbdev.report.network_file import onnx_bytes
from melanoma_nbdev.report.limits import plain_inputs, run_images
from melanoma_nbdev.training.models import load_model
from onnxruntime.quantization import (
    CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process

VIEWS = 8


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('run', type=Path, help='a run folder')
    parser.add_argument('--fold', type=int, default=0, help='whose network')
    parser.add_argument('--source', default='ham10000', help='images that it never saw')
    parser.add_argument('--n', type=int, default=3000, help='of them, at most')
    parser.add_argument('--calibration', type=int, default=256, help='pictures for the ranges')
    parser.add_argument('--ranges', choices=('minmax', 'percentile'), default='minmax',
                        help='what an activation must hold: all values seen, or all but a few')
    parser.add_argument('--rounds', type=int, default=40, help='timed batches of each network')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--dest', type=Path, default=RESULTS/'models'/'int8.json')
    return parser.parse_args()


class Pictures(CalibrationDataReader):
    "Inputs of the network, one after another, as onnxruntime wants them."

    def __init__(self, inputs):
        self.inputs = iter(inputs)

    def get_next(self):
        "The next input, or None."
        one = next(self.inputs, None)
        return None if one is None else dict(image=one[None])


def quantised(content, inputs, ranges):
    "The network with 8 bits; `content` is as `onnx_bytes` gives it."
    method = CalibrationMethod.MinMax if ranges == 'minmax' else CalibrationMethod.Percentile
    with tempfile.TemporaryDirectory() as folder:
        given, ready, made = (Path(folder)/name for name in ('given', 'ready', 'made'))
        given.write_bytes(content)
        quant_pre_process(given, ready)
        quantize_static(
            ready, made, Pictures(inputs), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=method)
        return made.read_bytes()


def opened(content):
    "A session on one thread."
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, settings, providers=['CPUExecutionProvider'])


def risks(session, rows, config):
    "Probability of melanoma, (n,), one view an image."
    column = config['classes'].index('MEL') if 'MEL' in config['classes'] else 1
    logits = [session.run(['logits'], dict(image=one[None]))[0][0]
              for one in plain_inputs(rows.path, config)]
    return softmax(np.array(logits))[:, column]


def auc_difference(truth, first, second, groups):
    "Both AUCs, and first minus second with its 95% interval."
    found = paired_delong(truth, first, second, pd.factorize(groups)[0])
    half = 1.96*found['se']
    return dict(first=float(auc(truth, first)), second=float(auc(truth, second)),
                value=found['diff'], lo=found['diff'] - half, hi=found['diff'] + half)


def milliseconds(sessions, batch, rounds):
    "Median of one batch, by network; the networks take turns."
    took = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, session in sessions.items():
            began = time.perf_counter()
            session.run(['logits'], dict(image=batch))
            took[name].append(1000*(time.perf_counter() - began))
    return {name: float(np.median(times[2:])) for name, times in took.items()}


def main():
    "Quantise, judge, time, write."
    given = options()
    model, config = load_model(given.run, given.fold)
    content = onnx_bytes(model, config['size'])
    learnt = run_images(given.run, n=10**9)
    learnt = learnt[(learnt.fold != given.fold) & (learnt.fold >= 0)]
    learnt = learnt.sample(min(given.calibration, len(learnt)), random_state=given.seed)
    small = quantised(content, plain_inputs(learnt.path, config), given.ranges)
    sessions = dict(float32=opened(content), int8=opened(small))
    rows = load_manifest(given.source)
    rows = rows.sample(min(given.n, len(rows)), random_state=given.seed)
    found = {name: risks(session, rows, config) for name, session in sessions.items()}
    groups = rows.patient_id.fillna(rows.lesion_id).fillna(rows.image_id).to_numpy()
    truth = rows.target.to_numpy()
    costs = auc_difference(truth, found['int8'], found['float32'], groups)
    batch = np.stack([preprocess(open_image(rows.path.iloc[0]), config)]*VIEWS)
    took = milliseconds(sessions, batch, given.rounds)
    result = dict(
        run=given.run.name, fold=given.fold, arch=config['arch'], size=config['size'],
        source=given.source, n=len(rows), n_melanoma=int(truth.sum()), seed=given.seed,
        calibration=len(learnt), ranges=given.ranges,
        auc=dict(int8=costs.pop('first'), float32=costs.pop('second')), difference=costs,
        largest=float(np.abs(found['int8'] - found['float32']).max()),
        milliseconds=took, times_faster=took['float32']/took['int8'],
        megabytes=dict(float32=len(content)/1e6, int8=len(small)/1e6),
        machine=machine('onnxruntime', 'numpy'))
    write_json(given.dest, result)
    print(result)


if __name__ == '__main__':
    main()
