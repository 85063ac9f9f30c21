"""README.md from nbs/index.ipynb, without Quarto: nbdev's own filters on the notebook, then nbconvert to markdown, the YAML head dropped.

`python .ci/readme.py` writes README.md where it differs; `--check` writes nothing and exits 1 where it differs.
Doc links are left out: they would depend on which packages are installed, and README.md has to come out the same everywhere."""
import os, re, sys
from pathlib import Path

from execnb.nbio import read_nb
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import Preprocessor
from nbdev.processors import FilterDefaults
import nbformat, yaml
from fastcore.xtras import obj2dict

root = Path(__file__).resolve().parent.parent

class Filters(FilterDefaults):
    "nbdev's filters for the documentation, without the links and without the cells that only serve a web page"
    def base_procs(self): return [o for o in super().base_procs() if o.__name__ not in ('add_links', 'add_show_docs', 'exec_show_docs')]

def rendered(path=root/'nbs'/'index.ipynb'):
    "The text of README.md"
    os.environ['IN_TEST'] = '1'
    nb = read_nb(path)
    Filters()(nb)
    nb = nbformat.from_dict({k: v for k, v in obj2dict(nb).items() if not k.endswith('_')})
    nb.cells = [c for c in nb.cells if c.source.strip()]
    text, extra = MarkdownExporter().from_notebook_node(nb)
    if extra.get('outputs'): raise SystemExit(f'index.ipynb has picture outputs ({", ".join(extra["outputs"])}): put the picture under nbs/images and show it with markdown')
    head = yaml.safe_load(re.match(r'\s*---\n(.*?)\n---\n', text, flags=re.S).group(1))
    text = re.sub(r'\A\s*---\n.*?\n---\n', '', text, flags=re.S)
    text = text.lstrip().replace('-->\n', f"-->\n\n# {head['title']}\n\n> {head['description']}\n", 1)
    text = re.sub(r'^(#.*?)[ \t]*\{[.#][^}]*\}[ \t]*$', r'\1', text, flags=re.M)
    text = re.sub(r'\]\((images|research)/', r'](nbs/\1/', text)
    text = re.sub(r'\]\((\w+\.ipynb)', r'](nbs/\1', text)
    text = re.sub(r'[ \t]+$', '', text, flags=re.M)
    return re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'

if __name__ == '__main__':
    os.chdir(root)
    new, dest = rendered(), root/'README.md'
    old = dest.read_text(encoding='utf-8') if dest.exists() else ''
    if new == old: print('README.md is up to date')
    elif '--check' in sys.argv: sys.exit('README.md differs from nbs/index.ipynb: run make readme')
    else: dest.write_text(new, encoding='utf-8', newline='\n'); print('README.md written')
