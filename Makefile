# llmvitals. `make` alone explains itself.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

PYTHON ?= python3
ELSEWHERE := build/python
VENV := .venv
BIN := $(VENV)/bin
STACK := $(BIN)/python -m llmvitals_stack
# As a module: the script that pip installs for itself cannot be run below every path.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
OLDEST := build/oldest
LITELLM := build/litellm

.PHONY: help up down status logs doctor notify-test chaos test test-oldest test-python test-litellm lint format generate bench lock clean packages

help: ## Show this help
	@echo "llmvitals: vital signs for LLM applications, and hands that act on them."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make chaos SCENARIO=slow-llm|provider-down|users-pile-up|memory-growth|crash [RUNS=10]"
	@echo "  make logs PROGRAM=companion"

# --- Running it -------------------------------------------------------------------------------------------------------

up: $(VENV)/.runtime ## Start everything, wait until it is healthy, print the addresses
	@$(STACK) up

down: $(VENV)/.runtime ## Stop everything that `make up` started; keep the data
	@$(STACK) down

status: $(VENV)/.runtime ## Say what runs, and how it is
	@$(STACK) status

logs: $(VENV)/.runtime ## Follow the logs, of one PROGRAM or of all
	@$(STACK) logs $(PROGRAM)

doctor: $(VENV)/.runtime ## Look for what is wrong, and say what to do
	@$(STACK) doctor

notify-test: $(VENV)/.runtime ## Send one notification of each kind that .env switches on
	@$(STACK) notify-test

chaos: $(VENV)/.runtime ## Turn a fault on and watch the loop close (SCENARIO=..., RUNS=1)
	@$(STACK) chaos $(if $(SCENARIO),$(SCENARIO),--help) $(if $(RUNS),--runs $(RUNS))

# --- Working on it ----------------------------------------------------------------------------------------------------

test: $(VENV)/.dev packages ## Check everything; installs what it needs
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests/typing/application.py
	@$(AT_ONCE)

# The five loops mostly wait, four minutes of them: the other tests run meanwhile, on the second core.
AT_ONCE = mkdir -p build; \
	$(BIN)/python -m pytest -p no:cacheprovider tests/stack/test_up.py >build/test-up.log 2>&1 & up=$$!; \
	$(MAKE) --no-print-directory test-oldest test-litellm >build/test-others.log 2>&1 & others=$$!; \
	trap 'kill -TERM $$up $$others; exit 130' INT TERM; \
	$(BIN)/python -m pytest --ignore tests/stack/test_up.py; main=$$?; \
	wait $$up; up=$$?; wait $$others; others=$$?; \
	cat build/test-up.log build/test-others.log; exit $$((main ? main : up ? up : others))

# Of the packages of this project's own, the integrations' tests import the library only.
test-oldest: $(OLDEST)/.made ## Check the integrations with the oldest libraries that they support
	@PYTHONPATH=instrumentation $(OLDEST)/bin/python -m pytest -p no:cacheprovider \
		tests/instrumentation/integrations tests/instrumentation/test_openai.py \
		tests/instrumentation/test_retries.py tests/instrumentation/test_caches.py

# litellm has warnings of its own, and would fetch a table of prices.
test-litellm: $(LITELLM)/.made ## Check the integration with litellm, which needs packages of its own
	@PYTHONPATH=.:instrumentation:examples LITELLM_LOCAL_MODEL_COST_MAP=True $(LITELLM)/bin/python -m pytest \
		-p no:cacheprovider -o filterwarnings=default tests/instrumentation/integrations/litellm_suite.py

test-python: ## Check the library on another interpreter: make test-python PYTHON=python3.13
	@$(PYTHON) -m venv --clear $(ELSEWHERE)
	@$(ELSEWHERE)/bin/python -m pip install --quiet --require-hashes -r constraints-dev.txt || { $(NO_PACKAGES); exit 1; }
	@$(ELSEWHERE)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@$(ELSEWHERE)/bin/python -m pytest -p no:cacheprovider tests/instrumentation

lint: $(VENV)/.dev ## ruff, mypy, the lint of rules and dashboards
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m prometheus.lint
	$(BIN)/python -m grafana.lint
	$(BIN)/mypy tests/typing/application.py

format: $(VENV)/.dev ## Format the Python sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.dev ## Write what is generated: rules, dashboards, docs/metrics.md
	$(BIN)/python -m prometheus.builder
	$(BIN)/python -m grafana.builder
	$(BIN)/python docs/metrics.py
	$(BIN)/python docs/alerts.py

bench: $(VENV)/.dev ## Run the benchmarks, each beside its named peer
	@for file in bench/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Locks name no index, so that any mirror serves; pip checks the hashes.
UV_COMPILE = $(BIN)/uv pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate
lock: $(VENV)/.dev ## Lock the dependencies anew (constraints*.txt)
	$(PIP) install --quiet uv
	printf 'hatchling\neditables\n' | $(UV_COMPILE) - --extra exporter --extra remediation --extra stack --extra demo \
		--output-file constraints.txt
	printf 'hatchling\neditables\n' | $(UV_COMPILE) - --all-extras --group integrations --constraints constraints.txt \
		--output-file constraints-dev.txt
	$(UV_COMPILE) --group oldest --resolution lowest-direct --output-file constraints-oldest.txt
	$(UV_COMPILE) --group litellm --output-file constraints-litellm.txt
	$(BIN)/python docs/versions.py

clean: ## Remove the environment and all state (asks nothing; stop the stack first)
	@! test -x $(BIN)/python || { $(STACK) status >/dev/null 2>&1; test $$? -eq 3; } \
		|| { echo "The stack runs, or its status cannot be told: make down first."; exit 1; }
	rm -rf $(VENV) .run build dist

# --- What the above need ----------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "llmvitals needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "No virtual environment could be made. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }

NO_PACKAGES = echo "The Python packages could not be installed; pip says why, above. Without a network, name a mirror in PIP_INDEX_URL."

$(VENV)/.runtime: $(BIN)/python constraints.txt pyproject.toml
	@test -e $(VENV)/.dev || { echo "Installing the Python packages (about half a minute) ..."; \
		$(PIP) install --quiet --require-hashes -r constraints.txt || { $(NO_PACKAGES); exit 1; }; }
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(BIN)/python constraints-dev.txt pyproject.toml
	@echo "Installing the development packages (about half a minute) ..."
	@$(PIP) install --quiet --require-hashes -r constraints-dev.txt || { $(NO_PACKAGES); exit 1; }
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(OLDEST)/.made: constraints-oldest.txt | $(VENV)/.dev
	@echo "Installing the oldest libraries that the integrations support (about half a minute) ..."
	@$(call environment,$(OLDEST),$<)

$(LITELLM)/.made: constraints-litellm.txt | $(VENV)/.dev
	@echo "Installing litellm and what it needs (about half a minute) ..."
	@$(call environment,$(LITELLM),$<)

# Makes the environment $(1) from the constraints $(2).
environment = $(BIN)/python -m venv --clear --without-pip $(1) \
	&& $(PIP) --python $(1)/bin/python install --quiet --require-hashes -r $(2) || { $(NO_PACKAGES); exit 1; }; touch $(1)/.made

# The real servers of the end-to-end tests.
packages:
	@sh stack/packages.sh prometheus=prometheus promtool=prometheus \
		prometheus-alertmanager=prometheus-alertmanager amtool=prometheus-alertmanager \
		prometheus-node-exporter=prometheus-node-exporter prometheus-pushgateway=prometheus-pushgateway \
		chromium=chromium node=nodejs npm=npm redis-server=redis-server
