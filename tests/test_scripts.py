"""The scripts of long computations: each says what it does, and does it at a small size.

They are called in this process, as `python scripts/NAME.py` would, so that torch is loaded once."""
import importlib
import json
import re
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run
from sklearn.metrics import roc_auc_score

from melanoma_nbdev.bedside.inference import load_artefact

SCRIPTS = ROOT/'scripts'
EXAMPLES = ROOT/'melanoma_nbdev'/'examples'
RESULTS = ROOT/'results'
SHARED = ('common', 'firefox', 'torch_page')
NAMES = sorted(path.stem for path in SCRIPTS.glob('*.py') if path.stem not in SHARED)
SMALL_RUN = dict(data='phantom', preset='nano', size=32, folds=2, epochs=1, threads=1, quiet=True,
                 duplicates=False)


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    "No real images, and scripts/ is where modules are looked for first."
    monkeypatch.delenv('MELANOMA_DATA', raising=False)
    monkeypatch.syspath_prepend(str(SCRIPTS))


def script(name):
    "A script as a module."
    return importlib.import_module(name)


def call(monkeypatch, name, *words):
    "A script's command line, in this process."
    monkeypatch.setattr(sys, 'argv', [f'scripts/{name}.py', *map(str, words)])
    script(name).main()


# ---- what they say

@pytest.mark.parametrize('name', [name for name in NAMES if name != 'read_memory'])
def test_help(name, monkeypatch, capsys):
    "`--help` prints the script's own text and names the options."
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as end: script(name).options()
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert f'scripts/{name}.py' in said and '--help' in said


def test_help_from_anywhere(tmp_path):
    "As a program, from another folder."
    done = run([sys.executable, SCRIPTS/'external_libraries.py', '--help'], tmp_path)
    assert done.returncode == 0 and 'compare' in done.stdout


def test_readme_has_a_row_for_each():
    "scripts/README.md lists every script, and no other; what it names in results/ is there."
    rows = [line for line in (SCRIPTS/'README.md').read_text().splitlines() if line.startswith('|')]
    listed = [hit.group(1) for row in rows if (hit := re.match(r'\| `(\w+)\.py`', row))]
    assert sorted(listed) == NAMES
    files = re.findall(r'`(results/[\w./-]+\w)`', '\n'.join(rows))
    assert files
    assert [name for name in files if not (ROOT/name).exists()] == []


def test_results_hold_files_only():
    "No code in results/; README.md there has a row for each folder and file."
    assert list(RESULTS.rglob('*.py')) == []
    text = (RESULTS/'README.md').read_text()
    listed = set(re.findall(r'^\| `([\w./-]+?)/?`', text, re.M))
    files = [path.relative_to(RESULTS) for path in RESULTS.rglob('*')
             if path.is_file() and path.name != 'README.md']
    missing = [path for path in files if not {str(path), *map(str, path.parents)} & listed]
    assert missing == []
    assert [name for name in listed if not (RESULTS/name).exists()] == []


# ---- evidence

def test_disturb(monkeypatch, tmp_path):
    "Two rows a disturbance; maps of the trained and of shuffled networks; settings of both."
    call(monkeypatch, 'disturb', 'answers', 'phantom', '--n', 4, '--dest', tmp_path)
    table = pd.read_csv(tmp_path/'disturbances_phantom.csv')
    assert list(table.kind) == ['disturbance', 'noise']*8
    assert (table.n_below + table.n_above == 4).all()
    call(monkeypatch, 'disturb', 'maps', '--n', 4, '--dest', tmp_path)
    maps = pd.read_csv(tmp_path/'maps.csv')
    assert set(maps[maps.weights == 'trained'].measure) == {'on_lesion', 'by_chance', 'gain'}
    assert 'all shuffled' in set(maps.weights)
    assert set(json.loads((tmp_path/'disturbances.json').read_text())) == {'phantom', 'maps'}


