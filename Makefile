# `make demo` and `make test` are all a newcomer needs: each sets up .venv first where it is absent.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := examples/digits
NATIVE := $(wildcard src/shipway/native/*.cpp src/shipway/native/*/*.cpp src/shipway/native/*/*.h*)
PYTEST := $(BIN)/pytest -q
RUN_SETUP := $(VENV)/.ready-run
DEV_SETUP := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format bench docs wheel clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# --constraint pins torch to the CPU build: an unpinned torch brings gigabytes of CUDA libraries.
$(RUN_SETUP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@touch $@

$(DEV_SETUP): pyproject.toml constraints.txt CMakeLists.txt $(NATIVE) | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(RUN_SETUP)

setup: $(DEV_SETUP)  ## Set up .venv with everything a developer needs

$(DEMO)/data/deformable.pth: $(DEMO)/train.py $(DEMO)/model.py $(DEMO)/deformable.py | $(RUN_SETUP)
	$(BIN)/python $(DEMO)/train.py

demo: $(RUN_SETUP) $(DEMO)/data/deformable.pth  ## Train two digits classifiers and take them the whole road
	$(BIN)/shipway deploy $(DEMO)/ship.toml --output runs/digits
	$(BIN)/shipway deploy $(DEMO)/deformable.toml --output runs/digits-deformable

test: $(DEV_SETUP)  ## Run the tests, slow ones left out
	$(PYTEST) -m "not slow"

test-all: $(DEV_SETUP)  ## Run every test
	$(PYTEST)

check: $(DEV_SETUP)  ## Lint, format, types, import contracts, docs; warnings are errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(DEV_SETUP)  ## Sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV_SETUP)  ## Run every benchmark in benchmarks/; each ends with one line of JSON
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

docs: $(DEV_SETUP)  ## Serve the documentation on http://127.0.0.1:8000
	$(BIN)/mkdocs serve

wheel: $(DEV_SETUP)  ## Build dist/*.whl
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## Remove what the targets made, .venv included
	rm -rf $(VENV) build dist site runs $(DEMO)/data .mypy_cache .ruff_cache .pytest_cache
