.DEFAULT_GOAL := help
.PHONY: help install demo ui test lint check clean

PYTHON := .venv/bin/python
INSTALLED := .venv/installed

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): requirements.lock scripts/install.sh
	@bash scripts/install.sh

install: $(INSTALLED)  ## .venv from requirements.lock, and software GL where it is missing (about a minute)

demo: $(INSTALLED)  ## from a sentence to a trained agent on 2 cores, ending with one HTML page
	$(PYTHON) -m scripts.run_trial --config conf/trials/demo.yaml

STORE ?= sqlite:///runs/mlflow.db

ui: $(INSTALLED)  ## all runs side by side, in MLflow on http://127.0.0.1:5000 (STORE=... for another store)
	.venv/bin/mlflow ui --backend-store-uri $(STORE) --host 127.0.0.1 --port 5000

test: $(INSTALLED)  ## the whole test suite, two files at a time
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 20

lint: $(INSTALLED)  ## format, lint, types and import contracts
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports

check: lint  ## the same and the fast tests
	$(PYTHON) -m pytest -m "not slow"

clean:  ## remove the environment and caches; runs/ stays
	rm -rf .venv .uv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
