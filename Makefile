# Everything a person types. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

VENV := .venv
PYTHON := $(VENV)/bin/python
READY := $(VENV)/.ready
REQUIREMENTS := requirements.txt requirements-dev.txt constraints.txt pyproject.toml
CHECKOV := .venv-checkov/bin/checkov
WORKERS := 2

WORKFLOW ?= uptime_check
PORT ?= 8080
ifeq ($(origin PAYLOAD),undefined)
ifeq ($(WORKFLOW),uptime_check)
# {url} is the address at which `autopilot run` serves the function: this run needs no network.
PAYLOAD = {"targets": [{"name": "this function", "url": "{url}"}]}
endif
endif

# Recipes get these by environment and not as shell text, and PAYLOAD is never expanded by make: quotes, spaces and
# dollars arrive as they were typed.
export RUN_PAYLOAD := $(value PAYLOAD)
export RUN_WORKFLOW := $(value WORKFLOW)
export RUN_PORT := $(value PORT)
unexport PAYLOAD WORKFLOW PORT

# A Python that starts compiles all that it imports, unless that was kept: the tests would take a third longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List what there is to make
	@echo "usage: make [target]"; echo
	@sed -nE 's/^([a-z]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 12
	@echo; echo "examples:"
	@echo "  make run WORKFLOW=feed_digest PAYLOAD='{\"feeds\": [\"https://blog.python.org/feeds/posts/default\"]}'"
	@echo "  make serve WORKFLOW=uptime_check PORT=8080"

.PHONY: run
run: setup ## Run a workflow once, through its function (WORKFLOW=..., PAYLOAD='{...}')
	@$(PYTHON) -m autopilot run "$$RUN_WORKFLOW" --payload "$$RUN_PAYLOAD"

.PHONY: dev
dev: setup ## Serve all workflows, their schedules and the dashboard until Ctrl-C (PORT=8080)
	@$(PYTHON) -m autopilot dev --port "$$RUN_PORT"

.PHONY: serve
serve: setup ## Serve a workflow's function until Ctrl-C (WORKFLOW=..., PORT=8080)
	@$(PYTHON) -m autopilot serve "$$RUN_WORKFLOW" --port "$$RUN_PORT"

.PHONY: test
test: setup ## Pass the fast tests
	@$(PYTHON) -m pytest -q -rs -n $(WORKERS) -m "not slow"

.PHONY: check
check: setup ## Lint, formatting, strict types, security and every test: what CI runs
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	$(PYTHON) -m bandit --quiet --configfile pyproject.toml --recursive autopilot functions main.py
	$(PYTHON) -m pytest -q -rs -n $(WORKERS)

.PHONY: audit
audit: setup ## Look for pinned versions that have known vulnerabilities
	@scripts/audit

.PHONY: checkov
checkov: $(CHECKOV) ## Scan the Terraform configuration
	@$(CHECKOV) --directory terraform --framework terraform --compact --quiet --skip-download

$(CHECKOV): requirements-checkov.txt
	@echo "Making .venv-checkov (a minute or two)" >&2
	@python3 -m venv --clear .venv-checkov
	@.venv-checkov/bin/python -m pip --disable-pip-version-check --quiet --quiet --no-input install -r requirements-checkov.txt
	@touch $@

.PHONY: bench
bench: setup ## Measure, and print tables
	@$(PYTHON) -m pip install -q --disable-pip-version-check -r requirements-bench.txt
	@$(PYTHON) -m benchmarks

.PHONY: lock
lock: setup ## Pin the dependencies of the requirements in constraints.txt
	@scripts/lock

.PHONY: clean
clean: ## Remove the environment and what tools leave behind; never the history in .autopilot
	@rm -rf $(VENV) .venv-checkov build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: setup
setup: $(READY) ## Set up .venv (the other targets do it too)
	@:

$(READY): $(REQUIREMENTS) scripts/setup
	@scripts/setup $(VENV)
	@touch $@
