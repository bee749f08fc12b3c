# What a newcomer needs: `make demo` shows the main job, `make test` runs every test that needs no
# gigabytes and no root. Everything lands in .venv, .build or the user's cache folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := .build/setup.stamp
WORKERS ?= 2

.PHONY: help setup binaries demo test lint unit cluster monitoring test-engine test-install crds docs bench locks clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(READY) ## make the virtual environment

$(READY): requirements/dev.txt pyproject.toml
	@start=$$SECONDS
	$(PYTHON) -c 'import sys; sys.exit(f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; set PYTHON=") if sys.version_info < (3, 11) else None'
	echo "setup: packages into $(VENV) (about a minute the first time)"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	mkdir -p $(@D) && touch $@
	echo "setup: $$((SECONDS - start)) s"

binaries: setup ## build the sandbox's control plane, once for all checkouts
	@$(BIN)/gemma-operator sandbox build

demo: binaries ## the main job on a simulated cluster, until Ctrl-C; ONCE=1 ends by itself
	@$(BIN)/python hack/demo.py $(if $(ONCE),--once)

test: lint unit cluster monitoring ## every test that needs no gigabytes and no root
	@echo "test: left out are the real engine (make test-engine) and installers (make test-install)"

lint: setup ## style, types, layers, generated files
	@$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/gemma-operator crd --check crds

unit: setup ## pure tests
	@$(BIN)/pytest -n $(WORKERS) tests/unit

cluster: binaries ## the operator against a real API server and a simulated fleet
	@$(BIN)/pytest tests/cluster

monitoring: setup ## metrics, read by a real Prometheus
	@$(BIN)/pytest -rs tests/monitoring

test-engine: binaries ## real nodes: two kubelets with containerd, in namespaces of their own (Debian, root)
	@$(BIN)/pytest -rs -n 2 --dist loadscope tests/engine

test-install: ## image, Helm, kustomize, Argo CD, Flux (not there yet)
	@echo "test-install: nothing yet: installers come with their own issue"

crds: setup ## write crds/*.yaml from the models
	@$(BIN)/gemma-operator crd --output-dir crds

docs: setup ## write the pages that are made from the code
	@$(BIN)/python hack/reason_pages.py
	$(BIN)/python hack/compatibility_docs.py
	$(BIN)/python hack/hardware_table.py
	$(BIN)/python hack/planner_tables.py
	$(BIN)/python hack/planner_figures.py
	$(BIN)/python hack/golden_plans.py

bench: setup ## print figures, with the machine named; nothing passes or fails by the clock
	@$(BIN)/pytest -s -p no:cacheprovider tests/bench

locks: ## write requirements/*.txt anew
	@hack/lock.sh

clean: ## remove what make made in this checkout (the cache folder stays)
	rm -rf $(VENV) .build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
