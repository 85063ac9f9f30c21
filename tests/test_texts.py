"""Sentences of the page stand in one table: no template holds one of its own, what the frame shows
before a script runs is the table's English, and no key is missing or left over."""
import re
from html.parser import HTMLParser

import pytest
from conftest import ROOT

from melanoma_nbdev.bedside.texts import LANGUAGES, TEXTS

PAGE = ROOT/'melanoma_nbdev'/'bedside'/'page'
PARTS = sorted((PAGE/'parts').glob('*.j2'))
FRAMES = [PAGE/'index.html.j2', PAGE/'site'/'index.html.j2']
NAMES = {'SHA-256', 'px', 'melanoma_nbdev', '×', '·', '?', '.', ',', ';', ':', '(', ')', '✕'}
SPOKEN = ('alt', 'title', 'aria-label', 'placeholder')


class Words(HTMLParser):
    "Collects what a reader sees or hears: (sentence, key that its element names)."
    def __init__(self, source):
        super().__init__()
        self.open, self.found = [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        names = dict(attributes)
        self.open.append((tag, names))
        self.found += [(names[name], names.get('data-say-label')) for name in SPOKEN
                       if names.get(name)]
        if tag in ('meta', 'link', 'img', 'input', 'br', 'path', 'circle'): self.open.pop()

    def handle_startendtag(self, tag, attributes): pass

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag: pass

    def handle_data(self, data):
        tag, names = self.open[-1] if self.open else ('', {})
        if tag not in ('style', 'script') and data.strip():
            self.found.append((data.strip(), names.get('data-say')))


def plain(path):
    "A template without what Jinja fills in."
    source = re.sub(r'\{#.*?#\}|\{%.*?%\}', '', path.read_text('utf-8'), flags=re.S)
    source = source.replace('{{ max_mb }}', '64')
    return re.sub(r'\{\{.*?\}\}', '', source, flags=re.S)


def bare(path):
    "Sentences of a template that are not the table's English for the key they name."
    found = []
    for sentence, key in Words(plain(path)).found:
        if key and sentence == TEXTS[key]['en'].replace('{0}', '64'): continue
        words = re.findall(r'\S+', sentence)
        if all(word.strip('.,;:()') in NAMES | {''} for word in words): continue
        if re.search('[a-zA-Z]{2}', sentence): found.append(sentence)
    return found


@pytest.mark.parametrize('path', [*PARTS, *FRAMES], ids=lambda path: path.parent.name + path.name)
def test_no_bare_sentence(path):
    "Every sentence is asked for by its key; the frame's own is the table's."
    assert bare(path) == []


def test_a_bare_sentence_is_found(tmp_path):
    "The test above can fail: in a text, in an attribute, and with a key that says something else."
    (tmp_path/'a').write_text('<p>{{ "a" | say }} plain words</p><img alt="a picture">'
                              '<b data-say="stop">Halt now</b>')
    assert bare(tmp_path/'a') == ['plain words', 'a picture', 'Halt now']


def used_keys():
    "Keys, or beginnings of keys, that templates, scripts and notebooks of the page name."
    files = [*PARTS, *FRAMES, *PAGE.glob('*.js'), *(PAGE/'site').glob('*.js'),
             *(PAGE.parent/name for name in ('answer.py', 'app.py'))]
    source = '\n'.join(path.read_text('utf-8') for path in files)
    return set(re.findall(r"""['"`=]([a-z_]+(?:\.[a-z_]+)*\.?)""", source))


def test_no_key_is_left_over():
    "Each key of the table is named somewhere, itself or its beginning."
    used = used_keys()
    begun = {name for name in used if name.endswith('.')}
    left = [key for key in TEXTS
            if not {key, key.rpartition('.')[0]} & used and not key.startswith(tuple(begun))]
    assert left == []


@pytest.mark.parametrize('language', LANGUAGES)
def test_nothing_comforts(language):
    "In no language does a decision call a lesion harmless, benign or safe by itself."
    calm = r'harmless|benign|safe|harmlos|gutartig|sicher\b|bénin|sans danger|inofens|benign|segur'
    for level in ('above', 'near', 'below', 'unknown'):
        assert not re.search(calm, TEXTS[f'level.{level}'][language], re.I)
    assert re.search('not|pas|nicht|no ', TEXTS['lies.under'][language])
