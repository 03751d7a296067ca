# Thin: each target is a command or two. `make run` and `make test` are all a newcomer needs.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CORE := Cargo.toml Cargo.lock core-rs/pyproject.toml $(shell find core-rs -name tests -prune -o \
	-type f \( -name '*.rs' -o -name 'Cargo.toml' -o -path '*/python/*.py*' \) -not -path '*/__pycache__/*' -print)
RUNTIME := processors/runtime/pyproject.toml $(shell find processors/runtime/theory_runtime -name '*.py')
SIMULATOR := $(BIN)/python -W error -m theory_api.scheduler.tests.simulator
PROCESSORS := $(dir $(wildcard processors/*/*/*/provider.py))

.PHONY: help setup run dev test lint docs reference lock nightly soak siege clean

help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready ## everything that `theory` needs, in .venv

run: setup ## set up, then make a short film of a text (TEXT=file for your own)
	$(BIN)/theory demo $(if $(TEXT),"$(TEXT)")

dev: $(VENV)/.dev ## what tests, lints and docs need besides

test nightly siege: export THEORY_CACHE ?= $(CURDIR)/.cache/theory
test: dev ## the tests, without the slow ones
	$(BIN)/pytest -q -n 2 -m "not slow"
	cargo test --quiet --workspace --locked

lint: dev ## format, style, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy api processors/runtime core-rs/python core-rs/tests core-rs/vectors docs migrations
	for folder in $(PROCESSORS); do \
		$(BIN)/mypy "$$folder"provider.py "$$folder"main.py && $(BIN)/mypy "$$folder"tests || exit 1; \
	done
	$(BIN)/lint-imports
	cargo fmt --check
	cargo clippy --quiet --workspace --all-targets --locked -- -D warnings

docs: dev ## the documentation, in docs/build
	$(BIN)/sphinx-build -n -W -q -b html docs/source docs/build/html

reference: dev ## write docs/_generated anew from the code
	$(BIN)/python docs/generate.py

lock: dev ## resolve the control plane's requirements anew
	$(BIN)/python api/lock.py

nightly: dev ## the slow tests at their full counts
	$(SIMULATOR) --seeds 0..1999 --twice 2000
	THEORY_KILLS=200 THEORY_KILLS_WINDOW=10 THEORY_RESTARTS=10 THEORY_CONTENTION=200 \
		$(BIN)/pytest -q -m slow
	PROPTEST_CASES=100000 cargo test --quiet --release --locked -p theory-core --test fuzz --test laws

soak: dev ## simulate seed after seed until interrupted; FROM=2000 is the first
	$(SIMULATOR) --soak --seeds $(or $(FROM),2000)

siege: dev ## kill, restart and contend with real processes, for about a day
	THEORY_KILLS=5000 THEORY_KILLS_WINDOW=100 THEORY_RESTARTS=300 THEORY_CONTENTION=20000 \
		$(BIN)/pytest -q -m slow api/theory_api/tests/test_{windows,restarts,kill,container_kills}.py \
		api/theory_api/adapters/tests/test_contention.py

clean: ## remove what was built
	rm -rf $(VENV) dist target docs/build

# -- stamps: a second `make setup` has nothing to do -----------------------------------------

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Theory needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@command -v cargo > /dev/null \
		|| { echo "Theory needs a Rust toolchain: cargo is not on PATH"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.build: api/requirements-build.txt | $(VENV)/bin/python
	$(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/.requirements: api/requirements.txt | $(VENV)/.build
	$(PIP) install --require-hashes -r $<
	@touch $@

dist/.core: $(CORE) | $(VENV)/.build
	@rm -f dist/theory_core-*.whl
	cd core-rs && ../$(BIN)/maturin build --release --locked --quiet --out ../dist
	@touch $@

dist/.runtime: $(RUNTIME) | $(VENV)/.build
	@rm -f dist/theory_runtime-*.whl
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist ./processors/runtime
	@touch $@

$(VENV)/.ready: $(VENV)/.requirements dist/.core dist/.runtime pyproject.toml
	$(PIP) install --no-deps --force-reinstall dist/theory_core-*.whl
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: api/requirements-dev.txt $(VENV)/.ready
	$(PIP) install --require-hashes -r $<
	$(PIP) install --no-deps --no-build-isolation --editable ./processors/runtime
	@touch $@
