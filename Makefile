# Every command that the README names. `make` alone lists them.
SHELL := bash
PYTHON ?= python3
UV ?= .venv/bin/uv
MEMBERS := kit operator $(sort $(wildcard services/*))
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.DEFAULT_GOAL := help
.PHONY: help venv lock contracts docs lint types test chaos run demo coupling tools bench

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/.ready ## the Python environment, exactly as requirements.lock has it
.venv/.ready: requirements.lock pyproject.toml $(addsuffix /pyproject.toml,$(MEMBERS))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %s: make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@test -x .venv/bin/uv || .venv/bin/pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --compile-bytecode --require-hashes --requirement requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/.venv $(UV) pip install --quiet --no-deps $(addprefix --editable ./,$(MEMBERS))
	@touch $@

lock: ## pin every dependency anew into requirements.lock
	uv pip compile pyproject.toml --group pyproject.toml:dev $(addsuffix /pyproject.toml,$(MEMBERS)) --all-extras \
		--universal --generate-hashes --no-emit-package tidings --no-annotate --no-header --quiet --output-file requirements.lock

lint: venv ## style, imports between layers
	ruff format --check .
	ruff check .
	lint-imports

types: venv ## mypy strict over every member and the tests
	mypy kit/src operator/src
	mypy tests bench simulators docs/reference/generate.py
	cd scenarios && mypy *.py
	for service in $(wildcard services/*); do mypy $$service/src || exit 1; done

contracts: venv ## write every service's schema files anew from its classes
	for service in $(patsubst services/%/contracts/events.yaml,%,$(wildcard services/*/contracts/events.yaml)); do \
		tidings export $$service.events --folder services/$$service/contracts/schemas || exit 1; done

docs: venv ## write the generated pages of docs/reference anew
	python docs/reference/generate.py

tools: venv ## daprd and whatever else the local run needs, found or built
	@tidings tools

test: venv tools ## everything but the cluster: unit, contract, integration on real programs, browser
	coverage erase
	pytest tests/unit tests/contract -n 2 --cov --cov-report=
	pytest tests/integration -n 2 --cov --cov-append --cov-report=
	pytest tests/e2e tests/chaos
	coverage report --skip-covered --skip-empty --fail-under=90

chaos: venv tools ## kill each service and each sidecar in turn while orders flow
	pytest tests/chaos

run: venv tools ## the whole system on this machine; Ctrl-C stops it (BROKER=redis for Redis Streams)
	@tidings up $(if $(BROKER),--broker $(BROKER)) || [ $$? = 130 ] # Ctrl-C is how it ends

demo: venv tools ## a burst of orders, each one's way and times (ORDERS=200)
	python scenarios/demo.py --orders $(or $(ORDERS),200)

coupling: venv ## stop loyalty, and count the orders accepted by events and in the coupled mode
	python scenarios/coupling.py

bench: venv ## what the kit costs, against its peers
	python bench/ingress_cpu.py