def test_leak_price(monkeypatch, tmp_path):
    "The audits fire on the split that cuts lesions alone; every image of a phantom could leak."
    words = ['phantom', '--out', tmp_path/'runs', '--dest', tmp_path]
    small = ['--arch', 'test_efficientnet', '--size', 32, '--epochs', 1, '--folds', 2]
    call(monkeypatch, 'leak_price', 'train', *words, *small, '--lesions', 24)
    call(monkeypatch, 'leak_price', 'compare', *words, '--n_boot', 50)
    audit = pd.read_csv(tmp_path/'leak_phantom_audit.csv')
    assert set(audit[audit.verdict == 'fires'].arm) == {'cut'}
    prices = pd.read_csv(tmp_path/'leak_phantom.csv')
    assert set(prices.part) == {'all', 'could_leak'} and (prices.n == 48).all()
    assert ((prices.cut - prices.kept - prices.price).abs() < 1e-9).all()


def test_simulate_auc(monkeypatch, tmp_path):
    "Coverage of each method; a second call only adds what is missing."
    words = ['--positives', 50, '--raw', tmp_path/'raw.csv', '--dest', tmp_path]
    call(monkeypatch, 'simulate_auc', '--sims', 1, *words)
    first = pd.read_csv(tmp_path/'raw.csv')
    call(monkeypatch, 'simulate_auc', '--sims', 2, *words)
    both = pd.read_csv(tmp_path/'raw.csv')
    pd.testing.assert_frame_equal(both.iloc[:1], first)
    table = pd.read_csv(tmp_path/'coverage.csv')
    assert list(table.method) == list(script('simulate_auc').METHODS)
    assert (table.simulations == 2).all()


def test_simulate_intervals(monkeypatch, tmp_path):
    "The part that is asked for, a row a setting and method; no interval here is without width."
    words = ['--sets', 6, '--n_boot', 50, '--dest', tmp_path]
    call(monkeypatch, 'simulate_intervals', 'perfect', *words)
    table = pd.read_csv(tmp_path/'perfect.csv')
    assert [path.name for path in tmp_path.iterdir()] == ['perfect.csv']
    assert set(table.method) == {'here', 'percentile'} and (table.sets == 6).all()
    assert (table.no_width[table.method == 'here'] == 0).all()


def test_simulate_decisions(monkeypatch, tmp_path):
    words = ['--sims', 2, '--positives', 200, '--icc', .3, '--dest', tmp_path]
    call(monkeypatch, 'simulate_decisions', *words)
    table = pd.read_csv(tmp_path/'decisions.csv')
    assert list(table.columns) == list(pd.read_csv(RESULTS/'evidence'/'decisions.csv').columns)
    assert len(table) == 10 and table['mean'].between(.5, 1).all()


def test_simulate_judged(monkeypatch, tmp_path):
    "Small: the tables have the columns of those in results, and nothing has zero width."
    call(monkeypatch, 'simulate_judged', '--sims', 2, '--positives', 200, '--dest', tmp_path)
    for name in ('judged_points', 'judged_models', 'judged_calibration'):
        table = pd.read_csv(tmp_path/f'{name}.csv')
        assert list(table) == list(pd.read_csv(RESULTS/'evidence'/f'{name}.csv'))
    points = pd.read_csv(tmp_path/'judged_points.csv')
    after = points[points['way'] == 'after']
    assert (after.zero_width == 0).all() and (after.true - after.said).abs().max() < .05


@pytest.mark.parametrize('planted', [False, True])
def test_ugly_duckling(monkeypatch, tmp_path, planted):
    "A melanoma that lies apart from the patient's others is found, one that does not is not."
    random = np.random.default_rng(0)
    table = pd.DataFrame(dict(image_id=[f'i{n}' for n in range(300)], target=[1, 0, 0, 0, 0]*60,
                              patient_id=np.repeat([f'p{n}' for n in range(60)], 5)))
    logits = random.normal(size=(300, 3)) + 9*planted*np.outer(table.target, [0, 1, 0])
    risks = random.uniform(.1, .9, 300)
    table = table.assign(group=table.patient_id, fold=np.arange(300)//5 % 5, p_melanoma=risks,
                         source='siim', **{f'logit_{n}': logits[:, n] for n in range(3)})
    table.to_csv(tmp_path/'oof.csv', index=False)
    dest = tmp_path/'ducks.csv'
    words = ('--run', tmp_path, '--dest', dest, '--n_boot', 50)
    for _ in range(2): call(monkeypatch, 'ugly_duckling', *words)  # the second replaces the first
    found = pd.read_csv(dest).set_index('score')
    assert list(found.index) == ['risk', 'distance', 'together'] and set(found.n) == {300}
    assert (found.within['distance'] > .95) == planted
    assert (found.gain_lo['together'] > .2) == planted


