# make demo, make test: each makes .venv and installs what it needs, from nothing but Python >= 3.11 and make
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# a process a core; a file's tests stay together and share what it sets up
PYTEST := $(BIN)/python -m pytest -q -n auto --dist loadfile

.PHONY: help demo test test-slow test-gpu lint bench accuracy throughput studies clean
help:
	@echo "make demo        allocate the embedded market: tables, 1,000 bootstrap resamples, files"
	@echo "make test        tests (minutes); make test-slow: the rest; make test-gpu: those that need a GPU"
	@echo "make lint        format, lint and type checks"
	@echo "make bench       time the rivals beside jaxalloc, regenerate benchmarks/results/bench.json (JAXALLOC_DATA)"
	@echo "make accuracy    regenerate benchmarks/results/accuracy.json (JAXALLOC_DATA: folder of real data)"
	@echo "make throughput  measure universes per second on this machine's device"
	@echo "make studies     regenerate benchmarks/results/studies.md: memory, soak, kills (an hour)"
	@echo "make clean       remove .venv and caches"

# a stamp a set of extras, remade when pyproject.toml changes
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxalloc needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.core

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.core

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.core

demo: $(VENV)/.core
	$(BIN)/python -m jaxalloc.demo

test: $(VENV)/.test
	$(PYTEST)

test-slow: $(VENV)/.test
	$(PYTEST) -m slow

test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -q -m gpu

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: $(VENV)/.bench
	$(BIN)/python -P benchmarks/bench.py

accuracy: $(VENV)/.test
	$(BIN)/python benchmarks/accuracy.py

throughput: $(VENV)/.test
	$(BIN)/python benchmarks/throughput.py

studies: $(VENV)/.test
	$(BIN)/python benchmarks/studies.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
