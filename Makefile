# Two commands need to be known: `make demo` and `make test`. Each does its own set-up in .venv; they need
# nothing but make (3.81 or newer) and Python 3.11 or newer. `make help` lists the rest.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready

# Workers of pytest. One runs the whole swarms of tests/e2e one after another, which mostly wait, and one those of
# tests/clients (tests/conftest.py); two cores are busy with three of them.
WORKERS ?= 3
TEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
CHAOS_ARGS ?=
# Tests whose types are checked; without comparison-overlap: they compare names, which are types, with text.
TYPED_TESTS := $(addprefix tests/,admin authority backends client cloud codec control core_controlplane credentials \
  dataplane engines house routing settings sidecar_control store telemetry)
UV_VERSION := 0.13.8

.PHONY: help demo test test-etcd test-mutants test-storm test-root test-asyncio conformance chaos bench bench-streams bench-peers bench-growth bench-control bench-docs lint format types imports proto lock docs references check clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

demo: $(READY) ## Two nodes, one real model, one question. DEMO_ARGS=--once ends after the answer.
	@$(BIN)/swarmctl demo $(DEMO_ARGS)

test: $(READY) ## Every test; branch coverage of the pure cores must be 100 %.
	@$(BIN)/python -m pytest -n $(WORKERS) \
	  --cov --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=100 $(TEST_ARGS)

test-etcd: $(READY) ## The store, and several control planes, on three etcd members that are killed and frozen.
	@$(BIN)/python -m pytest -n 3 -m etcd_cluster $(TEST_ARGS) tests/store tests/e2e

test-mutants: $(READY) ## Bugs put into copies of the pure cores and of the embedded store, one at a time: their tests must notice each.
	@$(BIN)/python -m tests.mutants.try_cores
	@$(BIN)/python -m tests.store.try_mutants

test-storm: $(READY) ## Minutes under load: processes are killed and frozen, connections die by the thousand.
	@$(BIN)/python -m pytest -m storm $(TEST_ARGS) tests

test-asyncio: $(READY) ## The data plane's tests on asyncio's own loop; make test has them on uvloop, where that is installed.
	@LOOP=asyncio $(BIN)/python -m pytest -n $(WORKERS) $(TEST_ARGS) tests/dataplane

test-root: $(READY) ## Hosts in network namespaces that find each other, and services: as root, on Linux; skipped elsewhere.
	@$(BIN)/python -m pytest -m root $(TEST_ARGS) tests/e2e

# npm installs what tests/clients/javascript/package-lock.json pins, from the registry the machine is set up for.
conformance: $(READY) ## Unmodified clients, in Python and JavaScript, against a host without models.
	@if command -v npm >/dev/null; then npm --prefix tests/clients/javascript ci --silent; fi
	@$(BIN)/python -m pytest -m "conformance or not conformance" $(TEST_ARGS) tests/clients

chaos: $(READY) ## Up to ten minutes of kills, freezes and cut cables; what must hold. CHAOS_ARGS="--seed 7".
	@$(BIN)/python -m tests.chaos.run --kept $(CHAOS_ARGS)

bench: $(READY) ## Measure the data plane, beside nginx and haproxy where they are installed.
	@$(BIN)/python bench/run.py $(BENCH_ARGS)

bench-streams: $(READY) ## 2,000 slow streams and 10,000 idle clients on one sidecar: memory, CPU, losses.
	@$(BIN)/python bench/streams.py $(BENCH_ARGS)

bench-peers: $(READY) ## Beside sglang-router and vllm-router, which are installed into .venv-peers.
	@$(BIN)/python bench/peers.py $(BENCH_ARGS)

bench-growth: $(READY) ## What a request costs as candidates and bodies grow.
	@$(BIN)/python bench/growth.py $(BENCH_ARGS)

bench-control: $(READY) ## What a control plane costs as sidecars grow. BENCH_ARGS=--etcd kills one of two instances.
	@$(BIN)/python bench/control.py $(BENCH_ARGS)

bench-docs: $(READY) ## All of them; docs/reference/performance.md and its plots are made from them.
	@$(BIN)/python bench/streams.py --write
	@$(BIN)/python bench/growth.py --write
	@$(BIN)/python bench/peers.py --write
	@$(BIN)/python bench/peers.py --write --backends 4
	@$(BIN)/python bench/control.py --write
	@$(BIN)/python bench/control.py --write --etcd

lint: $(READY) ## Style: ruff's rules and its format.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY) ## Rewrite the sources in ruff's format.
	@$(BIN)/ruff format .

types: $(READY) ## mypy, strict.
	@$(BIN)/mypy
	@$(BIN)/mypy --follow-imports=silent --exclude make_tiny_gguf scripts
	@$(BIN)/mypy --explicit-package-bases --follow-imports=silent --disable-error-code comparison-overlap $(TYPED_TESTS)

imports: $(READY) ## Who may import whom.
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/lint-imports --no-cache --no-logo --config .importlinter-cycles.toml

proto: $(READY) ## Generate the protobuf code anew.
	@$(BIN)/python scripts/generate_proto.py

references: $(READY) ## Write the reference pages that are made from the code.
	@$(BIN)/python scripts/generate_settings_reference.py
	@$(BIN)/python scripts/generate_cli_reference.py
	@$(BIN)/python scripts/generate_dialects_reference.py
	@$(BIN)/python scripts/generate_doctor_reference.py

lock: $(READY) ## Pin the requirements of pyproject.toml anew. LOCK_ARGS=--upgrade takes newer versions.
	@$(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	@$(BIN)/python scripts/lock.py $(LOCK_ARGS)

docs: $(DOCS_READY) ## Build the documentation into site/.
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

check: lint types imports docs ## Everything .ci/run checks beside the tests.
	@$(BIN)/python scripts/generate_proto.py --check
	@$(BIN)/python scripts/generate_settings_reference.py --check
	@$(BIN)/python scripts/generate_cli_reference.py --check
	@$(BIN)/python scripts/generate_dialects_reference.py --check
	@$(BIN)/python scripts/generate_doctor_reference.py --check
	@$(BIN)/python scripts/lock.py --check

clean: ## Remove .venv and everything that was built.
	rm -rf $(VENV) .venv-peers site build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage

BUILD := from swarmplane.interpreter import interpreter_here; print(interpreter_here().build)

# The first suitable Python; 3.14 after the others, as it has no wheel of the generator that make proto and make check
# use. ensurepip is what Debian leaves out of its python3 package.
$(BIN)/python:
	@set -eu; \
	for python in $(PYTHON) python3.13 python3.12 python3.11 python3.14 python3 python; do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  found="$$python"; \
	  "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || continue; \
	  echo "setting up $(VENV) with $$("$$python" --version)"; \
	  if [ "$$("$$python" -B -c "$(BUILD)" 2>/dev/null)" = plain ]; then \
	    echo "hint: it was built without optimisations, so a sidecar's own work takes 1.4 times as long; with your system's: make clean demo PYTHON=/usr/bin/python3"; \
	  fi; \
	  rm -rf $(VENV); \
	  exec "$$python" -m venv $(VENV); \
	done; \
	if [ -n "$${found-}" ]; then \
	  echo "$$found has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; \
	else \
	  echo "Python 3.11 or newer is needed (none found on PATH; or say: make PYTHON=/path/to/python3)" >&2; \
	fi; \
	exit 1

# pip uses whatever index the machine is configured for.
$(READY): $(BIN)/python requirements/dev.txt pyproject.toml
	@echo "installing what requirements/dev.txt pins"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(DOCS_READY): $(READY) requirements/docs.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	@touch $@
