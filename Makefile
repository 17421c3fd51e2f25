# make demo: the main job from nothing. make test: all tests. make check: style, types, arrows. make bench: the table of speed.
# make docs: the site, in build/docs. make claims: replay the first updates of every committed result (needs Fashion-MNIST).
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test test-slow test-real check claims format bench docs clean

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/tutelage distill --teacher cnn:width=32 --train-teacher --student cnn:width=4,depth=4 --data digits --epochs 60 --lr 1e-2

test: .venv/installed
	$(BIN)/python -m pytest

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow

test-real: .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-real.txt
	$(BIN)/python -m pytest -m real

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

claims: .venv/installed
	$(BIN)/tutelage reproduce --all --check

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build/peers/torchdistill: .venv/installed
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/peers torchdistill==1.1.5
	touch $@

bench: .venv/installed build/peers/torchdistill
	$(BIN)/python benchmarks

# every warning is an error: links that lead nowhere, names that are not there, pages that no other page knows
docs: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

clean:
	rm -rf .venv build dist docs/generated .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
