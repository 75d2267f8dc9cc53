# `make demo` and `make test` need a fresh clone and Python 3.11 to 3.13, nothing else.
# They install the versions in constraints.txt. With LATEST=1 they install the newest that pyproject.toml allows, in .venv-latest.

PYTHON ?= python3
VENV := $(if $(LATEST),.venv-latest,.venv)
BIN := $(VENV)/bin
VERSIONS := $(if $(LATEST),--upgrade --upgrade-strategy eager,--constraint constraints.txt)
comma := ,
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal --durations 15 --durations-min 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all coverage test-slurm test-gpu test-fake-gpu check docs lock clean always

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: $(VENV)/.installed ## check a claim on two CPU cores, with its controls, and write runs/checks/prefix_ratio/
	$(BIN)/python analysis/report.py check prefix-beats-causal seeds=4 committed=false

test: $(VENV)/.installed-dev ## run the everyday tests
	$(PYTEST)

test-all: $(VENV)/.installed-dev ## run all tests but those on SLURM and on GPUs
	$(PYTEST) -m 'not slurm and not gpu and not fake_gpu'

coverage: $(VENV)/.installed-dev ## measure what the everyday tests cover, which takes them almost twice as long
	$(PYTEST) --cov

test-slurm: $(VENV)/.installed-dev ## run sweeps on a real SLURM on this host (as root; packages: tests/slurm/one_host.sh)
	$(BIN)/python -m pytest -m slurm tests/slurm

test-gpu: $(VENV)/.installed-dev ## test training and evaluation on a GPU, in minutes; paste what it prints into an issue
	$(BIN)/python -m pytest -m gpu tests/gpu --durations 15

FAKE_GPU := build/fake_gpu
test-fake-gpu: $(VENV)/.installed-dev ## the same on a GPU that computes nothing: needs a CUDA build of torch, gcc and nm
	$(BIN)/python -m tests.gpu.fake_gpu $(FAKE_GPU)
	LD_PRELOAD=$(abspath $(FAKE_GPU))/libcuda.so.1 LD_LIBRARY_PATH=$(abspath $(FAKE_GPU)) \
	  TRITON_LIBCUDA_PATH=$(abspath $(FAKE_GPU)) TORCH_CUDNN_SDPA_DEPRIORITIZED=1 $(PYTEST) -m fake_gpu tests/gpu

check: $(VENV)/.installed-dev ## check lint, formatting, types, the direction of imports, and reports against their records
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python analysis/report.py all --check reports_dir=reports/published

docs: $(VENV)/.installed-docs ## build the site of the documentation into build/site; broken links and orphans are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lock: ## write the newest versions that pyproject.toml allows to constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else \
	  f"The lock is made with Python 3.11, because a version for 3.11 also exists for 3.12 and 3.13. $(PYTHON) is {v[0]}.{v[1]}. \
	Try: make lock PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet '.[dev]'
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude aimv2-ablations > .venv-lock/versions
	{ echo '# Written by `make lock` with Python 3.11. Used by `make demo` and `make test`, unless LATEST=1.'; \
	  sed 's/+.*//' .venv-lock/versions; } > constraints.txt
	rm -rf .venv-lock

clean: ## delete environments, caches and runs; reports stay
	rm -rf .venv .venv-latest .venv-lock cache runs build *.egg-info .coverage .pytest_cache .hypothesis .ruff_cache .mypy_cache \
	  .import_linter_cache

$(VENV)/.installed: pyproject.toml $(if $(LATEST),always,constraints.txt)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else \
	  f"Python 3.11 to 3.13 is needed and $(PYTHON) is {v[0]}.{v[1]}. Try: make $(MAKECMDGOALS) PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(call install,.[train$(comma)glyphs])
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(call install,.[dev])
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(call install,.[docs])
	@touch $@

define install
@echo "$(BIN)/python -m pip install $(VERSIONS) --editable '$(1)'"
@$(BIN)/python -m pip install --quiet $(VERSIONS) --editable '$(1)' || { status=$$?; $(if $(LATEST),,echo 1>&2 \
  "The versions in constraints.txt could not be installed; see the reason above. If a version does not exist for this Python" \
  "or platform, install the newest versions that pyproject.toml allows: make $(MAKECMDGOALS) LATEST=1";) exit $$status; }
endef
