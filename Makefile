# Two commands matter: `make demo` and `make test`. Each does all its own set-up.
.DEFAULT_GOAL := help
.PHONY: help install demo collector test native-check test-all test-lowest test-frameworks mutation bench docs lint release-check clean
PYTHON ?= python3
export PYTHON
BIN := .venv/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: ## Make .venv with the package and the demo
	@scripts/setup demo
	@echo "installed: '. $(BIN)/activate' puts entrenar-otel on the PATH; 'make demo' shows it at work"

demo: ## Train a real model on real data under the monitor, then look at the run
	@scripts/setup demo
	@$(BIN)/entrenar-otel demo

collector: ## Build the OpenTelemetry Collector of collector-config/ (needs Go 1.26), print its path
	@scripts/collector

test: ## Run all tests, with coverage
	@scripts/setup demo,dev
	@scripts/collector --background || true
	@scripts/container-images --background || true
	@scripts/test-program --background
	@$(STEADY) $(BIN)/python -m pytest --cov --cov-report=term

native-check: ## Check the native core under sanitizers, half a minute
	@scripts/setup demo,dev
	@scripts/native-check

test-all: ## Run all tests on each of Python 3.11, 3.12 and 3.13 that this machine has
	@scripts/test-all

test-lowest: ## Test the wheel with the lowest allowed version of every dependency
	@scripts/test-lowest

test-frameworks: ## Test integrations and imports with the newest and oldest promised versions of all frameworks and trackers
	@scripts/test-frameworks

mutation: ## Change the code a little, see whether tests notice (half an hour); rewrites docs/mutation.md
	@scripts/setup demo,dev,mutation
	@$(BIN)/python scripts/mutation.py

bench: ## Benchmark entrenar-otel beside comparable libraries; rewrites docs/benchmarks.md
	@scripts/setup bench
	@$(BIN)/python -m benchmarks

docs: ## Build the documentation into build/site, strictly
	@scripts/setup docs .venv-docs
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --site-dir build/site
	@echo "built: build/site/index.html"

lint: ## Format check, lint, strict types, who may import whom
	@scripts/setup demo,dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy tests benchmarks conftest.py hatch_build.py
	@$(BIN)/lint-imports --no-logo

release-check: ## Check that this commit can be released: version, changelog, packages
	@scripts/release-check

clean: ## Remove what the other commands made
	@rm -rf .venv .venv-* dist build demo-lake .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage* htmlcov
