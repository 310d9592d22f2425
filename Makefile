# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bench test-gpu bench-gpu

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp per extra: an extra is installed once, and again when its pins change.
$(VENV)/%.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch
	$(PIP) -e '.[$*]'
	@touch $@

demo: $(VENV)/demo.stamp ## compile a real sentence-embedding model and use it
	$(BIN)/python examples/sentence_embedding/demo.py

# One thread for each worker: torch's threads would wait for each other. A file's tests share a
# worker, so that what they share is made once; the longest files do not come last.
test: $(VENV)/test.stamp ## every test that needs no GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/check.stamp ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/bench.stamp ## speed beside eager and the peers, in one run
	$(BIN)/python -m bench

# The next two take the Python that is there, with its torch for GPUs; see docs/gpu.md.
test-gpu: ## what needs an NVIDIA GPU: every model, kernels, compute-sanitizer
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m gpu -vv --durations=10 tests/gpu

bench-gpu: ## speed on an NVIDIA GPU beside eager and torch.compile, in ten minutes
	$(PYTHON) -m bench.gpu
