# make demo, make test: each makes .venv and installs what it needs, from nothing but Python >= 3.11 and make
PYTHON ?= python3
VENV   ?= .venv
LOWEST := .venv-lowest
NEWEST := .venv-newest
AHEAD  := .venv-ahead
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# a process a core; a file's tests stay together and share what it sets up
PYTEST := -m pytest -q -n auto --dist loadfile --no-loadscope-reorder
# LLVM's optimisation took more than half of the time of all tests; those of numbers in lanes, of versions, and the slow
# ones compile as users do
QUICKLY := XLA_FLAGS="$$XLA_FLAGS --xla_backend_optimization_level=0"
# tests of what depends on others' versions: JAX, pandas, Parquet, the command line, the report, block lengths
OF_VERSIONS := tests/cli/test_cli_allocate.py tests/cli/test_cli_config.py tests/cli/test_cli_process.py \
	tests/cli/test_cli_report.py tests/portfolios/test_allocation.py tests/universes/test_bootstrap.py \
	tests/kernels/scalar/test_scalar_draws.py tests/markets

# tests of what users without numba have in lanes: its numbers, and what is done with them
OF_LANES := tests/engine/test_batch.py tests/engine/test_choices.py tests/portfolios/test_allocation.py
BY_LANES := tests/engine/test_windows.py tests/engine/test_devices.py tests/engine/test_compilations.py \
	tests/studies/test_study.py

.PHONY: help demo test kernels test-lanes test-slow test-gpu test-dist test-lowest test-newest lint docs screenshots dist bench accuracy throughput gpu gpu-ahead growth limits gradients cuts studies reproduce out-of-sample clean
help:
	@echo "make demo        allocate the embedded market: tables, 1,000 bootstrap resamples, files, a report"
	@echo "make test        tests (minutes); make test-slow: the rest; make test-gpu: those that need a GPU"
	@echo "make test-lanes  a selection of the tests without numba, as users have it who install no extra"
	@echo "make test-dist   build, install the wheel into an empty environment elsewhere, run it there"
	@echo "make test-lowest a selection of the tests with the lowest versions that pyproject.toml allows"
	@echo "make test-newest the same selection, in float64, with the newest Python that is found, and the newest versions"
	@echo "make lint        format, lint and type checks"
	@echo "make docs        build the documentation into build/site; make screenshots: its pictures of the report"
	@echo "make dist        build dist/: the sdist, and the wheel from it"
	@echo "make bench       time the rivals beside jaxalloc, regenerate benchmarks/results/bench.json (JAXALLOC_DATA)"
	@echo "make accuracy    regenerate benchmarks/results/accuracy.json (JAXALLOC_DATA: folder of real data)"
	@echo "make throughput  measure universes per second on this machine's device"
	@echo "make gpu         rates, exactness and stages on a GPU: benchmarks/results/gpu-*.md (JAXALLOC_DATA)"
	@echo "make gpu-ahead   what a GPU would have to do, compiled without one: benchmarks/results/ahead.md (JAXALLOC_DATA)"
	@echo "make growth      cost by universes and assets, memory, first results: benchmarks/results/growth.md, first.md"
	@echo "make limits      scalar stages beside what one core can do: benchmarks/results/limits.md (JAXALLOC_DATA)"
	@echo "make gradients   what derivatives cost: benchmarks/results/gradients.md (JAXALLOC_DATA; minutes)"
	@echo "make cuts        what cuts of the tree make of single stocks: benchmarks/results/cuts.md (JAXALLOC_DATA; minutes)"
	@echo "make studies     regenerate benchmarks/results/studies.md: memory, soak, kills (an hour)"
	@echo "make reproduce   published results beside ours: benchmarks/results/reproduce.md (JAXALLOC_DATA; within an hour)"
	@echo "make out-of-sample  what cap, clusters and barbell do on data not seen (JAXALLOC_DATA; an hour)"
	@echo "make clean       remove .venv, what was built, and caches"

# a stamp for each set of extras, remade when what it names changes
$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxalloc needs Python 3.11 or later")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.report: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[report]'
	@touch $@ $(VENV)/.core

$(VENV)/.test: $(VENV)/.made pyproject.toml
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.report $(VENV)/.core

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.report $(VENV)/.core

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	$(PIP) --editable '.[docs]'
	@touch $@ $(VENV)/.core

