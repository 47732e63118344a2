# Everything the README promises, from an empty machine with Python >= 3.11, git and make.
# The environment is .venv; nothing is written outside this folder but pip's own download cache.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup corpus run test check lab apps readme docs hooks lock clean-runs clean

IN_VENV := . .venv/bin/activate &&
# a kernel that somebody installed for the user never stands before the one of .venv
export JUPYTER_PREFER_ENV_PATH := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The stamp's name carries a hash of what decides the installation, so that an unchanged set is never installed twice.
WANTED := settings.ini setup.py pyproject.toml .ci/constraints.txt
STAMP := .venv/.installed-$(shell { cat $(WANTED); echo '$(CURDIR)'; } | git hash-object --stdin)

# The first of these that is 3.11 or newer and can make environments; make PYTHON=/path/to/python chooses another.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$python; break; }; done)

help: ## what can be made here
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## .venv with the pinned set of packages

$(STAMP):
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer with its venv module is needed and was not found' \
		'(Debian, Ubuntu: apt-get install python3 python3-venv). Another place: make PYTHON=/path/to/python' >&2; exit 1; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 && grep -qF '$(CURDIR)/.venv' .venv/bin/activate \
		|| { echo '== new environment .venv with $(PYTHON)'; '$(PYTHON)' -m venv --clear .venv; }
	@echo '== packages (several GB the first time; an interrupted installation goes on where it was)'
	$(IN_VENV) python -m pip install -c .ci/constraints.txt pip setuptools wheel
	$(IN_VENV) python -m pip install -c .ci/constraints.txt --no-deps tinysoundfont
	$(IN_VENV) python -m pip install -c .ci/constraints.txt --no-build-isolation -e '.[dev]'
	@$(IN_VENV) python -m pip install -c .ci/constraints.txt --no-build-isolation -e '.[psds]' >.venv/psds.log 2>&1 \
		&& echo '== sed_scores_eval is built' || echo '== sed_scores_eval could not be built (is there a C compiler? see .venv/psds.log): events are judged without PSDS'
	@rm -f .venv/.installed-* && touch $@

corpus: $(STAMP) ## prepare the embedded corpus (fetched and rendered once)
	$(IN_VENV) instrument-mtl corpus --tier mini

run: corpus ## corpus, then train and evaluate step 3 on drums and bass
	@$(IN_VENV) python .ci/follow.py $$PPID &
	$(IN_VENV) papermill nbs/step3.ipynb out.ipynb -p instruments drums,bass
	@echo '== out.ipynb holds the tables and figures; runs/ the model and its metrics'

test: $(STAMP) ## structure checks, tests of every notebook, a short run of every step
	$(IN_VENV) python .ci/check.py

check: $(STAMP) ## the structure checks only (about a minute)
	$(IN_VENV) python .ci/check.py --only structure

lab: $(STAMP) ## JupyterLab on the notebooks
	$(IN_VENV) JUPYTER_CONFIG_PATH='$(CURDIR)/.venv/.jupyter' jupyter lab --notebook-dir=nbs --LabApp.default_url=/lab/tree/index.ipynb

apps: $(STAMP) ## mixer, timeline and map of timbres in the browser (Voilà; this machine only)
	$(IN_VENV) JUPYTER_CONFIG_PATH='$(CURDIR)/.ci' JUPYTER_PATH='$(CURDIR)/.ci'"$${JUPYTER_PATH:+:$$JUPYTER_PATH}" voila nbs/app.ipynb

readme: $(STAMP) ## write README.md from nbs/index.ipynb
	$(IN_VENV) python .ci/readme.py

docs: $(STAMP) ## all notebooks as web pages in _docs/
	$(IN_VENV) jupyter nbconvert --to html --output-dir _docs nbs/*.ipynb

hooks: $(STAMP) ## git and JupyterLab hooks for contributors (this checkout only)
	$(IN_VENV) HOME='$(CURDIR)/.venv' nbdev_install_hooks

lock: $(STAMP) ## write the installed versions to .ci/constraints.txt
	$(IN_VENV) python .ci/lock.py

clean-runs: ## remove runs/ and out*.ipynb; corpus and environment stay
	rm -rf runs out*.ipynb

clean: clean-runs ## remove the environment and built pages too; data/ stays
	rm -rf .venv _docs _proc build *.egg-info
