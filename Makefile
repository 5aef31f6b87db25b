# make demo | test | lint work on a fresh clone: each sets up .venv first, from exact versions.

# The first interpreter of a fitting version; `make PYTHON=...` chooses another.
PYTHON := $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all test-slow test-oldest test-jax lint prose setup parity lock release docs bench bench-fashion bench-gpu tflite-matrix

demo: setup
	$(BIN)/keras-archs demo

# Each promise once, in a few minutes.
test: setup
	$(BIN)/python -m pytest -m "not full and not slow"

# All other tests but the slow ones.
test-all: setup
	$(BIN)/python -m pytest -m "full and not slow"

# The large and the similar networks.
test-slow: setup
	$(BIN)/python -m pytest -m slow

# The fast tests with the oldest TensorFlow and Keras that pyproject.toml allows.
test-oldest: setup
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/oldest
	$(BIN)/uv pip install --quiet --python build/oldest/bin/python -e '.[dev]' \
		'tensorflow==2.21.*' 'keras==3.12.*'
	build/oldest/bin/python -m pytest -m "not full and not slow"

# The networks and blocks on Keras' other backend.
test-jax: setup
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests/keras_archs -m "jax and not slow"

lint: setup prose
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The rules on words, see .pre-commit-config.yaml.
prose: setup
	$(BIN)/pre-commit run prose --all-files

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Needs Python 3.11, 3.12 or 3.13: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(INSTALL) -e '.[dev]'
	@touch $@

# torch and torchvision, for the tests that compare with their networks.
parity: setup
	$(INSTALL) -e '.[dev,parity]'

# Writes constraints.txt from pyproject.toml. UPGRADE= keeps the versions that are there.
UPGRADE := --upgrade
lock: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(UPGRADE) --no-header \
		--no-annotate --extra dev --extra parity --extra bench pyproject.toml --output-file constraints.txt

# Builds dist/*.tar.gz, and dist/*.whl from it, and uses the wheel in an environment of its own.
release: setup
	rm -rf dist build/release
	$(BIN)/uv build --quiet --out-dir dist
	$(BIN)/uvx --quiet twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/uv venv --quiet --python $(BIN)/python build/release
	$(BIN)/uv pip install --quiet --python build/release/bin/python -c constraints.txt dist/*.whl
	cd build/release && bin/python -c "import keras_archs, training, tflite_export"
	cd build/release && bin/keras-archs --version && bin/keras-archs models

# Writes the table of networks from the published figures and from ours.
docs: setup
	$(BIN)/python -m benchmarks.models

# keras.applications, keras-hub and timm beside ours, into docs/benchmarks.md; half an hour or more.
bench: setup
	$(INSTALL) -e '.[dev,parity,bench]'
	$(BIN)/python -m benchmarks.bench

# Accuracy and time to it on Fashion-MNIST, into docs/fashion_mnist.md; an hour or more.
bench-fashion: setup
	$(BIN)/python -m benchmarks.fashion_mnist

# Every network as a TFLite file of every kind, into docs/tflite.md; an hour or more.
tflite-matrix: setup
	$(BIN)/python -m benchmarks.tflite --missing

# The same as `bench` on a GPU, in mixed float16, with XLA and without.
bench-gpu: setup
	$(INSTALL) -e '.[dev,gpu,parity]'
	$(BIN)/python -m benchmarks.bench gpu