def siim_runs(folder):
    "Two invented runs on the embedded phantoms, and one that has a single fold; their folds."
    from melanoma_nbdev.core import package_dir, write_json
    from melanoma_nbdev.data.manifest import load_manifest

    manifest = load_manifest(package_dir()/'examples', images=False)
    folds = pd.factorize(manifest.patient_id)[0] % 3
    for name, noise in (('lite0_192-0', .5), ('lite0_192-1', 1.), ('one_fold', 2.)):
        errors = np.random.default_rng(int(noise*2)).normal(0, noise, len(manifest))
        risks = 1/(1 + np.exp(-2*manifest.target.astype(float) + 1 - errors))
        columns = dict(group=manifest.patient_id, fold=folds, p_melanoma=risks)
        oof = manifest[['image_id', 'patient_id', 'target']].assign(**columns)
        if name == 'one_fold': oof = oof[oof.fold == 1]
        (folder/name).mkdir()
        oof.to_csv(folder/name/'oof.csv', index=False)
        write_json(folder/name/'config.json', dict(data='examples', seed=0))
    return folds


def test_siim_study(monkeypatch, tmp_path):
    """Two runs and no third: their rank average, paired differences, a floor; measured twice,
    equal. A run of one fold is held against the base there, and is in no average."""
    folds = siim_runs(tmp_path)
    words = ['--data', EXAMPLES, '--folder', tmp_path, '--n_boot', 50]
    call(monkeypatch, 'siim_study', *words)
    first = pd.read_csv(tmp_path/'runs.csv').set_index('run')
    call(monkeypatch, 'siim_study', *words)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path/'runs.csv').set_index('run'), first)
    assert list(first.index) == ['lite0_192-0', 'lite0_192-1', 'rank2']
    difference = first.auc['lite0_192-1'] - first.auc['lite0_192-0']
    assert abs(first.minus_base['lite0_192-1'] - difference) < 1e-5
    assert (pd.read_csv(tmp_path/'floors.csv')['set'] == 'all').any()
    part, = pd.read_csv(tmp_path/'parts.csv').to_dict('records')
    assert (part['run'], part['folds'], part['n']) == ('one_fold', 1, (folds == 1).sum())
    assert abs(part['auc'] - part['auc_base'] - part['auc_minus_base']) < 1e-5
    assert part['auc_lo'] < part['auc'] < part['auc_hi']


def test_bootstrap_speed(monkeypatch, tmp_path):
    call(monkeypatch, 'bootstrap_speed', '--rows', 2000, 3000, '--loop', 2, '--dest', tmp_path)
    table = pd.read_csv(tmp_path/'speed.csv')
    assert list(table.rows) == [2000, 3000] and table.times_faster_cpu[0] > 1


def test_external_libraries(monkeypatch, tmp_path):
    "Steps one and three; our own figures stand for the other libraries'."
    data, theirs = tmp_path/'check.csv', tmp_path/'other.json'
    call(monkeypatch, 'external_libraries', 'make', data, '--patients', 60)
    stored = pd.read_csv(RESULTS/'evidence'/'external.csv')
    blank = dict.fromkeys(('auc', 'lo', 'hi'), .5)
    thresholds = script('external_libraries').THRESHOLDS
    theirs.write_text(json.dumps(blank | dict(
        model=[0.]*len(thresholds), all=[0.]*len(thresholds),
        versions=dict(dcurves='0', confidenceinterval='0'))))
    call(monkeypatch, 'external_libraries', 'compare', data, theirs, '--dest', tmp_path)
    table = pd.read_csv(tmp_path/'external.csv')
    assert list(table.what) == list(stored.what)
    assert np.allclose(table.difference, (table.ours - table.theirs).abs())


