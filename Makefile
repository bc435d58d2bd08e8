# Every target does its own set-up: a fresh clone with Python 3.11 or newer, and pip, is enough.

PORT ?= 8000
HOST ?= 127.0.0.1
# The interpreter to build .venv with; empty: the newest on PATH of those that are tested.
PYTHON ?=
# What pytest gets: make test ARGS="-x tests/cluster/test_hub.py"
ARGS ?=
# Processes that run tests: much of a test is waiting, so two more than there are cores. 0 runs them in one.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 2)
# Each worker begins with a part of the files, so that they share servers, and whoever is done takes from another.
SPREAD = -n $(WORKERS) --dist worksteal

# Tests start some hundred interpreters: each would compile this package anew.
unexport PYTHONDONTWRITEBYTECODE

VERSIONS := 3.11 3.12 3.13
PINS := constraints.txt
TESTED := -e .[all] --group test
RUN := .venv/bin/python -m
DOCS := mkdir -p build/pages && .ci/venv .venv-docs "$(PYTHON)" $(PINS) --group docs
MKDOCS := NO_MKDOCS_2_WARNING=1 PATH="$$PWD/.venv-docs/bin:$$PATH" .venv-docs/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-faults check format bench coverage docs docs-serve docs-version test-all test-lowest $(VERSIONS:%=test-%) public dist constraints clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Serve the chatroom of example/ (PORT=8000)
	@.ci/venv .venv "$(PYTHON)" $(PINS) -e '.[demo]'
	@echo "The chatroom: http://$(HOST):$(PORT)/   Ctrl-C stops it."
	@$(RUN) uvicorn example.main:app --host $(HOST) --port $(PORT) --timeout-graceful-shutdown 2

test: ## Run the tests (ARGS="-x tests/cluster/test_hub.py")
	@.ci/venv .venv "$(PYTHON)" $(PINS) $(TESTED)
	@$(RUN) pytest $(SPREAD) $(ARGS)

test-faults: ## Run the tests that are long, or that kill, end, pause and cut off real servers
	@.ci/venv .venv "$(PYTHON)" $(PINS) $(TESTED)
	@$(RUN) pytest -m fault -n 3 --dist worksteal $(ARGS)

check: ## Lint, and check the types
	@.ci/venv .venv "$(PYTHON)" $(PINS) $(TESTED)
	@.ci/venv .venv "$(PYTHON)" $(PINS) --group check
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) pyright --project pyproject.toml --pythonpath .venv/bin/python

format: ## Sort imports, format, and repair what ruff can
	@.ci/venv .venv "$(PYTHON)" $(PINS) --group check
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

bench: ## Measure (benchmarks/README.md)
	@.ci/venv .venv "$(PYTHON)" $(PINS) $(TESTED)
	@$(RUN) benchmarks

coverage: ## Show which branches each pure module's own tests leave out
	@$(MAKE) --no-print-directory test ARGS="-m fault tests/test_coverage.py"

test-all: $(VERSIONS:%=test-%) test-lowest ## Run the tests on every Python that is here, and on the lowest versions

$(VERSIONS:%=test-%): test-%:
	@if python=$$(.ci/python $*); then \
		.ci/venv .venv-$* "$$python" $(PINS) $(TESTED) && .venv-$*/bin/python -m pytest $(SPREAD) $(ARGS); \
	else \
		echo "There is no Python $* here: not tested on it."; \
	fi

test-lowest: ## Run the tests on the lowest versions that pyproject.toml declares
	@.ci/venv .venv-lowest "$$(.ci/python $(firstword $(VERSIONS)) || echo $(PYTHON))" \
		"constraints-lowest.txt $(PINS)" $(TESTED)
	@.venv-lowest/bin/python -m pytest $(SPREAD) $(ARGS)

docs: ## Build the documentation as a site, in build/site
	@$(DOCS)
	@$(MKDOCS)/mkdocs build --strict --quiet --config-file docs/site/mkdocs.yml
	@.venv-docs/bin/python docs/site/links.py build/site

docs-serve: ## Show that site while it is written (PORT=8000)
	@$(DOCS)
	@$(MKDOCS)/mkdocs serve --config-file docs/site/mkdocs.yml --dev-addr $(HOST):$(PORT)

docs-version: ## Keep that site as VERSION=1.2 beside the others, on the branch gh-pages
	@$(DOCS)
	@$(MKDOCS)/mike deploy --config-file docs/site/mkdocs.yml --update-aliases $(VERSION) latest
	@$(MKDOCS)/mike set-default --config-file docs/site/mkdocs.yml latest

public: ## Write down what is public (docs/public.txt), when that was meant to change
	@.ci/venv .venv "$(PYTHON)" $(PINS) $(TESTED)
	@$(RUN) tests.support.public

dist: ## Build what is uploaded to a package index
	@.ci/venv .venv "$(PYTHON)" $(PINS) $(TESTED)
	@rm -rf dist && $(RUN) hatchling build

constraints: ## Pin the newest versions of everything, for the oldest Python
	@rm -rf .venv-constraints
	@.ci/venv .venv-constraints "$$(.ci/python $(firstword $(VERSIONS)))" /dev/null -e '.[all]' --group dev
	@{ echo '# What `make` installs. Written by `make constraints`.'; \
		.venv-constraints/bin/python -m pip freeze --exclude-editable; } > $(PINS)
	@rm -rf .venv-constraints

clean: ## Remove whatever can be made again
	rm -rf .venv .venv-* dist build htmlcov .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis .npm
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
