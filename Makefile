# make help lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXTRAS := cpu,export,serve,bench,dev,clients
# The pin that has no wheel for this Python, as a sentence: asked of the index alone, nothing is installed.
NO_WHEEL = $(BIN)/python -m pip install --quiet --dry-run --ignore-installed --no-deps --use-feature=fast-deps \
  --only-binary=:all: --requirement constraints.txt 2>&1 | sed -n "s/^ERROR: No matching distribution found for \(.*\)/Not installed: the package index has no wheel of \1 for this Python; try make PYTHON=python3.11/p"

.PHONY: help install demo test check docs micro bench accuracy rivals soak clients charts offline protos clean
help:  ## List the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

install: $(INSTALLED)  ## Create .venv and install Tandem with everything it was tested with.

# Wheels only: where one is missing pip would start a compiler, and fail pages later.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Tandem needs Python 3.11 or newer, this is {v.major}.{v.minor}: try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --only-binary=:all: --constraint constraints.txt --editable '.[$(EXTRAS)]' \
	  || { $(NO_WHEEL) >&2; exit 1; }
	@touch $@

demo: $(INSTALLED)  ## Export the bundled models, index Python's documentation, answer questions in two stages.
	$(BIN)/tandem demo
	@test -e .demo || ln -s "$${XDG_CACHE_HOME:-$$HOME/.cache}/tandem" .demo  # where its models and collection are

WORKERS ?= 2
test: $(INSTALLED)  ## Run the tests in WORKERS=2 processes, each file in one of them.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)  ## Lint, format check and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .types/tandem

docs: $(INSTALLED)  ## Run every command of README and docs with the bundled models: some ten minutes.
	$(BIN)/python -m pytest -m slow tests/test_docs.py

micro: $(INSTALLED)  ## Micro-benchmarks of the hot paths.
	$(BIN)/python -m pytest bench/micro --benchmark-only --benchmark-autosave

protos: $(INSTALLED)  ## Make the modules of the gRPC calls from their .proto files.
	cd engine/server/grpc_api && $(abspath $(BIN))/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. tandem_v1.proto tei_v1.proto

MINUTES ?= 30
soak: $(INSTALLED)  ## A mixed load on the server for MINUTES=30, then 5,000 operations with faults, mutated streams, 5,000 changes of a collection.
	TANDEM_SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s -m slow tests/engine/server/test_soak.py
	TANDEM_OPERATIONS=5000 TANDEM_STREAMS=5000 $(BIN)/python -m pytest -s tests/engine/server/test_operations.py \
		tests/engine/server/test_streams.py tests/engine/collection/test_living.py

# An environment over .venv, whose packages it sees, for what nothing else here needs (that of the clients: 500 MB).
define environment
	$(BIN)/python -m venv $(1)
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  >"$$($(1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv.pth"
endef

CLIENTS ?= .clients
$(CLIENTS)/.installed: $(INSTALLED) tests/engine/server/clients.txt
	$(call environment,$(CLIENTS))
	$(CLIENTS)/bin/python -m pip install --quiet --only-binary=:all: --constraint constraints.txt \
	  --requirement tests/engine/server/clients.txt
	$(CLIENTS)/bin/python -m pip install --quiet --no-deps infinity_client==0.0.78 langchain-huggingface==1.2.3
	@touch $@

clients: $(CLIENTS)/.installed  ## Run the server's clients, the schema fuzz and the frameworks of the adapters.
	$(CLIENTS)/bin/python -m pytest -m clients -rs tests/engine/server tests/engine/adapters

CHARTS ?= .charts
$(CHARTS)/.installed: $(INSTALLED) tests/deploying/tools.txt
	$(call environment,$(CHARTS))
	$(CHARTS)/bin/python -m pip install --quiet --only-binary=:all: --requirement tests/deploying/tools.txt
	@touch $@