def test_page_timing_summary(tmp_path):
    "Median and range of each page, ratios to that with torch, and files that all differ."
    timing = script('page_timing')
    visits = dict(waiting=[dict(ready_s=t, visitor_mb=150.) for t in (1., 2., 9.)],
                  torch=[dict(ready_s=20., visitor_mb=900.)])
    found = timing.summary(visits, dict(seconds=[4., 4., 5., 5.]), [0., 0.])
    assert found['pages']['waiting']['ready_s'] == dict(median=2., lo=1., hi=9., n=3)
    assert found['ratios'] == dict(ready=10., memory=1/6) and found['fourth_to_first'] == 1.25
    files = [*timing.different(tmp_path, 0, 3), *timing.different(tmp_path, 1, 3)]
    assert len({path.read_bytes() for path in files}) == 6
    assert timing.Image.open(timing.big_jpeg(tmp_path)).size == (4000, 3000)


def test_page_load_summary():
    "Memory afterwards is held against the start; a visitor who is neither counts as lost."
    load = script('page_load')
    rounds = [dict(name='in turn', visitors=2, answered=1, full=0)]
    found = load.summary(rounds, 100., 109., 300., [0., 0.], dict(limit_mb=2048))
    assert found['lost'] == 1 and found['afterwards_to_start'] == 1.09


def test_page_redraw():
    "Median and most of what was timed; what is kept was measured with twelve lesions, in time."
    redraw = script('page_redraw')
    found = redraw.median_and_most([dict(tiles=t) for t in (30., 50., 90.)])
    assert found == dict(tiles=dict(n=3, median_ms=50., max_ms=90.))
    kept = json.loads((ROOT/'results/page/redraw.json').read_text())
    assert kept['lesions'] == redraw.LESIONS and list(kept['faces']) == ['voila', 'static']
    assert all(face['tiles']['median_ms'] <= 200 for face in kept['faces'].values())


def test_page_screens(tmp_path):
    "Of the files that are to be refused none gets an answer."
    screens = script('page_screens')
    files = screens.refused_files(tmp_path)
    answers = load_artefact().predict(files)
    assert [answer['p_melanoma'] for answer in answers] == [None] * 3


def test_page_memory(monkeypatch):
    "What a kernel inherits, and what it held with all measures and without."
    memory = script('page_memory')
    monkeypatch.setenv('MALLOC_ARENA_MAX', '1')
    assert not [name for name in memory.environment(False) if name.startswith('MALLOC_')]
    assert memory.environment(True)['MALLOC_MMAP_THRESHOLD_'] == str(memory.LARGE_BLOCK)
    kinds = json.loads((ROOT/'results/page/memory.json').read_text())['kinds']
    assert list(kinds) == list(memory.KINDS) and kinds['with_all']['batch']['rss_mb'] < 220


def test_read_memory(tmp_path):
    image = sorted((EXAMPLES/'jpeg'/'train').glob('*.jpg'))[0]
    done = run([sys.executable, SCRIPTS/'read_memory.py', image], ROOT)
    assert done.returncode == 0 and ' MB ' in done.stdout, done.stderr


# ---- imbalance

def test_imbalance_compare(monkeypatch, tmp_path):
    "The stored tables' values; the intervals have fewer resamples here."
    call(monkeypatch, 'imbalance_compare', '--sets', 'phantom', '--n_boot', 20, '--dest', tmp_path)
    for what in ('ranking', 'calibration', 'threshold'):
        ours = pd.read_csv(tmp_path/f'phantom-{what}.csv')
        stored = pd.read_csv(RESULTS/'imbalance'/f'phantom-{what}.csv')
        assert list(ours.columns) == list(stored.columns)
        assert list(ours.arm) == list(stored.arm)
    assert np.allclose(ours.sensitivity, stored.sensitivity)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    "Weights of a MobileNetV2 that has learnt nothing."
    from melanoma_nbdev.training.models import DermModel, save_model
    path = tmp_path_factory.mktemp('weights')/'model.safetensors'
    save_model(DermModel('mobilenetv2_100', 1, pad_type='same'), path)
    return path


