# make app opens the page, make test runs every notebook and test; make help lists the rest.
# Both make what they need in .venv by themselves (.ci/env) and rerun in seconds.
# Another Python: make app PYTHON=python3.12
SHELL := bash
# Voila starts a Python per visitor: without compiled modules each would wait seconds longer
unexport PYTHONDONTWRITEBYTECODE
PORT ?= 8866
NB ?=
SITE ?= _site
FULL := @.ci/env full

.PHONY: app site test lint env readme numbers export clean wheel help
.DEFAULT_GOAL := app

app:  ## the page in the browser; PORT=8866, the next free one if taken
	@.ci/env light
	@exec .venv/bin/melanoma_app --port $(PORT)

site:  ## the page as static files, for any web server, in SITE=_site; needs npm while it is written
	@.ci/env light
	@.venv/bin/python -c 'from melanoma_nbdev.bedside.site import make_site; make_site("$(SITE)")'

test:  ## notebooks and tests, counted; NB=duplicates: that notebook and its tests alone
	@.ci/env full || { echo '0 passed, 1 failed'; exit 1; }
	@.venv/bin/python .ci/test.py $(NB)

lint:  ## ruff over notebooks, tests, scripts and .ci
	$(FULL)
	@.venv/bin/ruff check .
	@.venv/bin/ruff check --isolated --select F821 melanoma_nbdev  # names that only a hidden cell imports

env:  ## only the full environment
	$(FULL)

export:  ## after editing a notebook: modules, clean notebooks, README.md
	$(FULL)
	.venv/bin/nbdev_export
	.venv/bin/nbdev_clean
	@.venv/bin/python .ci/readme.py

readme:  ## README.md from nbs/index.ipynb, without Quarto
	$(FULL)
	@.venv/bin/python .ci/readme.py

numbers:  ## fill the marked figures of all prose from their files
	$(FULL)
	@.venv/bin/python .ci/numbers.py --fill

wheel:  ## dist/*.whl, with the model and the page in it
	$(FULL)
	.venv/bin/python -m build --wheel

clean:  ## what builds leave behind; not .venv, not runs
	rm -rf build dist _proc _docs _site .pytest_cache .hypothesis .ruff_cache *.egg-info
	find nbs melanoma_nbdev tests .ci -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

help:  ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | column -t -s '|'
