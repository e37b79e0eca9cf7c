# `make demo` and `make test` set up all they need. Variables: PYTHON (3.10 to 3.12), VENV, OUTPUT,
# and JOBS, how many tests run at once.
PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3.10 python3,$(if $(shell $(p) --version 2>/dev/null),$(p))))
VENV ?= .venv
OUTPUT ?= output/demo
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: help install demo test lint format clean

help:
	@echo "make demo     train and evaluate a small Squeeze Reasoning model on drawn scenes (no download)"
	@echo "make test     run the tests"
	@echo "make install  set up $(VENV) with pinned requirements"
	@echo "make lint     check the style with ruff;  make format  mend it"

install:
	@test -n "$(PYTHON)" || { echo "install: no Python found: install 3.10, 3.11 or 3.12, or give PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) requirements/install.py $(VENV)

demo: install
	@PATH="$(abspath $(BIN)):$$PATH" bash tools/demo.sh $(OUTPUT)

test: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: install
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: install
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:
	rm -rf output build .pytest_cache .ruff_cache
