"""Sentences of the page stand in one table: no template holds one of its own, what the frame shows
before a script runs is the table's English, and no key is missing or left over."""
import ast
import re
from html.parser import HTMLParser

import pytest
from conftest import ROOT

from melanoma_nbdev.bedside.answer import Lesion, card_html, report_html, tiles_html
from melanoma_nbdev.report.seen import TRAINED_ON
from melanoma_nbdev.bedside.texts import LANGUAGES, TEXTS, reason
from melanoma_nbdev.core import package_dir, read_json
from melanoma_nbdev.report.export import INTENDED

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
             *(PAGE.parent/name for name in ('risk.py', 'answer.py', 'uploads.py', 'app.py'))]
    source = '\n'.join(path.read_text('utf-8') for path in files)
    return set(re.findall(r"""['"`=]([a-z_]+(?:\.[a-z_]+)*\.?)""", source))


def test_no_key_is_left_over():
    "Each key of the table is named somewhere, itself or its beginning."
    used = used_keys()
    begun = {name for name in used if name.endswith('.')}
    left = [key for key in TEXTS
            if not {key, key.rpartition('.')[0]} & used and not key.startswith(tuple(begun))]
    assert left == []


def test_intended_use_is_known():
    "What an exported card says of its use is in the table, so that the page can translate it."
    assert TEXTS['intended_use']['en'] == INTENDED


@pytest.mark.parametrize('language', LANGUAGES)
def test_nothing_comforts(language):
    "In no language does a decision call a lesion harmless, benign or safe by itself."
    calm = r'harmless|benign|safe|harmlos|gutartig|sicher\b|bénin|sans danger|inofens|benign|segur'
    for level in ('above', 'near', 'below', 'unknown'):
        assert not re.search(calm, TEXTS[f'level.{level}'][language], re.I)
    assert re.search('not|pas|nicht|no ', TEXTS['lies.under'][language])


# ---- reasons, which are found in English

OTHERS = [language for language in LANGUAGES if language != 'en']
OF_PATHS = {'there is no such file', 'it is a folder or a device, not a file',
            'it cannot be read (7); check its permissions'}  # the page is handed bytes
NO_REASON = ('crop is ', 'an image is ', 'its end is missing', 'heic heix')
"Beginnings of errors of a programmer, of parts of a sentence, of a list"


def filled(node):
    "A string of Python's source, with 7 in its places; None for anything else."
    if isinstance(node, ast.Constant) and isinstance(node.value, str): return node.value
    if not isinstance(node, ast.JoinedStr): return None
    return ''.join(part.value if isinstance(part, ast.Constant) else '7' for part in node.values)


def said_by_python(module):
    "Strings of a module that read as a sentence and are no docstring."
    tree = ast.parse((package_dir()/module).read_text('utf-8'))
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in node.values}
    found = {filled(node) for node in ast.walk(tree) if id(node) not in docs | parts}
    return {line for line in found if line and line.count(' ') > 2
            and not line.startswith(NO_REASON)} - OF_PATHS


def said_by_engine():
    "What `engine.js` gives as a reason or a remark, with 7 in its places."
    source = (PAGE/'engine.js').read_text('utf-8')
    source = re.sub(r"""['`]\s*\n?\s*\+\s*['`]""", '', source)
    calls = re.findall(r"(?:ImageError|remarks\.push)\(['`](.*?)['`]\)", source)
    return {re.sub(r'\$\{[^}]*\}', '7', sentence) for sentence in calls}


def all_sentences():
    "Everything that can be said of a file, in English."
    modules = 'images.py', 'bedside/refusal.py'
    return sorted(said_by_engine().union({TRAINED_ON}, *map(said_by_python, modules)))


@pytest.mark.parametrize('language', OTHERS)
def test_every_reason_is_known(language):
    "What reading and refusing can say has its sentence in each language."
    sentences, rest = all_sentences(), {TEXTS['reason.other'][language]}
    assert len(said_by_engine()) > 10 and len(sentences) > 45
    assert [line for line in sentences if reason(line, language=language) in rest | {line}] == []


@pytest.mark.parametrize('language', OTHERS)
def test_no_english_reason_is_shown(language):
    "Cards, tiles and report say no reason or remark in English, unknown ones neither."
    card = read_json(package_dir()/'weights'/'card.json')
    sentences = [*all_sentences(), 'something that nobody foresaw happened']
    probs = dict.fromkeys(card['classes'], 1/len(card['classes']))
    answer = dict(p_melanoma=.3, probs=probs, width=9, height=9, warnings=sentences, error=None)
    refused = [dict(p_melanoma=None, warnings=[], error=line) for line in sentences]
    lesions = [Lesion('a.jpg', '', one) for one in (answer, *refused)]
    shown = [card_html(card, one, place, language=language)
             for place, one in enumerate(lesions, 1)]
    shown += [tiles_html(card, lesions, language=language),
              report_html(card, lesions, language=language)]
    page = ' '.join(shown).lower()
    assert [line for line in sentences if line[:25].lower() in page] == []
