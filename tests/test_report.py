"The page of an evaluation, opened in a real browser: it asks for nothing, every figure is there and large enough to read, and it fits a phone."
import re

import numpy as np, pandas as pd
import pytest

from melanoma_nbdev.evidence.oof import simulate_oof

@pytest.fixture(scope='module')
def report(tmp_path_factory):
    "report.html of a simulated run with everything that a run may have"
    from melanoma_nbdev.report.html import melanoma_evaluate
    d = tmp_path_factory.mktemp('run'); oof = simulate_oof(260, prevalence=.08, seed=2); rng = np.random.default_rng(0); n = len(oof)
    oof.to_csv(d/'oof.csv', index=False); oof.assign(p_melanoma=oof.p_melanoma.round(2)).to_csv(d/'oof_best.csv', index=False)
    pd.DataFrame(dict(image_id=oof.image_id, sex=rng.choice(['female', 'male', None], n), age=rng.integers(15, 90, n), site=rng.choice(['torso', 'head/neck', '<script>alert(1)</script>'], n), width=rng.choice([6000, 1024], n), height=4000,
                      dx=np.where(oof.target == 1, 'MEL', 'NV'))).to_csv(d/'manifest.csv', index=False)
    melanoma_evaluate(str(d), against=str(d/'oof_best.csv'), n_boot=200)
    return d/'report.html'

def open_page(browser, report, width, height=900):
    page = browser.new_page(viewport=dict(width=width, height=height)); asked, said = [], []
    page.on('request', lambda r: asked.append(r.url) if not r.url.startswith(('file:', 'data:')) else None)
    page.on('console', lambda m: said.append(m.text)); page.on('pageerror', lambda e: said.append(str(e)))
    page.goto(report.as_uri()); return page, asked, said

def test_report_asks_for_nothing(browser, report):
    page, asked, said = open_page(browser, report, 1200)
    assert not asked and not said, (asked, said)
    text = report.read_text(encoding='utf-8'); assert not re.search(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', text) and '<script' not in text
    page.close()

def test_every_figure_can_be_read(browser, report, tmp_path):
    page, *_ = open_page(browser, report, 1200)
    figs = page.eval_on_selector_all('figure img', "els => els.map(e => ({alt: e.alt, done: e.complete, nat: e.naturalWidth, w: e.getBoundingClientRect().width, h: e.getBoundingClientRect().height}))")
    assert len(figs) == 6, [f['alt'] for f in figs]
    for f in figs:
        assert f['done'] and f['nat'] > 300 and f['alt'] and f['h'] > 200, f
        assert f['w']/f['nat'] > .75, f'{f["alt"]} is shrunk to {f["w"]/f["nat"]:.0%}'   # text of 8 to 10 points stays readable
    for words in ('Discrimination', 'Calibration', 'Decisions', 'Subgroups', 'Optimism', 'Melanomas with the lowest scores', 'Against', 'not a medical device'): assert page.get_by_text(words).count(), words
    page.screenshot(path=tmp_path/'report.png', full_page=True); page.close()

@pytest.mark.parametrize('width', [390, 768, 1200])
def test_report_fits(browser, report, width):
    page, *_ = open_page(browser, report, width)
    assert page.evaluate('document.documentElement.scrollWidth') <= width
    page.close()
