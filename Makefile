# make help lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test check micro soak clients clean
help:  ## List the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## Create .venv and install Tandem with everything it was tested with.

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 13) else f"Tandem needs Python 3.11 or 3.12, this is {v.major}.{v.minor}: try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,export,serve,bench,dev]'
	@touch $@

demo: $(INSTALLED)  ## Export the bundled models, index Python's documentation, answer questions in two stages.
	$(BIN)/tandem demo

test: $(INSTALLED)  ## Run the tests.
	$(BIN)/python -m pytest

check: $(INSTALLED)  ## Lint, format check and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .types/tandem

micro: $(INSTALLED)  ## Micro-benchmarks of the hot paths.
	$(BIN)/python -m pytest bench/micro --benchmark-only

MINUTES ?= 30
soak: $(INSTALLED)  ## A mixed load on the server for MINUTES=30: bad input, clients that leave, new versions; memory must not grow.
	TANDEM_SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s tests/engine/server/test_soak.py

clients: $(INSTALLED)  ## Install the clients the server speaks to (some 70 packages) and run them, and the schema fuzz, against it.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,export,serve,bench,dev,clients]'
	$(BIN)/python -m pytest tests/engine/server/test_clients.py tests/engine/server/test_fuzz.py

clean:  ## Remove what the targets made (the collection of the demo too).
	rm -rf $(VENV) .demo .pytest_cache .mypy_cache .ruff_cache
