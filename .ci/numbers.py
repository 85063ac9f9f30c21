"""Figures in prose, held against the files that they come from.

    python .ci/numbers.py          one sentence for each figure that differs; exit status 1 then
    python .ci/numbers.py --fill   write the figures in, then check

A figure stands between two comments that Markdown does not show. The first one names the file, the
key and the format; what stands between them is what the reader sees:

    <!-- num: results/embedded/metrics.json auc.value .3f -->0.898<!-- /num -->

A key of a JSON file is a path with dots (`decisions.points.0.threshold`). Of a CSV it is a column
and a row: `cover[positives=581,method=patients]`. The format is Python's, or `ci.3f` for
`0.903 to 0.921` and `vci.3f` for `0.912 (0.903 to 0.921)` where the key leads to a value with its
interval. Read are README.md, CHANGELOG.md, all notebooks, and the Markdown of the package and of
results/. A text with a zero-width space in it explains the marks and is left alone."""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != ROOT/'.ci']
if __name__ == 'numbers':  # a script of this folder asked for the module of the standard library
    del sys.modules['numbers']
    import numbers

import argparse
import json
import os
import re

OPEN, CLOSE = '<!-- num:', '<!-- /num -->'
MARK = re.compile(
    rf'{re.escape(OPEN)}\s*(?P<file>\S+)\s+(?P<key>\S+(?:\[[^\]]*\])?)\s+(?P<spec>\S+)\s*-->'
    rf'(?P<figure>.*?){re.escape(CLOSE)}', re.S)
ZERO_WIDTH_SPACE = '\u200b'


class FigureError(ValueError):
    "A file, key or row that a mark names is not there."


# ---- what the files hold

def lookup(file, key):
    "The value that a key of a JSON or CSV file leads to."
    file = Path(file)
    if not file.exists(): raise FigureError(f'{file.name} does not exist')
    return of_csv(file, key) if file.suffix == '.csv' else of_json(file, key)


def of_csv(file, key):
    "The one value of `column[a=1,b=x]`."
    import pandas

    column, _, conditions = key.partition('[')
    rows = pandas.read_csv(file)
    for condition in filter(None, conditions.rstrip(']').split(',')):
        name, _, wanted = condition.partition('=')
        if name not in rows: raise FigureError(f'{file.name} has no column {name!r}')
        rows = rows[is_value(rows[name], wanted)]
    if column not in rows: raise FigureError(f'{file.name} has no column {column!r}')
    if len(rows) != 1: raise FigureError(f'{key!r} fits {len(rows)} rows of {file.name}')
    return rows[column].iloc[0]


def is_value(column, wanted):
    "Where a column holds a value: numbers are compared as numbers."
    if column.dtype.kind in 'iuf': return column == float(wanted)
    return column.astype(str) == wanted


def of_json(file, key):
    "The value at a path with dots."
    value = json.loads(file.read_text(encoding='utf-8'))
    for step in key.split('.'):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, ValueError, TypeError):
            raise FigureError(f'{file.name} has no {key!r} (nothing at {step!r})') from None
    return value


def shown(value, spec):
    "A value in the words of prose."
    if spec.startswith('vci'):
        return f"{value['value']:{spec[3:]}} ({shown(value, spec[1:])})"
    if spec.startswith('ci'):
        return f"{value['lo']:{spec[2:]}} to {value['hi']:{spec[2:]}}"
    if spec == 's': return str(value)
    return f"{value.item() if hasattr(value, 'item') else value:{spec}}"


# ---- one text

def figure_of(mark, root):
    "What a mark has to show."
    return shown(lookup(Path(root)/mark['file'], mark['key']), mark['spec'])


def fill_text(text, root='.'):
    "The text with every figure as its file has it; a mark that leads nowhere stays as it is."
    def filled(mark):
        head = text[mark.start():mark.start('figure')]
        try:
            return head + figure_of(mark, root) + CLOSE
        except (ValueError, TypeError, KeyError):
            return mark.group()

    return MARK.sub(filled, text)


def text_problems(text, root='.'):
    "What is wrong with the marked figures of a text: one sentence each."
    marks = list(MARK.finditer(text))
    return malformed(text, len(marks)) + [
        problem for mark in marks if (problem := mark_problem(mark, root))]


def malformed(text, well_formed):
    "A sentence where marks are open, or not written as they must be."
    opened, closed = text.count(OPEN), text.count(CLOSE)
    if opened == closed == well_formed: return []
    bad = max(opened, closed) - well_formed
    return [f'{bad} figure marks are malformed '
            f'(open: {opened}, closed: {closed}, well formed: {well_formed})']


def mark_problem(mark, root):
    "A sentence where the text differs from the file; None where it does not."
    name = f"{mark['key']} of {mark['file']}"
    try:
        figure = figure_of(mark, root)
    except (ValueError, TypeError, KeyError) as error:
        return f"{name} cannot be shown as {mark['spec']}: {error}"
    if mark['figure'] == figure: return None
    return f"{name} is {figure}, the text says {mark['figure']}"


# ---- the files of the project

def texts_of(path):
    "The texts of a file that may hold figures: the file, or each Markdown cell of a notebook."
    text = path.read_text(encoding='utf-8')
    if path.suffix != '.ipynb': return [text]
    cells = json.loads(text)['cells']
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'markdown']


def project_files(root):
    "README.md, CHANGELOG.md, all notebooks, and the Markdown of the package and of results/."
    found = [root/'README.md', root/'CHANGELOG.md']
    for folder, pattern in (('nbs', '*.ipynb'), ('melanoma_nbdev', '*.md'), ('results', '*.md')):
        found += sorted((root/folder).rglob(pattern))
    return [path for path in found if path.exists() and '.ipynb_checkpoints' not in path.parts]


def filled_notebook(text, root):
    "The notebook with the figures of its Markdown filled in, in the form that nbdev keeps."
    notebook = json.loads(text)
    for cell in notebook['cells']:
        if cell['cell_type'] == 'markdown':
            cell['source'] = fill_text(''.join(cell['source']), root).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + '\n'


def fill_file(path, root):
    "Fill the figures of one file, whole or not at all."
    text = path.read_text(encoding='utf-8')
    if OPEN not in text: return
    filled = filled_notebook(text, root) if path.suffix == '.ipynb' else fill_text(text, root)
    if filled == text: return
    aside = path.with_name(f'.{path.name}.filled')
    aside.write_text(filled, encoding='utf-8', newline='\n')
    os.replace(aside, path)


def numbers(root=ROOT, fill=False, files=None):
    "Sentences, each naming a file and a figure that differ; `fill` writes the figures in first."
    root = Path(root)
    problems = []
    for path in map(Path, project_files(root) if files is None else files):
        if fill: fill_file(path, root)
        name = path.relative_to(root) if path.is_relative_to(root) else path.name
        for text in texts_of(path):
            if OPEN not in text or ZERO_WIDTH_SPACE in text: continue
            problems += [f'{name}: {problem}' for problem in text_problems(text, root)]
    return problems


def main(arguments=None):
    "Check, or fill and check; the exit status."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--fill', action='store_true', help='write the figures in')
    problems = numbers(fill=parser.parse_args(arguments).fill)
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