def test_imbalance_train(monkeypatch, tmp_path, weights):
    words = f'--size 32 --epochs 1 --folds 2 --bs 16 --seeds 0 --limit 80 --weights {weights}'
    words = [*words.split(), '--arms', 'bce,balanced sampler', '--out', tmp_path/'runs',
             '--dest', tmp_path]
    call(monkeypatch, 'imbalance_train', 'phantom', *words)
    table = pd.read_csv(tmp_path/'phantom.csv.gz')
    risks = table[['bce|0', 'balanced sampler|0']].to_numpy()
    assert ((risks >= 0) & (risks <= 1)).all()
    assert json.loads((tmp_path/'phantom.json').read_text())['n'] == len(table) == 80
    before = (tmp_path/'phantom.csv.gz').read_bytes()
    call(monkeypatch, 'imbalance_train', 'phantom', *words)  # all is there: nothing is trained
    assert (tmp_path/'phantom.csv.gz').read_bytes() == before


def test_unknown_benign(monkeypatch, tmp_path):
    "Three arms on images half of whose benign diagnoses are hidden; resumed, the same comes out."
    from melanoma_nbdev.core import package_dir, read_json

    words = '--folds 2 --preset nano --size 32 --epochs 1 --hide .5 --n_boot 50'.split()
    words += ['--sources', package_dir()/'examples', '--out', tmp_path/'runs']
    call(monkeypatch, 'unknown_benign', *words, '--dest', tmp_path/'first.json')
    call(monkeypatch, 'unknown_benign', *words, '--dest', tmp_path/'again.json')
    assert (tmp_path/'first.json').read_bytes() == (tmp_path/'again.json').read_bytes()
    found = read_json(tmp_path/'first.json')
    rows = {arm: next(iter(of_source.values())) for arm, of_source in found['arms'].items()}
    assert list(rows) == ['partial', 'binary', 'nevi'] and found['unknown'] > 0
    assert rows['nevi']['diagnoses'] >= 3 and 'macro' not in rows['binary']
    gain = rows['binary']['auc']['value'] - rows['partial']['auc']['value']
    assert abs(rows['binary']['minus_partial']['diff'] - gain) < 1e-9
    classes = {arm: read_json(tmp_path/'runs'/arm/'config.json')['classes'] for arm in rows}
    assert classes['binary'] == ['MEL'] and 'NOT_MELANOMA' not in classes['nevi']
    assert 'UNK' not in classes['partial'] + classes['nevi']


# ---- models and pipeline

def test_model_costs(monkeypatch, capsys):
    "What a process of its own says of one model."
    words = ['--models', 'test_efficientnet:32:2', '--seconds', .1]
    call(monkeypatch, 'model_costs', 'one', *words)
    record = json.loads(capsys.readouterr().out)
    assert set(record) | {'machine'} == set(pd.read_csv(RESULTS/'models'/'cost.csv').columns)
    assert min(record[name] for name in ('parameters', 'gflops', 'train_images_per_s')) > 0


def test_int8(monkeypatch, tmp_path, capsys):
    "Eight bits take less room, and on the pictures shown the answers stay near."
    from melanoma_nbdev.training.run import train_run

    train_run(tmp_path/'run', **SMALL_RUN | dict(only=[0]))
    words = '--source phantom --n 40 --calibration 16 --rounds 3'.split()
    call(monkeypatch, 'int8', tmp_path/'run', *words, '--dest', tmp_path/'int8.json')
    found = json.loads((tmp_path/'int8.json').read_text())
    assert set(found) == set(json.loads((RESULTS/'models'/'int8.json').read_text()))
    assert found['megabytes']['int8'] < found['megabytes']['float32']
    assert 0 < found['largest'] < .5 and found['n'] == 40


def test_pipeline_speed(monkeypatch, tmp_path):
    dest = tmp_path/'efficiency.json'
    words = f'--data phantom --preset nano --n 60 --rounds 1 --dest {dest}'.split()
    call(monkeypatch, 'pipeline_speed', *words)
    found = json.loads(dest.read_text())
    stored = json.loads((RESULTS/'pipeline'/'efficiency.json').read_text())
    assert set(found) == set(stored) and found['images'] == 60


