.DEFAULT_GOAL := help
.PHONY: help setup run test lab lint clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LESSONS := $(sort $(wildcard notebooks/*.ipynb))
export XBL_KIT_CACHE ?= $(CURDIR)/data/cache

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed ## create .venv and install the kit with its tools

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[lab,test]"
	touch $@

run: setup ## run all lessons on the phantom, write build/*.html, print the results
	mkdir -p build
	$(BIN)/jupyter nbconvert --log-level WARN --execute --to html --output-dir build $(LESSONS)
	$(BIN)/xbl-kit reproduce exbl --out build/start-here --resume

test: setup lint ## run every test, and every lesson against its saved outputs
	$(BIN)/pytest -m "not slow"
	$(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=900 \
		-o filterwarnings=default notebooks
	$(BIN)/pytest -m slow

lint: setup ## check style, imports between floors, and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

lab: setup ## open JupyterLab on the first lesson
	$(BIN)/jupyter lab $(firstword $(LESSONS))

clean: ## delete results, caches and .venv
	rm -rf build data/cache data/downloads $(VENV)