$(VENV)/.bench: $(VENV)/.made pyproject.toml benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . -r benchmarks/requirements.txt
	@touch $@ $(VENV)/.core

demo: $(VENV)/.report
	$(BIN)/python -m jaxalloc.cli.demo

test: $(VENV)/.test
	$(QUICKLY) $(BIN)/python $(PYTEST)

# for CI, which has other work for the second core meanwhile: the scalar kernels, which two workers would compile each
kernels: $(VENV)/.test
	$(QUICKLY) $(BIN)/python .ci/compile_kernels.py 64 32

test-lanes: $(VENV)/.test
	JAXALLOC_NUMBA=off $(BIN)/python $(PYTEST) -p no:cacheprovider $(OF_LANES)
	$(QUICKLY) JAXALLOC_NUMBA=off $(BIN)/python $(PYTEST) -p no:cacheprovider $(BY_LANES)

test-slow: $(VENV)/.test
	$(BIN)/python $(PYTEST) -m slow

test-gpu: $(VENV)/.test
	$(BIN)/python -m pytest -q -m gpu

dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

test-dist: dist
	PYTHON='$(PYTHON)' .ci/try-wheel dist/*.whl

# the newest of what they need in turn, as an installer would choose it
$(LOWEST)/.made: pyproject.toml
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[test]'
	@touch $@

test-lowest: $(LOWEST)/.made
	$(LOWEST)/bin/python $(PYTEST) -p no:cacheprovider $(OF_VERSIONS)

# the newest Python, of all that are found, and the newest versions that pip chooses for it
$(NEWEST)/.made: pyproject.toml
	rm -rf $(NEWEST)
	newest=$$($(PYTHON) .ci/newest_python.py) && "$$newest" -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[test]'
	@touch $@

# in float64 alone: for float32 numba compiles every kernel once more, and make test has both
test-newest: $(NEWEST)/.made
	@$(NEWEST)/bin/python -c 'import jax, sys; print("newest: Python", sys.version.split()[0], "and JAX", jax.__version__)'
	$(QUICKLY) $(NEWEST)/bin/python .ci/compile_kernels.py 64
	$(NEWEST)/bin/python $(PYTEST) -p no:cacheprovider -k 'not float32' $(OF_VERSIONS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built: build/site/index.html"

screenshots: $(VENV)/.test
	$(BIN)/python docs/screenshots.py

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/bench.py

accuracy: $(VENV)/.test
	$(BIN)/python benchmarks/accuracy.py

throughput: $(VENV)/.test
	$(BIN)/python benchmarks/throughput.py

gpu: $(VENV)/.test
	$(BIN)/python benchmarks/gpu.py

# an environment of its own: with the plugin beside it every process of JAX would look for a GPU
$(AHEAD)/.made: pyproject.toml benchmarks/requirements-gpu.txt
	rm -rf $(AHEAD)
	$(PYTHON) -m venv $(AHEAD)
	$(AHEAD)/bin/python -m pip install --quiet --disable-pip-version-check --editable . -r benchmarks/requirements-gpu.txt
	@touch $@

gpu-ahead: $(AHEAD)/.made
	TF_CPP_MIN_LOG_LEVEL=2 $(AHEAD)/bin/python benchmarks/ahead.py
	TF_CPP_MIN_LOG_LEVEL=2 $(AHEAD)/bin/python benchmarks/ahead.py W100m W100 --precision 64

growth: $(VENV)/.test
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/first.py

limits: $(VENV)/.bench
	$(BIN)/python benchmarks/limits.py

gradients: $(VENV)/.test
	$(BIN)/python benchmarks/gradients.py

cuts: $(VENV)/.test
	$(BIN)/python benchmarks/cuts.py

studies: $(VENV)/.test
	$(BIN)/python benchmarks/studies.py

reproduce: $(VENV)/.test
	$(BIN)/python benchmarks/reproduce.py

out-of-sample: $(VENV)/.test
	$(BIN)/python benchmarks/out_of_sample.py

clean:
	rm -rf $(VENV) $(LOWEST) $(NEWEST) $(AHEAD) .pytest_cache .ruff_cache .hypothesis build dist