def test_memory_between_folds(monkeypatch, tmp_path):
    dest = tmp_path/'memory.json'
    words = f'--data phantom --preset nano --size 32 --folds 2 --dest {dest}'.split()
    call(monkeypatch, 'memory_between_folds', *words)
    assert len(json.loads(dest.read_text())['memory_mb']) == 2


def test_planted_leak(monkeypatch, tmp_path):
    words = ['--n', 90, '--epochs', 1, '--out', tmp_path/'runs', '--dest', tmp_path]
    call(monkeypatch, 'planted_leak', *words)
    found = json.loads((tmp_path/'leak.json').read_text())
    stored = json.loads((RESULTS/'pipeline'/'leak.json').read_text())
    assert {name: set(record) for name, record in found.items()} == {
        name: set(record) for name, record in stored.items()}


def test_ray_side_by_side_trains(tmp_path):
    "One of the three runs: seconds and hashes."
    words = '--data phantom --preset nano --size 32 --folds 2 --epochs 1 --threads 1'.split()
    record = script('ray_side_by_side').run(tmp_path/'run', words)
    assert set(record) == {'seconds', 'oof_sha256', 'oof_best_sha256'}


# ---- the truth of a synthetic set

@pytest.fixture(scope='module')
def study(tmp_path_factory):
    "A run on the example images, evaluated."
    from melanoma_nbdev.core import write_json
    from melanoma_nbdev.evidence.oof import read_oof
    from melanoma_nbdev.report.evaluation import evaluate
    from melanoma_nbdev.training.run import train_run
    folder = tmp_path_factory.mktemp('study')/'run'
    train_run(folder, **SMALL_RUN, meta='age,sex,site')
    write_json(folder/'metrics.json', evaluate(read_oof(folder), folder, n_boot=20)[0])
    return folder


def test_distance_to_truth(monkeypatch, tmp_path, study):
    out = tmp_path/'truth.json'
    words = [EXAMPLES, study/'oof.csv', '--out', out, '--n_boot', 20]
    call(monkeypatch, 'distance_to_truth', *words)
    found = json.loads(out.read_text())
    assert found['z']['auc'] > found['model'] and 'make_phantom' in found['commands'][0]
    assert abs(found['picture']['auc'] - found['model'] - found['picture']['distance']) < .1


def test_taught_backbone(monkeypatch, tmp_path, study, weights):
    "Criteria are taught, read, and summed up beside the run."
    taught, kept = tmp_path/'criteria', tmp_path/'kept'
    lessons = f'--epochs 1 --size 32 --bs 16 --tta 1 --weights {weights}'.split()
    call(monkeypatch, 'teach_criteria', '--phantom', EXAMPLES, '--out', taught, *lessons)
    assert set(json.loads((taught/'criteria.json').read_text())['r2']) == {
        'asymmetry', 'border', 'colours', 'structures', 'diameter'}
    config = json.loads((study/'config.json').read_text())
    run_folder = tmp_path/'run'
    shutil.copytree(study, run_folder)
    config['arch_kwargs'] = dict(pad_type='same')
    (run_folder/'config.json').write_text(json.dumps(config))
    call(monkeypatch, 'summarise_run', run_folder, '--phantom', EXAMPLES, '--taught', taught,
         '--to', kept)
    assert json.loads((kept/'summary.json').read_text())['folds'] == 2
    assert json.loads((kept/'truth.json').read_text())['commands'][-1].startswith('python scripts/')
    call(monkeypatch, 'criteria_readings', '--taught', taught, '--run', run_folder, '--phantom',
         EXAMPLES, '--out', kept/'readings.json', '--tta', 1)
    assert len(pd.read_csv(kept/'readings_oof.csv')) == json.loads(
        (kept/'readings.json').read_text())['n']


def test_truth_summary(monkeypatch, tmp_path):
    "The stored table; the intervals of the gain have fewer resamples here."
    call(monkeypatch, 'truth_summary', '--n_boot', 20, '--dest', tmp_path)
    ours, stored = (pd.read_csv(folder/'summary.csv') for folder in (tmp_path, RESULTS/'truth'))
    bounds = ['gain_lo', 'gain_hi']
    pd.testing.assert_frame_equal(ours.drop(columns=bounds), stored.drop(columns=bounds))


