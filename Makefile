.DEFAULT_GOAL := help
.PHONY: help setup run test test-all trained lessons lab lint clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LESSONS := $(sort $(wildcard notebooks/*.ipynb))
PAGES := $(LESSONS:notebooks/%.ipynb=build/%.html)
TRAINED := build/mimm-x build/start-here
PYTEST := $(BIN)/pytest
export XBL_KIT_CACHE ?= $(CURDIR)/data/cache
# Two trainings with two threads each, on two cores, take longer than one after the other.
trained run test test-all: export OMP_NUM_THREADS ?= 1
.PHONY: $(PAGES) $(TRAINED) # their folders may be there, half done

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed ## create .venv and install the kit with its tools

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[lab,test]"
	touch $@

run: setup trained ## run all lessons on the phantom, write build/*.html, print the results
	$(MAKE) -j2 $(PAGES)
	$(BIN)/xbl-kit reproduce exbl --out build/start-here --resume

$(PAGES): build/%.html: notebooks/%.ipynb
	$(BIN)/jupyter nbconvert --log-level WARN --execute --to html --output-dir build \
		--ExecutePreprocessor.store_widget_state=False $<
build/03_refine_with_exbl.html: build/02_pick_exemplars.html # which saves the picks

test: setup lint trained ## fast tests, and every lesson against its saved outputs
	$(PYTEST) -n auto --dist worksteal -m "not slow"
	$(PYTEST) -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=900 \
		-o filterwarnings=default --ignore notebooks/exercises notebooks

test-all: setup trained ## what takes long: the browser, every lesson twice in one kernel
	$(PYTEST) -n 2 --dist loadgroup -m slow

trained: setup ## train once what several lessons read, two trainings at a time
	$(MAKE) -j2 $(TRAINED)

build/start-here:
	$(BIN)/xbl-kit reproduce exbl --out $@ --resume
build/mimm-x:
	$(BIN)/python -c "from xbl_kit.run import reproduce; reproduce('mimm-x', out='$@', resume=True, \
		confounders=['age', 'sex', 'site'], models=['erm', 'multitask', 'mimm-x'])"

lessons: setup trained ## re-run the lessons, save their outputs, write notebooks/exercises
	$(BIN)/python notebooks/build.py --execute

lint: setup ## check style, imports between floors, and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

lab: setup ## open JupyterLab on the first lesson
	$(BIN)/jupyter lab $(firstword $(LESSONS))

clean: ## delete results, caches and .venv
	rm -rf build data/cache data/downloads $(VENV)
