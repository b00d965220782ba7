# Everything starts here: `make serve`, `make test`, `make lint`. Needs make, a package index and Python >= 3.11.

VENV    ?= .venv
HOST    ?= 127.0.0.1
PORT    ?= 8000
BENCH   ?= $(filter-out soak,$(basename $(notdir $(sort $(wildcard benchmarks/*.py)))))
# The first interpreter that runs, is new enough and can make virtual environments; set PYTHON to choose.
PYTHONS ?= python3 python3.13 python3.12 python3.14 python3.11 python

UV_VERSION := 0.13.9
BIN        := $(VENV)/bin
PIP        := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
LOCKED     := $(PIP) install --require-hashes --no-deps -r
# A process for every core, each of which loads the engine; one that has nothing left takes half of what another has.
# One more process than two processors: many tests wait for sockets.
SPREAD     := --numprocesses=3 --dist=worksteal

.DEFAULT_GOAL := help
.PHONY: help serve test lint format bench soak profile lock clean programs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

serve: $(VENV)/.local ## Install the server with its embedded model and start it
	@$(BIN)/llm-server models install smollm2-135m
	@exec $(BIN)/llm-server serve --host $(HOST) --port $(PORT)

# Tests start many programs: with the variable set, each of them compiles the whole server again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.dev $(VENV)/.clients programs ## Install all that the tests need and run every test (ARGS: for pytest)
	$(BIN)/llm-server models install smollm2-135m
	$(BIN)/python -m pytest $(SPREAD) $(ARGS)

programs: $(VENV)/.dev
	@$(BIN)/python tools/programs.py
	@$(BIN)/python tools/suite.py

lint: $(VENV)/.dev ## Check style, types, the walls between rooms and the budgets
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --cache-dir $(VENV)/.import-linter
	$(BIN)/python tools/budgets.py

format: $(VENV)/.dev ## Fix what can be fixed by machine
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.dev ## Print the measured figures, each with its target (BENCH: names, ARGS: for each of them)
	@$(BIN)/python tools/programs.py
	$(BIN)/llm-server models install smollm2-135m
	@for name in $(BENCH); do echo "== $$name"; $(BIN)/python "benchmarks/$$name.py" $(ARGS) || exit 1; done

soak: $(VENV)/.dev ## A million requests, a fifth given up; does anything stay behind? (ARGS: --requests N)
	@$(BIN)/python tools/programs.py
	$(BIN)/python benchmarks/soak.py $(ARGS)

profile: $(VENV)/.dev $(VENV)/.profile ## Show where the time of a request goes (ARGS: --load, --full)
	@$(BIN)/python tools/programs.py
	PYTHONPATH=benchmarks $(BIN)/python -m bench.profiling --spy $(VENV)/profile/bin/py-spy $(ARGS)

lock: ## Resolve every dependency anew and pin it with its hashes (Python 3.11 to 3.14, every platform)
	@$(MAKE) --no-print-directory $(VENV)/.lock
	PATH="$(abspath $(VENV)/lock/bin):$$PATH" $(VENV)/lock/bin/python tools/lock.py

clean: ## Remove everything that make made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests tools benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(PYTHON) $(PYTHONS); do \
	  if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "Creating $(VENV) with $$("$$python" -V) ..." && exec "$$python" -m venv $(VENV); \
	  fi; \
	done; \
	echo "No Python >= 3.11 with venv found. Install one (Debian: apt-get install python3 python3-venv)" >&2; \
	echo "or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1

# A stamp for each set of packages: a repeated run installs nothing.
$(VENV)/.local: locks/build.txt locks/local.txt pyproject.toml | $(BIN)/python
	@echo "Installing the server with its embedded engine ..."
	@$(LOCKED) locks/build.txt -r locks/local.txt
	@$(BIN)/python -c 'import xllamacpp' || { \
	  echo "The embedded engine does not load. On Debian: apt-get install libgomp1 libstdc++6" >&2; exit 1; }
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: locks/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing the server with everything its tests need ..."
	@$(LOCKED) locks/dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.clients: locks/clients.txt | $(BIN)/python
	@echo "Installing clients whose pins exclude the newest packages, for the tests ..."
	@$(BIN)/python -m venv --clear $(VENV)/clients
	@$(VENV)/clients/bin/python -m pip --disable-pip-version-check --quiet --quiet install --require-hashes --no-deps \
	  -r locks/clients.txt
	@touch $@

$(VENV)/.profile: locks/profile.txt | $(BIN)/python
	@$(BIN)/python -m venv --clear $(VENV)/profile
	@$(VENV)/profile/bin/python -m pip --disable-pip-version-check --quiet --quiet install --require-hashes --no-deps \
	  -r locks/profile.txt
	@touch $@

$(VENV)/.lock: Makefile | $(BIN)/python
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip --disable-pip-version-check --quiet --quiet install uv==$(UV_VERSION)
	@touch $@