def test_evaluate_embedded(monkeypatch, tmp_path, study):
    "metrics.json again from out-of-fold file and source; `optimism` is taken over."
    folder = tmp_path/'kept'
    folder.mkdir()
    for name in ('config.json', 'oof.csv', 'metrics.json'): shutil.copyfile(study/name, folder/name)
    before = json.loads((folder/'metrics.json').read_text())
    call(monkeypatch, 'evaluate_embedded', folder, '--data', 'phantom')
    after = json.loads((folder/'metrics.json').read_text())
    assert after['optimism'] == before['optimism'] and after['auc'] == before['auc']


def test_evaluate_embedded_of_two_sources(monkeypatch, tmp_path, study):
    "Each source gets its figures; the main one is that which config.json names first."
    for name in ('config.json', 'metrics.json'): shutil.copyfile(study/name, tmp_path/name)
    table = pd.read_csv(study/'oof.csv')
    table['source'] = np.where(table['group'].rank(method='dense') % 2 == 0, 'other', 'phantom')
    table.to_csv(tmp_path/'oof.csv', index=False)
    call(monkeypatch, 'evaluate_embedded', tmp_path, '--data', 'phantom')
    for source, file in dict(phantom='metrics.json', other='metrics_other.json').items():
        own = table[table.source == source]
        figures = json.loads((tmp_path/file).read_text())
        assert (figures['n'], figures['n_pos']) == (len(own), own.target.sum())
        expected = roc_auc_score(own.target, own.p_melanoma)
        assert figures['auc']['value'] == pytest.approx(expected)


def test_renewed_card_keeps_the_rest(tmp_path, study):
    "Refusal, fingerprints and hashes of an artefact stay; what is decided is of the new table."
    from melanoma_nbdev.bedside.inference import load_artefact
    from melanoma_nbdev.evidence.oof import read_oof

    artefact = shutil.copytree(ROOT/'melanoma_nbdev'/'weights', tmp_path/'weights')
    before = json.loads((artefact/'card.json').read_text())
    script('evaluate_embedded').renew_card(artefact, study, read_oof(study))
    after = load_artefact(artefact).card
    assert all(after[name] == before[name] for name in ('seen', 'ood', 'sha256', 'calibration'))
    assert after['operating_points'] != before['operating_points']


# ---- speed and memory

def test_predict_speed(monkeypatch, tmp_path):
    "The command and the usual loop answer for the same files; both are timed."
    dest = tmp_path/'speed.json'
    call(monkeypatch, 'predict_speed', '--data', 'phantom', '--n', 3, '--large', 1, '--rounds', 1,
         '--ways', 'predict', 'loop', '--dest', dest)
    found = json.loads(dest.read_text())
    assert found['files'] == 4 and found['symmetries'] == 8
    for way in ('predict', 'loop'):
        assert 0 < found[way]['first_s'] < found[way]['seconds'] and found[way]['peak_mb'] > 50
    assert found['times_loop']['median'] == pytest.approx(
        found['loop']['seconds']/found['predict']['seconds'], rel=1e-2)


def test_memory_in_epochs(monkeypatch, tmp_path):
    "A learner gives memory back after each epoch; what each epoch leaves is written down."
    dest = tmp_path/'memory.json'
    call(monkeypatch, 'memory_in_epochs', '--data', 'phantom', '--preset', 'nano', '--size', 32,
         '--epochs', 3, '--threads', 1, '--ways', 'kept', '--dest', dest)
    found = json.loads(dest.read_text())['kept']
    assert len(found['memory_mb']) == 3 and found['peak_mb'] > 100
    growth = found['memory_mb'][2]/found['memory_mb'][1] - 1
    assert found['growth'] == pytest.approx(growth, abs=1e-3)


# ---- colour constancy

