# `make demo` and `make test` need a fresh clone and Python 3.11 to 3.13, nothing else.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slurm check clean

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

demo: $(VENV)/.installed ## run the prefix_ratio sweep on real pairs and write reports/prefix_ratio/
	$(BIN)/python sweeps/launch.py sweep=prefix_ratio

test: $(VENV)/.installed-dev ## run the whole test suite
	$(BIN)/python -m pytest -n auto

test-slurm: $(VENV)/.installed-dev ## run sweeps on a real SLURM on this host (root, and its packages: tests/slurm/one_host.sh)
	$(BIN)/python -m pytest -m slurm tests/slurm

check: $(VENV)/.installed-dev ## lint, formatting, types, one-way imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## delete environment, caches and runs; reports stay
	rm -rf $(VENV) cache runs build *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  f"Python 3.11 to 3.13 is needed and $(PYTHON) is {v[0]}.{v[1]}; try: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[glyphs]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@
