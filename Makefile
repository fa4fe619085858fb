# `make train` trains the laptop preset; continuous integration runs the checks and `make test`.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --editable

.DEFAULT_GOAL := help
.PHONY: help train test test-versions soak check format-check lint types fast-tests format docs bench gpu-check gpu-pack clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

train: $(VENV)/installed ## install into .venv and train the laptop preset
	@echo $(BIN)/evoconn train --config laptop
	@# With job control Ctrl-C reaches evoconn alone; its exit codes 75 (saved) and 130 (quit) are not errors.
	@[ ! -t 0 ] || set -m; $(BIN)/evoconn train --config laptop || \
	  { code=$$?; [ $$code = 75 ] || [ $$code = 130 ] || exit $$code; }
	@echo
	@echo "What to type next:"
	@echo "  . $(BIN)/activate                                use evoconn without its path, in this shell"
	@echo "  evoconn resume RUN_DIR --generations 240            train further; RUN_DIR is shown above"
	@echo "  evoconn render RUN_DIR --out hopper.html            watch it in a browser"
	@echo "  evoconn export-connectivity RUN_DIR --verify        export the network, and verify the export"
	@echo "  evoconn train --config laptop --task walker2d       learn to walk instead"
	@echo "  evoconn --help                                      all commands"

test: $(VENV)/installed-dev ## run all tests
	$(PYTEST)

test-versions: $(VENV)/installed-test ## tests that depend on the JAX version, e.g. PYTHON=python3.13 VENV=.venv-3.13
	$(PYTEST) tests/engine/test_members_last.py tests/tasks/test_brax_v1.py tests/networks/test_fused_substeps.py \
	  tests/training/test_training.py::test_a_resumed_run_equals_a_straight_one \
	  tests/training/test_training.py::test_a_run_resumed_on_other_devices_equals_a_straight_one

soak: $(VENV)/installed-dev ## long fault tests: ten times the kills, forty times the examples
	EVOCONN_SOAK=1 $(PYTEST) -o faulthandler_timeout=0 tests/training/test_crashes.py \
	  tests/config/test_config_properties.py tests/runs/test_deadline.py

check: format-check lint types fast-tests ## format, lint, types and fast tests

format-check: $(VENV)/installed-dev
	$(BIN)/ruff format --check

lint: $(VENV)/installed-dev ## ruff
	$(BIN)/ruff check

types: $(VENV)/installed-dev ## pyright
	$(BIN)/pyright --pythonpath $(BIN)/python

fast-tests: $(VENV)/installed-dev
	$(PYTEST) -m "not slow"

format: $(VENV)/installed-dev ## format, and fix what ruff can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

docs: $(VENV)/installed-dev ## write the generated pages and figures of docs/, and build build/site/index.html
	$(BIN)/python -m tools.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(VENV)/installed-dev ## measure speed and memory, and write build/benchmark.json
	mkdir -p build
	$(BIN)/python -m benchmarks.run --json build/benchmark.json

# A machine without a network has no .venv, but the folder that `make gpu-pack` wrote on another one.
gpu-check: ## check in 8 minutes whether a GPU works, and how fast: build/gpu-check/gpu-check.md
	$(if $(wildcard $(BIN)/python),$(BIN)/python,PYTHONPATH=build/gpu-pack:$$PYTHONPATH $(PYTHON)) -m benchmarks.gpu_check

gpu-pack: $(VENV)/installed-dev ## write build/gpu-pack for a GPU machine without a network; PRESENT=FILE lists its packages
	$(BIN)/python -m tools.gpu_pack $(if $(PRESENT),--present $(PRESENT))

clean: ## remove .venv and build products
	rm -rf $(VENV) build dist

# The stamps are updated when dependencies change.
$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing evoconn and its dependencies into $(VENV), some 150 packages: a minute or more."
	$(INSTALL) .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) '.[test]'
	@touch $@ $(VENV)/installed

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) '.[dev]'
	@touch $@ $(VENV)/installed $(VENV)/installed-test

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "evoconn needs Python 3.11 or newer; choose one: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
