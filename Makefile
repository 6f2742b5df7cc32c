# CQOx: `make run` opens the product, `make test` runs every test but the slow ones. Both build and reuse .venv.
SHELL := /bin/sh
BIN := .venv/bin
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH
unexport PYTHONHOME
.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow lint types imports definitions check format docs data clean

help:
	@echo "make run        start the web server and the daemon, deliver the sample studies"
	@echo "make test       every test but the slow ones"
	@echo "make test-slow  simulations over many draws"
	@echo "make check      lint, types, import contracts, definitions"
	@echo "make format     format the code and sort imports"
	@echo "make docs       write the generated pages in docs/"
	@echo "make data       write the seeded sample studies in data/"
	@echo "make clean      remove caches and build products; .venv and .cqox stay"

setup:
	@PYTHON="$(PYTHON)" sh tools/setup.sh

run: setup
	@set -a; if [ -f .env ]; then . ./.env; fi; set +a; exec $(BIN)/python -m dagster_deploy.serve --samples

test: setup
	@$(BIN)/python tools/run_tests.py

test-slow: setup
	@$(BIN)/python tools/run_tests.py --slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

definitions: setup
	$(BIN)/dagster definitions validate -w workspace.yaml

check: lint types imports definitions

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup
	$(BIN)/python tools/write_docs.py

data: setup
	$(BIN)/python -m cqox_assets.simulate --out data

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/artifacts
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
