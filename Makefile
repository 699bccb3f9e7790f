# A fresh machine needs Python 3.11 or newer and make; every target sets up what it uses.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench docs lint clean

demo: $(VENV)/.installed
	$(BIN)/modalign demo

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/pytest

bench: $(VENV)/.installed
	$(BIN)/python -m bench.speed
	$(BIN)/python -m bench.real

docs: $(VENV)/.installed
	$(BIN)/python scripts/make_docs.py

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
