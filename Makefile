# `make demo` and `make test` set up everything they need. Variables:
#   PYTHON  the Python of the environment, 3.10 to 3.12
#   VENV    where the environment is
#   OUTPUT  where the demo writes
#   JOBS    how many tests run at the same time
PYTHON ?= $(firstword $(foreach p,python3.12 python3.11 python3.10 python3,$(if $(shell $(p) --version 2>/dev/null),$(p))))
VENV ?= .venv
OUTPUT ?= output/demo
JOBS ?= 2
BIN := $(VENV)/bin

.PHONY: help install demo test faults lint format clean

help:
	@echo "make demo     segment a street with the trained model, then train and evaluate a small one (no download)"
	@echo "make test     run the tests"
	@echo "make faults   try all faults, also what takes long: kills, many processes (30 minutes on two cores)"
	@echo "make lint     check style (ruff), types (mypy) and the order of imports (import-linter)"
	@echo "make format   fix the style"
	@echo "make install  create $(VENV) with the pinned requirements; the others do this first"
	@echo "make clean    remove outputs, builds and caches"
	@echo
	@echo "To use another Python: make install PYTHON=/path/to/python3.11"
	@echo "To use another place:  make install VENV=/path/on/a/larger/disk (give the same VENV to the others)"

install:
	@test -n "$(PYTHON)" || { echo "install: no Python found. Install Python 3.10, 3.11 or 3.12, or name one: make install PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) requirements/install.py $(VENV)

demo: install
	@PATH="$(abspath $(BIN)):$$PATH" bash tools/demo.sh $(OUTPUT)

test: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

faults: install
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "fault or faults_slow"

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: install
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

clean:
	rm -rf output build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
