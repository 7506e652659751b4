# Needs Python >= 3.11 with pip, no more: everything runs in a virtual environment of its own.
#   make demo    a whole analysis on real counts, into dbx-demo/
#   make test    formatting, layers, types, documentation with its tutorials, tests
#   make docs | bench | clean

PYTHON ?= python3
VENV ?= .venv
TOOLS ?= test docs
EXTRAS ?= dask,leiden
TESTS ?= tests
BIN := $(VENV)/bin
SOURCES := pyproject.toml README.md $(shell find src -type f -not -name '*.pyc')

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.NOTPARALLEL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint docs unit bench clean

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.demo
	@echo "== dbx demo"
	@$(BIN)/dbx demo

test: lint docs unit

lint: $(VENV)/.test
	@echo "== ruff: formatting and rules"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@echo "== import-linter: the layers"
	@$(BIN)/lint-imports --no-cache
	@echo "== mypy: types"
	@$(BIN)/mypy

# -E reads everything afresh: the tutorials run, and the pages of functions follow their docstrings
docs: $(VENV)/.test
	@echo "== documentation, warnings are errors; the tutorials run"
	@rm -rf docs/generated
	@$(BIN)/python -m sphinx -j 2 -W --keep-going -q -E -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# most of the time goes to compiling: what JAX compiles is kept, however quick it was, for tests and tutorials only
docs unit: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.jax_cache
docs unit: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
# as many workers as a small machine has cores: threads of OpenMP and BLAS would only wait for each other, up to 20 times
# as long as scikit-learn's t-SNE takes with one
unit: export OMP_NUM_THREADS ?= 1
unit: export OPENBLAS_NUM_THREADS ?= 1
unit: $(VENV)/.test
	@echo "== tests, $$($(BIN)/python --version)"
	@$(BIN)/python -m pytest -n 2 --dist loadgroup $(TESTS)

bench: $(VENV)/.bench
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks.deseq2 speed

$(VENV)/.created:
	@echo "== virtual environment $(VENV) of $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("dbx needs Python 3.11 or newer: make PYTHON=/path/to/python ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@touch $@

# an environment of `make test` has dbx in place already, following the sources
$(VENV)/.demo: $(SOURCES) | $(VENV)/.created
	@echo "== installing dbx (the first time takes a minute or two)"
	@test -f $(VENV)/.test || $(BIN)/python -m pip install --quiet --disable-pip-version-check .
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.created
	@echo "== installing dbx and the tools for $(TOOLS) (the first time takes a minute or two)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' $(TOOLS:%=--group %)
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.test
	@echo "== installing the tools to compare with"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e . --group bench
	@touch $@

clean:
	rm -rf .venv .venv-new .jax_cache .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache build dist dbx-demo
	rm -rf docs/_build docs/generated