def test_colour_constancy(monkeypatch, tmp_path):
    "Copies lie where the pictures lay, their channels are as bright as each other."
    from melanoma_nbdev.data.manifest import load_manifest
    from melanoma_nbdev.images import read_image

    call(monkeypatch, 'colour_constancy', tmp_path, '--sources', EXAMPLES, '--limit', 3)
    copies = sorted(tmp_path.rglob('*.jpg'))
    assert len(copies) == 3 and list(tmp_path.rglob('train.csv'))
    originals = {str(path).rsplit('/', 1)[-1]: path for path in load_manifest(EXAMPLES)['path']}

    def colour_of_light(path):
        "The largest Minkowski mean of a channel over the smallest."
        pixels = np.asarray(read_image(path)[0], dtype=float)
        means = (pixels**6).mean((0, 1))**(1/6)
        return means.max()/means.min()

    for path in copies:
        assert colour_of_light(path) < 1.05 < colour_of_light(originals[path.name])


def test_rows_across_sources_from_kept_logits(monkeypatch, tmp_path):
    "The published rows of a run follow from the logits that are kept, without model and images."
    across = script('across_sources')
    published = pd.read_csv(across.OUT)
    shutil.copytree(across.OUT.parent/'without_ham10000', tmp_path/'without_ham10000')
    monkeypatch.setattr(across, 'OUT', tmp_path/'across.csv')
    call(monkeypatch, 'across_sources', 'without_ham10000', '--on', 'ham10000', '--parts', '0',
         '--stored', '--n_boot', '20')
    made = pd.read_csv(tmp_path/'across.csv').set_index('on')
    before = published[published['run'] == 'without_ham10000'].set_index('on')
    for name in ('n', 'n_pos', 'auc', 'slope', 'oe', 'threshold', 'sensitivity', 'specificity'):
        np.testing.assert_allclose(made[name], before.loc[made.index, name], atol=2e-6)


def test_page_answers(monkeypatch, tmp_path):
    "On drawn lesions no promise of the page is broken; a broken one would be counted."
    dest = tmp_path/'answers.json'
    call(monkeypatch, 'page_answers', '--sources', 'phantom', '--n', '6', '--turned', '1',
         '--dest', dest)
    row = json.loads(dest.read_text())['sources']['phantom']
    assert row['answered'] == 6 and row['outside'] == row['calming'] == 0 < row['above']
    assert row['largest_turn_points'] < .1
    answers = script('page_answers')
    card = json.loads((ROOT/'melanoma_nbdev'/'weights'/'card.json').read_text())
    assert answers.is_inside(card, .2) and not answers.is_calming(card, .2)
    safe = answers.operating_points(card)[.95]
    safe['threshold'] = .001  # beside the point for 98%, which still calls it lying under
    assert answers.is_calming(card, .002)


def test_fingerprints(monkeypatch, tmp_path):
    """Of drawn lesions, each is found again and none is taken for another; images that the card
    does not count are refused."""
    model, dest = tmp_path/'model', tmp_path/'seen.json'
    shutil.copytree(ROOT/'melanoma_nbdev'/'weights', model)
    words = [model, '--sources', 'phantom', '--n', 12, '--workers', 1, '--dest', dest]
    with pytest.raises(Exception, match='240 images are here, and the card names 19,267'):
        call(monkeypatch, 'fingerprints', *words)
    card = json.loads((model/'card.json').read_text())
    script('fingerprints').write_card(model/'card.json', card | dict(data=[dict(n=240)]))
    call(monkeypatch, 'fingerprints', *words)
    found = json.loads(dest.read_text())
    assert found['n'] == 240 and (model/'seen.bin').stat().st_size == 240*32
    assert found['false_matches'][0]['matched'] == 0 == len(found['pairs'])
    assert [row['matched'] for row in found['found_again']] == [12]*5
    kept = json.loads((model/'card.json').read_text())
    assert {name: found[name] for name in kept['seen']} == kept['seen']
    example = sorted((EXAMPLES/'jpeg'/'train').glob('*.jpg'))[0]
    assert script('pin_answers').load_artefact(model).predict(example)['trained_on']


def test_chosen_limit():
    "The most bits with few false matches of each kind that is large enough to tell."
    scripted = script('fingerprints')
    same = scripted.SAME
    many = np.r_[3, np.full(99, 60)]
    few = np.array([1])
    assert scripted.chosen_limit({same: many, 'few': few}, .01) == 59
    assert scripted.chosen_limit({same: many, 'more': np.r_[5, 7, many]}, .01) == 4
    assert scripted.chosen_limit({same: np.array([9, 8])}, .01) == 7
