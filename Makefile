# make app    the page, on this machine only        make test   every notebook and every test; last line "N passed, N failed"
# Both make what they need in .venv by themselves (.ci/env) and rerun in seconds. Another Python: make app PYTHON=python3.12
SHELL := bash
unexport PYTHONDONTWRITEBYTECODE  # Voila starts a Python per visitor: without compiled modules each would wait seconds longer
PORT ?= 8866
FULL := @.ci/env full

.PHONY: app test env readme export clean wheel
.DEFAULT_GOAL := app

app:  ## the page in the browser; PORT=8866, the next free one if taken
	@.ci/env light
	@exec .venv/bin/melanoma_app --port $(PORT)

test:  ## notebooks and tests, counted
	@.ci/env full || { echo '0 passed, 1 failed'; exit 1; }
	@.venv/bin/python .ci/test.py

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

wheel:  ## dist/*.whl, with the model and the page in it
	$(FULL)
	.venv/bin/python -m build --wheel

clean:  ## what builds leave behind; not .venv, not runs
	rm -rf build dist _proc _docs .pytest_cache .hypothesis *.egg-info
	find nbs melanoma_nbdev tests .ci -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
