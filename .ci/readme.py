"""README.md from nbs/index.ipynb, without Quarto.

nbdev's own filters on the notebook, then nbconvert to Markdown, the YAML head dropped.
`python .ci/readme.py` writes README.md where it differs; `--check` writes nothing and exits 1 where
it differs. Doc links are left out: they would depend on which packages are installed, and README.md
has to come out the same everywhere."""
import os
import re
import sys
from pathlib import Path

import nbformat
import yaml
from execnb.nbio import read_nb
from fastcore.xtras import obj2dict
from nbconvert import MarkdownExporter
from nbdev.processors import FilterDefaults

ROOT = Path(__file__).resolve().parent.parent
ONLY_FOR_THE_SITE = ('add_links', 'add_show_docs', 'exec_show_docs')
HEAD = r'\A\s*---\n(.*?)\n---\n'


class Filters(FilterDefaults):
    "nbdev's filters for the documentation, without the links and the cells that serve a web page."
    def base_procs(self):
        return [proc for proc in super().base_procs() if proc.__name__ not in ONLY_FOR_THE_SITE]


def filtered_notebook(path):
    "The notebook after nbdev's filters, as nbformat reads it."
    os.environ['IN_TEST'] = '1'
    notebook = read_nb(path)
    Filters()(notebook)
    entries = {key: value for key, value in obj2dict(notebook).items() if not key.endswith('_')}
    notebook = nbformat.from_dict(entries)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip()]
    return notebook


def from_the_root(text):
    "Links of the notebook, which are relative to nbs/, as links from the project's folder."
    text = re.sub(r'\]\(\.\./', r'](', text)
    folders = '|'.join(['images', 'research', *(path.name for path in chapters())])
    text = re.sub(rf'\]\(({folders})/', r'](nbs/\1/', text)
    return re.sub(r'\]\((\w+\.ipynb)', r'](nbs/\1', text)


def chapters():
    "The folders of notebooks."
    folders = [path for path in (ROOT/'nbs').iterdir() if path.is_dir()]
    return sorted(path for path in folders if path.name[0] not in '._')


def rendered(path=ROOT/'nbs'/'index.ipynb'):
    "The text of README.md."
    text, extra = MarkdownExporter().from_notebook_node(filtered_notebook(path))
    if extra.get('outputs'):
        pictures = ', '.join(extra['outputs'])
        sys.exit(f'index.ipynb has picture outputs ({pictures}): put the picture under nbs/images '
                 'and show it with Markdown')
    head = yaml.safe_load(re.match(HEAD, text, flags=re.S).group(1))
    text = re.sub(HEAD, '', text, flags=re.S).lstrip()
    title = f"-->\n\n# {head['title']}\n\n> {head['description']}\n"
    text = text.replace('-->\n', title, 1)
    text = re.sub(r'^(#.*?)[ \t]*\{[.#][^}]*\}[ \t]*$', r'\1', text, flags=re.M)
    text = re.sub(r'[ \t]+$', '', from_the_root(text), flags=re.M)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


def main(check):
    "Write README.md where it differs, or say so."
    os.chdir(ROOT)
    new, readme = rendered(), ROOT/'README.md'
    old = readme.read_text(encoding='utf-8') if readme.exists() else ''
    if new == old: print('README.md is up to date')
    elif check: sys.exit('README.md differs from nbs/index.ipynb: run make readme')
    else:
        readme.write_text(new, encoding='utf-8', newline='\n')
        print('README.md written')


if __name__ == '__main__':
    main('--check' in sys.argv)
