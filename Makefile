# make demo   the main job, on real weights, into demo/
# make test   every check
# make bench  what computing and storing cost, against what was promised, into build/bench.json
#             make bench-gpu: speeds on an NVIDIA GPU
# make setup  the environment in .venv, which all use

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12; do \
  $$name -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null && echo $$name && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
INSTALL := pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: setup demo bench bench-gpu test lint types fmt clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.12 or newer on the path. Install one, or: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m $(INSTALL) pip setuptools
	@echo "Installing what constraints.txt pins, torch among it: a few minutes, the first time."
	$(BIN)/python -m $(INSTALL) --no-build-isolation --editable . --group dev
	touch $@

demo: $(READY)
	$(BIN)/python pipelines/demo.py

bench: $(READY)
	$(BIN)/python pipelines/bench.py

bench-gpu: $(READY)
	$(BIN)/python pipelines/bench.py --gpu --json build/bench-gpu.json

test: lint types
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

fmt: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache
