# Portico: one place for every command. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
# A distribution's Python is built with profile-guided optimisation, one that was compiled on the machine often without it,
# which costs a fifth of the speed (docs/decisions/0015-the-interpreter.md). PYTHON=/path/to/python3 chooses another.
USABLE := import os, shutil, sys; assert sys.version_info >= (3, 11); os.getuid() == 0 and shutil.which("apt-get") or __import__("ensurepip")
PYTHON ?= $(shell /usr/bin/python3 -c '$(USABLE)' 2>/dev/null && echo /usr/bin/python3 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(sort $(wildcard proto/portico/v1/*.proto))
SERVICE_PROTOS := $(shell grep -l '^service' $(PROTOS))

.PHONY: help
help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

# Remove an environment of another Python first: an update would leave half of it.
OTHERS := import os, shutil, sys; there = sys.argv[1]; real = os.path.realpath
OTHERS += ; real(there + "/bin/python") == real(sys.executable) or shutil.rmtree(there, ignore_errors=True)
venv = $(PYTHON) -c '$(OTHERS)' $(1) && $(PYTHON) -m venv $(1)

LOCKED := --constraint requirements.lock
$(VENV)/.base: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Portico needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "installing python3-venv"; apt-get update -qq && apt-get install -y -qq python3-venv || { echo "python3-venv is missing; install it: apt-get install python3-venv"; exit 1; }; }
	@$(PYTHON) -c 'import sys; print(f"Python {sys.version.split()[0]}, {sys.executable}")'
	$(call venv,$(VENV))
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet $(LOCKED) --editable '.[openai]'
	@touch $@

$(VENV)/.dev: $(VENV)/.base package.json package-lock.json
	$(BIN)/pip install --quiet $(LOCKED) --group dev
	PATH="$(CURDIR)/$(BIN):$$PATH" npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: install
install: $(VENV)/.base ## install what `make run` needs into .venv

.PHONY: dev
dev: $(VENV)/.dev ## install what development and the tests need

.PHONY: run
run: $(VENV)/.base ## start core and gateway with the example agent
	@$(BIN)/portico run examples/librarian.py $(ARGS)

$(VENV)-proto/.done: pyproject.toml | $(VENV)/.base
	$(call venv,$(VENV)-proto)
	$(VENV)-proto/bin/pip install --quiet --upgrade pip
	$(VENV)-proto/bin/pip install --quiet --group proto
	@touch $@

PROTOC := PATH="$(CURDIR)/$(VENV)-proto/bin:$$PATH" python -m grpc_tools.protoc -Iproto
.PHONY: proto
proto: $(VENV)-proto/.done ## generate Python from the contract
	rm -rf proto/gen/portico/v1 && mkdir -p proto/gen/portico/v1
	$(PROTOC) --python_out=proto/gen --mypy_out=quiet:proto/gen $(PROTOS)
	$(PROTOC) --grpc_python_out=proto/gen --mypy_grpc_out=quiet:proto/gen $(SERVICE_PROTOS)
	printf '"""The contract: messages and stubs generated from proto/portico/v1."""\n' > proto/gen/portico/v1/__init__.py
	touch proto/gen/portico/v1/py.typed

.PHONY: check
check: $(VENV)/.dev $(VENV)-proto/.done ## check style, spelling, types, import rules and the contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pip check --quiet
	$(BUF) lint
	$(BUF) format --diff --exit-code
	@if test -n "$(AGAINST)"; then echo "buf breaking"; $(BUF) breaking --against '.git#ref=$(AGAINST),depth=10000'; else echo "buf breaking: no revision to compare with"; fi
	@$(MAKE) --no-print-directory proto >/dev/null
	@git diff --exit-code --stat proto/gen || { echo "the generated code is stale; run 'make proto' and commit it"; exit 1; }

BUF := PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/buf
# The revision with which the contract must stay compatible: main, or on main itself its parent.
AGAINST ?= $(shell main=$$(git rev-parse --verify --quiet origin/main); if test -n "$$main" -a "$$main" != "$$(git rev-parse HEAD)"; then echo $$main; else git rev-parse --verify --quiet HEAD~1; fi)

# Environments for tests, which need few of their files: compile only imported modules.
ENVIRONMENTS := .peer/.done .a2a-old/.done .frameworks/shared/.done .frameworks/agentscope1/.done
NEXT_TO_US := pip install --quiet --no-compile
.PHONY: environments
environments: ## install the environments of tests beside Portico, in parallel
	@$(MAKE) --no-print-directory --jobs=4 $(ENVIRONMENTS)

.PHONY: peer
peer: .peer/.done ## install AgentScope Runtime, for comparisons, into .peer

.peer/.done: benchmarks/peer/requirements.txt
	$(call venv,.peer)
	.peer/bin/pip install --quiet --upgrade pip
	.peer/bin/$(NEXT_TO_US) -r benchmarks/peer/requirements.txt
	@touch $@

.PHONY: a2a-old
a2a-old: .a2a-old/.done ## install a client of A2A 0.3, for tests, into .a2a-old

.a2a-old/.done:
	$(call venv,.a2a-old)
	.a2a-old/bin/pip install --quiet --upgrade pip
	.a2a-old/bin/$(NEXT_TO_US) 'a2a-sdk[grpc,http-server]==0.3.26'
	@touch $@

# A failed test is repeated once, alone: on a busy host a process can wait for longer than any test allows. The log has both
# results, and a test that needs the repetition has to be corrected. $(1) is pytest, $(2) its options for parallel runs.
define tested
$(1) $(2) $(3) || { test $$? = 1 && echo "FAILED BESIDE OTHERS: repeating the tests named above, alone" && \
	$(1) --last-failed --last-failed-no-failures none --maxfail 1 $(3); }
endef

.PHONY: frameworks
frameworks: .frameworks/shared/.done ## install the agent frameworks into .frameworks (one venv has room for all)

ADAPTERS := agentscope,agno,autogen,langgraph,ms_agent_framework,openai,openai_agents,pydantic_ai
.frameworks/shared/.done: pyproject.toml | $(VENV)/.base
	$(call venv,.frameworks/shared)
	.frameworks/shared/bin/pip install --quiet --upgrade pip
	.frameworks/shared/bin/$(NEXT_TO_US) --editable '.[$(ADAPTERS)]' --group frameworks
	.frameworks/shared/bin/$(NEXT_TO_US) --no-deps 'autogen-core<0.8' 'autogen-agentchat<0.8' 'autogen-ext<0.8'
	@touch $@

# AgentScope 1 and the older MCP that it requires, with which Portico has no MCP gateway.
.frameworks/agentscope1/.done: pyproject.toml | $(VENV)/.base
	$(call venv,.frameworks/agentscope1)
	.frameworks/agentscope1/bin/pip install --quiet --upgrade pip
	.frameworks/agentscope1/bin/$(NEXT_TO_US) --editable '.[redis]' --group agentscope1
	@touch $@

.PHONY: test-frameworks
test-frameworks: engines .frameworks/shared/.done .frameworks/agentscope1/.done ## test the adapters, each with its real framework
	$(call tested,.frameworks/shared/bin/pytest,-n $(WORKERS) --dist loadfile,tests/frameworks $(ARGS))
	$(call tested,.frameworks/agentscope1/bin/pytest,-n $(WORKERS),tests/reference/test_ag*.py tests/reference/test_signatures.py $(ARGS))

# Programs for some sandboxes and services, and a C compiler for faults of clock and disk. `.engines` lists the installed ones, whose
# tests then have to pass; with REQUIRED=yes all that this machine's packages offer have to be installed.
ENGINES := dockerd bwrap runsc cc redis-server
PACKAGES := docker.io bubblewrap runsc gcc libc6-dev redis-server
.PHONY: engines
engines: ## install programs for tests beside Python (docker.io, bubblewrap, runsc, gcc, redis-server)
	@missing=$$(for engine in $(ENGINES); do command -v $$engine >/dev/null || echo $$engine; done); \
	if test -n "$$missing" && test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES); } || true; fi
	@for engine in $(ENGINES); do command -v $$engine >/dev/null && echo $$engine; done > .engines; \
	missing=$$(for engine in $(ENGINES); do grep -qx $$engine .engines || echo $$engine; done); \
	if test -n "$$missing"; then echo "NOT INSTALLED, so not tested:" $$missing; \
		if test "$(REQUIRED)" = yes && apt-cache show $(PACKAGES) >/dev/null 2>&1; then exit 1; fi; fi

.PHONY: bench-frameworks
bench-frameworks: .frameworks/shared/.done ## measure the adapters' cost for each chunk
	.frameworks/shared/bin/python -m benchmarks.frameworks

# Tests that start processes wait most of their time, so use more workers than cores.
WORKERS ?= $(shell expr $$(nproc) + 1)

.PHONY: unit
unit: $(VENV)/.dev ## run the fast tests: unit and contract
	$(BIN)/pytest -n $(WORKERS) tests/unit tests/contract $(ARGS)

.PHONY: test
test: check engines environments ## run all checks and all tests
	$(call tested,$(BIN)/pytest,-n $(WORKERS) --dist loadgroup,$(ARGS))
	@$(MAKE) --no-print-directory test-frameworks

.PHONY: soak
soak: $(VENV)/.dev ## run mixed load with random faults, then check the log (SECONDS=600, or KILLS=1000 of the core)
	PORTICO_SOAK_SECONDS=$(or $(SECONDS),600) PORTICO_SOAK_KILLS=$(or $(KILLS),0) $(BIN)/pytest -s tests/soak/test_soak.py $(ARGS)

.PHONY: steady
steady: $(VENV)/.dev ## run mixed load without faults; memory and descriptors must not grow (SECONDS=1200)
	PORTICO_SOAK_SECONDS=$(or $(SECONDS),1200) $(BIN)/pytest -s tests/soak/test_steady.py $(ARGS)

.PHONY: restarts
restarts: $(VENV)/.dev ## restart core and gateways under load; no caller may see a failed run (COUNT=100)
	PORTICO_SOAK_RESTARTS=$(or $(COUNT),100) $(BIN)/pytest -s tests/soak/test_restarts.py $(ARGS)

.PHONY: format
format: $(VENV)/.dev ## format code and contract
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format .
	$(BUF) format --write

.PHONY: bench
bench: $(VENV)/.dev .peer/.done ## measure Portico and AgentScope Runtime; writes benchmarks/RESULTS.md (ARGS=--quick)
	$(BIN)/pip install --quiet $(LOCKED) --group bench
	@command -v wrk >/dev/null || apt-get install -y -qq wrk || { echo "wrk is missing; install it: apt-get install wrk"; exit 1; }
	PYTHONPATH=tests $(BIN)/python -m benchmarks $(ARGS)

.PHONY: lock
lock: ## install the newest compatible versions, and write requirements.lock
	rm -rf $(VENV)
	$(MAKE) --no-print-directory dev LOCKED=
	{ echo "# The versions with which Portico is built and tested. \`make lock\` writes this file; every install of the Makefile uses it."; \
	  $(BIN)/pip freeze --quiet --exclude-editable; } > requirements.lock

.PHONY: audit
audit: $(VENV)/.dev ## look for known vulnerabilities of the locked versions (needs the network)
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement requirements.lock --no-deps --disable-pip

.PHONY: clean
clean: ## remove everything that make has installed or created
	rm -rf $(VENV) $(VENV)-proto .peer .a2a-old .frameworks .engines node_modules .portico .mypy_cache .ruff_cache .pytest_cache .hypothesis