charts: $(CHARTS)/.installed  ## Check the image, the compose file, the chart and the unit of docs/deploying with their users' tools.
	$(CHARTS)/bin/python -m pytest -rs tests/deploying

# Real questions where they are, Python's documentation otherwise. RIVALS="--rival all" takes those of `make rivals` too.
DATA ?= $(wildcard ../shared/data/squad-dev)
RIVALS ?=
# What is kept in bench/results took half an hour, with all rivals and more questions: each result names its command.
QUESTIONS ?= 5
BENCH = $(BIN)/tandem bench
KEEP = $(if $(DATA),--questions $(DATA)) --save

bench: $(INSTALLED)  ## Measure everything at sizes for two quiet cores, write bench/RESULTS.md: a quarter of an hour.
	$(BENCH) latency $(KEEP) --sample $(QUESTIONS) $(RIVALS) >/dev/null
	$(BENCH) throughput $(KEEP) --sample 3 --repeats 2 $(RIVALS) >/dev/null
	$(BENCH) quality $(KEEP) --sample $$((5 * $(QUESTIONS))) --timed 5 --tokens 64 --tokens 128 >/dev/null
	$(BENCH) recall $(KEEP) --rows 50000 >/dev/null
	$(BENCH) index $(KEEP) --passages 100 --repeats 2 $(RIVALS) >/dev/null
	$(BENCH) export --save >/dev/null
	$(BENCH) serve $(KEEP) --seconds 15 >/dev/null
	$(BENCH) rivals $(KEEP) >/dev/null
	$(BENCH) report

SETS ?= squad-dev nq-qed-clapnq scifact
SAMPLE ?= 1000
MODELS = .bench/models
# SAMPLE questions with every candidate read, then all of them by the quick and by the usual reading; INT8 beside FP32.
accuracy: $(INSTALLED)  ## How good the answers are, on SETS of ../shared/data: two hours on two quiet cores.
	$(BIN)/tandem export minilm-l6 --as bi-encoder --out $(MODELS)/minilm-l6
	$(BIN)/tandem export minilm-l6-reranker --as cross-encoder --out $(MODELS)/minilm-l6-reranker
	set -e; for set in $(SETS); do \
	  $(BIN)/tandem index ../shared/data/$$set/corpus.jsonl --out .bench/collections/$$set \
	    --encoder $(MODELS)/minilm-l6 --reranker $(MODELS)/minilm-l6-reranker; \
	  $(BIN)/tandem eval .bench/collections/$$set ../shared/data/$$set --sample $(SAMPLE) --effort thorough --save; \
	  $(BIN)/tandem eval .bench/collections/$$set ../shared/data/$$set --effort quick --save; \
	  $(BIN)/tandem eval .bench/collections/$$set ../shared/data/$$set --save; \
	done
	$(BENCH) quality .bench/collections/$(firstword $(SETS)) --questions ../shared/data/$(firstword $(SETS)) --save \
	  --sample 400 --candidates 10 --candidates 30 --precision int8 --precision fp32 --budget-ms 250 --timed 3 >/dev/null
	$(BENCH) report

rivals: $(INSTALLED)  ## Make the environments of rivals that need their own (7 GB), and check what they compute.
	$(BENCH) rivals --install --save

OFFLINE_PYTHON ?= 3.12
offline:  ## Fill .offline with what a GPU machine without network lacks, for Python OFFLINE_PYTHON=3.12.
	rm -rf .offline
	$(PYTHON) -m pip install --quiet --target .offline --no-deps --only-binary=:all: --constraint constraints.txt \
	  --implementation cp --python-version $(OFFLINE_PYTHON) --platform manylinux2014_x86_64 \
	  pydantic pydantic-core annotated-types typing-inspection

clean:  ## Remove what the targets made here (the collections of the benchmarks too); the demo keeps its own in ~/.cache/tandem.
	rm -rf $(VENV) $(CLIENTS) $(CHARTS) .demo .bench .rivals .offline .pytest_cache .mypy_cache .ruff_cache
