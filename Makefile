# A fresh machine needs Python 3.11 or newer and make; every target sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench docs tutorials lint clean

demo: $(VENV)/.installed
	$(BIN)/modalign demo

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet bench scripts src tests
	$(BIN)/mypy

# One thread per process: small operations lose more by waiting for a second thread than they gain. Compiled modules
# are kept, also where the environment says otherwise: hundreds of tests start a process of their own.
test: lint
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --maxprocesses 8 --dist worksteal

# The benchmarks that need no other data, in a short setting; bench/README.md has the others.
bench: $(VENV)/.installed
	$(BIN)/python -m bench

# The pages of the methods, then the site, into site/index.html.
docs: $(VENV)/.installed
	$(BIN)/python scripts/make_docs.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

tutorials: $(VENV)/.installed
	$(BIN)/python scripts/run_tutorials.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache
