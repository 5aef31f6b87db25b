# make demo | test | lint work on a fresh clone: each sets up .venv first, from exact versions.

# The first interpreter of a fitting version; `make PYTHON=...` chooses another.
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-slow test-jax lint setup parity lock docs bench bench-fashion bench-gpu tflite-matrix

demo: setup
	$(BIN)/keras-archs demo

test: setup
	$(BIN)/python -m pytest

# The large and the similar networks, which `test` leaves out.
test-slow: setup
	$(BIN)/python -m pytest -m slow

# The networks and blocks on Keras' other backend.
test-jax: setup
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests/keras_archs -m "jax and not slow"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev]'
	@touch $@

# torch and torchvision, for the tests that compare with their networks.
parity: setup
	$(INSTALL) -e '.[dev,parity]'

# Writes constraints.txt anew from pyproject.toml.
lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --no-header \
		--no-annotate --extra dev --extra parity --extra bench pyproject.toml --output-file constraints.txt

# Writes the table of networks from the published figures and from ours.
docs: setup
	$(BIN)/python -m docs.models

# keras.applications, keras-hub and timm beside ours, into docs/benchmarks.md; half an hour or more.
bench: setup
	$(INSTALL) -e '.[dev,parity,bench]'
	$(BIN)/python -m docs.bench

# Accuracy and time to it on Fashion-MNIST, into docs/fashion_mnist.md; an hour or more.
bench-fashion: setup
	$(BIN)/python -m docs.fashion_mnist

# Every network as a TFLite file of every kind, into docs/tflite.md; an hour or more.
tflite-matrix: setup
	$(BIN)/python -m docs.tflite --missing

# The same as `bench` on a GPU, in mixed float16, with XLA and without.
bench-gpu: setup
	$(INSTALL) -e '.[dev,gpu,parity]'
	$(BIN)/python -m docs.bench gpu
