"No figure is typed: what README, notebooks and cards say is what the files hold, and a figure that was changed by hand is named."
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from melanoma_nbdev.core import read_json, write_json
from melanoma_nbdev.report import _MARK, numbers
from melanoma_nbdev.report.card import checklists_text, model_card

WEIGHTS, EMBEDDED = ROOT/'melanoma_nbdev'/'weights', ROOT/'results'/'embedded'

def test_all_figures_agree_with_their_files():
    assert numbers(ROOT) == []

def test_a_changed_figure_is_named(tmp_path):
    "One digit of the first figure of a copy of README is changed by hand"
    text = (ROOT/'README.md').read_text(encoding='utf-8'); copy = tmp_path/'README.md'; root = ROOT
    if not _MARK.search(text):   # a README without figures: one with a figure serves
        write_json(tmp_path/'m.json', dict(auc=dict(value=.9123))); text, root = 'AUC <!-- num: m.json auc.value .3f -->0.912<!-- /num -->', tmp_path
    m = next(m for m in _MARK.finditer(text) if re.search(r'\d', m[4])); i = m.start(4) + re.search(r'\d(?=\D*$)', m[4]).start()
    copy.write_text(text[:i] + str((int(text[i]) + 1) % 10) + text[i+1:], encoding='utf-8')
    said = numbers(root, files=[copy])
    assert len(said) == 1 and m[2] in said[0] and m[1] in said[0] and 'README.md' in said[0], said

def test_readme_has_no_typed_measure():
    "What looks like an AUC or another measure with three decimals stands between marks, or is a figure of others that results/cited.csv lists with its source"
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    text = re.sub(r'```.*?```|`[^`]*`', '', _MARK.sub('', text), flags=re.S)
    cited = set(pd.read_csv(ROOT/'results'/'cited.csv', dtype=str)['figure'])
    assert not (typed := sorted(set(re.findall(r'(?<![\d.\w])0?\.\d{3,4}(?![\d.\w])', text)) - cited)), f'typed by hand in README.md: {typed}; mark them (see nbs/10_report.ipynb) or, if they are of others, list them in results/cited.csv'

@pytest.mark.skipif(not ((WEIGHTS/'card.json').exists() and (EMBEDDED/'metrics.json').exists()), reason='the embedded model and its results are not both here')
def test_card_of_the_embedded_model():
    "card.json holds the figures of results/embedded, and the card in words is what the files give"
    card, m = read_json(WEIGHTS/'card.json')['metrics'], read_json(EMBEDDED/'metrics.json')
    assert (card['auc'], card['lo'], card['hi'], card['n'], card['n_pos']) == (m['auc']['value'], m['auc']['lo'], m['auc']['hi'], m['n'], m['n_pos'])
    for name, f in (('README.md', model_card), ('CHECKLISTS.md', checklists_text)):
        if (WEIGHTS/name).exists(): assert (WEIGHTS/name).read_text(encoding='utf-8') == f(EMBEDDED, WEIGHTS), f'{name} of the embedded model is not what its files give; write it with melanoma_nbdev.report.write_cards'
