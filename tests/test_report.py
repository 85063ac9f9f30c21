"""The page of an evaluation, opened in a real browser: it asks for nothing, every figure is there
and large enough to read, and it fits a phone. The command names a fault of a table at once."""
import re
import resource

import numpy as np
import pandas as pd
import pytest
from conftest import BIN, run
from melanoma_nbdev.evidence.oof import simulate_oof

SITES = ['torso', 'head/neck', '<script>alert(1)</script>']
PARTS = ('Discrimination', 'Calibration', 'Decisions', 'Subgroups', 'Optimism',
         'Melanomas with the lowest scores', 'Against', 'not a medical device')
SIZES = """images => images.map(image => {
    const box = image.getBoundingClientRect()
    return {alt: image.alt, done: image.complete, natural: image.naturalWidth,
            width: box.width, height: box.height}})"""
ADDRESS = r'(?:src|href)\s*=\s*["\']?(?:https?:)?//'


def manifest_of(oof):
    "Made-up facts of the images, one of them hostile."
    rng = np.random.default_rng(0)
    n = len(oof)
    return pd.DataFrame(dict(
        image_id=oof.image_id,
        sex=rng.choice(['female', 'male', None], n),
        age=rng.integers(15, 90, n),
        site=rng.choice(SITES, n),
        width=rng.choice([6000, 1024], n),
        height=4000,
        dx=np.where(oof.target == 1, 'MEL', 'NV')))


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    "report.html of a simulated run with everything that a run may have."
    from melanoma_nbdev.report.html import melanoma_evaluate
    folder = tmp_path_factory.mktemp('run')
    oof = simulate_oof(260, prevalence=.08, seed=2)
    best = folder/'oof_best.csv'
    oof.to_csv(folder/'oof.csv', index=False)
    oof.assign(p_melanoma=oof.p_melanoma.round(2)).to_csv(best, index=False)
    manifest_of(oof).to_csv(folder/'manifest.csv', index=False)
    melanoma_evaluate(str(folder), against=str(best), n_boot=200)
    return folder/'report.html'


# ---- the page

def open_page(browser, report, width, height=900):
    "The page, the addresses that it asked for, and what it said on the console."
    page = browser.new_page(viewport=dict(width=width, height=height))
    asked, said = [], []
    page.on('request', lambda request: asked.append(request.url))
    page.on('console', lambda message: said.append(message.text))
    page.on('pageerror', lambda error: said.append(str(error)))
    page.goto(report.as_uri())
    return page, [url for url in asked if not url.startswith(('file:', 'data:'))], said


def test_report_asks_for_nothing(browser, report):
    page, asked, said = open_page(browser, report, 1200)
    assert not asked and not said, (asked, said)
    page.close()


def test_report_holds_no_address_and_no_script(report):
    "Whatever a table says of an image is text on the page."
    text = report.read_text(encoding='utf-8')
    assert not re.search(ADDRESS, text)
    assert '<script' not in text and '&lt;script&gt;' in text


def test_every_figure_can_be_read(browser, report, tmp_path):
    "Six figures, each with a text for those who do not see it; letters of 8 points stay readable."
    page = open_page(browser, report, 1200)[0]
    figures = page.eval_on_selector_all('figure img', SIZES)
    assert len(figures) == 6, [figure['alt'] for figure in figures]
    for figure in figures:
        assert figure['done'] and figure['alt'], figure
        assert figure['natural'] > 300 and figure['height'] > 200, figure
        assert figure['width']/figure['natural'] > .75, figure
    for words in PARTS:
        assert page.get_by_text(words).count(), words
    page.screenshot(path=tmp_path/'report.png', full_page=True)
    page.close()


@pytest.mark.parametrize('width', [390, 768, 1200])
def test_report_fits(browser, report, width):
    page = open_page(browser, report, width)[0]
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.close()


# ---- the command

def theirs(n=60):
    "Somebody's table, with headings and words of its own."
    oof = simulate_oof(n, prevalence=.3, seed=0)
    return pd.DataFrame({
        'Lesion picture': oof.image_id,
        'Verdict': np.where(oof.target == 1, 'bad mole', 'good mole'),
        'AI says': oof.p_melanoma})


def work_of_children():
    "Seconds of work of all finished commands, however busy the machine was."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def evaluated(folder, table, *options):
    "The finished command on a table, and the seconds of work that it took."
    table.to_csv(folder/'theirs.csv', index=False)
    before = work_of_children()
    done = run([BIN/'melanoma_evaluate', 'theirs.csv', '--quick', '--n_boot', 50, *options], folder)
    return done, work_of_children() - before


def test_headings_and_words_of_others(tmp_path):
    "--columns and --labels name what the table calls otherwise."
    columns = ['--columns', 'image_id=Lesion picture', 'target=Verdict', 'p_melanoma=AI says']
    labels = ['--labels', 'bad mole=MEL', 'good mole=NV']
    done, _ = evaluated(tmp_path, theirs(), *columns, *labels)
    assert done.returncode == 0, done.stderr
    assert 'AUC' in done.stdout and (tmp_path/'theirs-evaluation'/'metrics.json').exists()


def test_a_fault_is_named_at_once(tmp_path):
    "A table whose score cannot be found is refused in one sentence, within 3 seconds."
    done, seconds = evaluated(tmp_path, theirs(), '--target', 'Verdict', '--labels', 'bad mole=MEL')
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert 'no column holds the score' in done.stderr
    assert seconds < 3, f'{seconds:.1f} s'


@pytest.mark.parametrize('option, said', [
    (['--columns', 'AI says'], 'is not of the form name=value'),
    (['--columns', 'p_melanoma=AI'], "AI"),
    (['--score', 'AI says', '--target', 'Verdict'], 'not understood')])
def test_what_is_refused(tmp_path, option, said):
    done, _ = evaluated(tmp_path, theirs(), *option)
    assert done.returncode == 1 and said in done.stderr, done.stderr
