# Two commands matter: `make demo` and `make test`. Each does all its own set-up.
.DEFAULT_GOAL := help
.PHONY: help install demo test mutation bench lint clean
PYTHON ?= python3
export PYTHON
BIN := .venv/bin

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: ## Make .venv with the package, the demo and the tools
	@scripts/setup demo,dev

demo: install ## Train a real model on real data under the monitor, then look at the run
	@$(BIN)/entrenar-otel demo

test: install ## Run all tests, with coverage
	@$(BIN)/python -m pytest

mutation: ## Change the code a little, see whether tests notice (half an hour); rewrites docs/mutation.md
	@scripts/setup demo,dev,mutation
	@$(BIN)/python scripts/mutation.py

bench: ## Measure us and the peers in the same run; rewrites docs/benchmarks.md
	@scripts/setup bench
	@$(BIN)/python -m benchmarks

lint: install ## Format check, lint, strict types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

clean: ## Remove what the other commands made
	@rm -rf .venv dist build demo-lake .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* htmlcov
