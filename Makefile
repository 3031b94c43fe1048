.DEFAULT_GOAL := help
.PHONY: help setup tested run test test-all fast trained lessons slides lab lint book bench bundle clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LESSONS := $(sort $(wildcard notebooks/*.ipynb))
PAGES := $(LESSONS:notebooks/%.ipynb=build/%.html)
CHECKS := $(LESSONS:notebooks/%.ipynb=checked-%)
TRAINED := build/mimm-x build/start-here
.PHONY: picker $(PAGES) $(CHECKS) $(TRAINED)
export XBL_KIT_CACHE ?= $(CURDIR)/data/cache
export OMP_WAIT_POLICY ?= PASSIVE

# Jobs at once, of one thread each: trainings with more threads than cores hinder each other.
JOBS ?= 2
ONE_THREAD := OMP_NUM_THREADS=1
# Tests print much, and so one after the other; a run prints a line a lesson, and bars.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync)
TOGETHER := +$(ONE_THREAD) $(MAKE) --no-print-directory --jobs=$(JOBS) --keep-going

# TORCH=cpu takes the build of torch without CUDA, from PyTorch's own index.
CPU_INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
PIP := $(BIN)/pip install --quiet --constraint constraints.txt $(if $(filter cpu,$(TORCH)),$(CPU_INDEX))

BOOK = $(ONE_THREAD) $(BIN)/sphinx-build -W --keep-going -q -c docs -d build/doctrees . build/book

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/installed ## create .venv, install the kit and JupyterLab (TORCH=cpu: without CUDA)
tested: $(VENV)/installed-tests

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed')"
	$(PYTHON) -m venv $(VENV)
	@echo "installing: $(if $(filter cpu,$(TORCH)),2 GB,6 GB; without CUDA less: make setup TORCH=cpu)"
	$(PIP) --editable ".[lab,book]"
	touch $@
$(VENV)/installed-tests: $(VENV)/installed
	$(PIP) --editable ".[lab,book,test]"
	touch $@

run: setup ## run all lessons on the phantom, write build/*.html, print the results
	@echo "$(words $(LESSONS)) lessons, $(JOBS) at once; each has a line here when it is done"
	@$(TOGETHER) $(PAGES) || failed=$$?; XBL_KIT_LESSONS=build/lessons $(BOOK) -E; exit $${failed:-0}
	$(BIN)/xbl-kit reproduce exbl --out build/start-here --resume

test: tested lint ## fast tests, and every lesson against its saved outputs
	$(TOGETHER) $(SYNC) build/mimm-x fast $(CHECKS)

test-all: tested trained book ## what takes long: the browser, every lesson twice in one kernel
	$(ONE_THREAD) $(BIN)/pytest -n $(JOBS) --dist loadscope -m slow

fast: tested ## the fast tests alone
	$(ONE_THREAD) $(BIN)/pytest -n auto --dist worksteal -m "not slow"

trained: setup ## train what several lessons read, once
	$(TOGETHER) $(TRAINED)

build/start-here:
	@echo "build/start-here is trained once, for lessons 00 to 03: about 4 minutes"
	@$(BIN)/xbl-kit reproduce exbl --out $@ --resume > /dev/null
build/mimm-x:
	@echo "build/mimm-x is trained once, for lesson 05: about 4 minutes"
	@$(BIN)/python -c "from xbl_kit.run import reproduce; reproduce('mimm-x', out='$@', resume=True, \
		confounders=['age', 'sex', 'site'], models=['erm', 'multitask', 'balanced-dcor'])"

# Who reads what: lessons 04 to 07 have their own runs, lesson 03 takes the picks of lesson 02.
OTHERS := $(foreach n,04 05 06 07,build/$n_% checked-$n_%)
$(filter-out $(OTHERS),$(PAGES) $(CHECKS)): build/start-here
$(filter build/05_% checked-05_%,$(PAGES) $(CHECKS)): build/mimm-x
build/03_refine_with_exbl.html: build/02_pick_exemplars.html
checked-03_refine_with_exbl: checked-02_pick_exemplars

$(PAGES): build/%.html: notebooks/%.ipynb
	@$(BIN)/python notebooks/page.py $< build/lessons/$*.ipynb \
		$(BIN)/jupyter nbconvert --log-level WARN --execute --to notebook --output-dir build/lessons \
			--ExecutePreprocessor.store_widget_state=False $<
$(CHECKS): checked-%: notebooks/%.ipynb
	$(BIN)/pytest -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=900 \
		-o filterwarnings=default $<

lessons: setup trained ## re-run the lessons, save their outputs, write notebooks/exercises
	$(BIN)/python notebooks/build.py --execute

slides: setup ## make slides of the lessons, build/slides/*.html, which need no internet
	$(PIP) --editable ".[slides]"
	$(BIN)/python docs/teaching/slides.py

lint: tested ## check style, imports between floors, and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell

book: setup ## render lessons, guides and reference, without a network: build/book/index.html
	$(BOOK)

bench: tested ## what the kit's parts cost beside other libraries: fifteen minutes
	$(ONE_THREAD) $(BIN)/python benchmarks/speed.py

lab: setup ## open JupyterLab on the first lesson
	$(BIN)/jupyter lab $(firstword $(LESSONS))

# The page shows the training images of a run: of the phantom's, or of images of yours.
DATA ?= phantom
PICKS ?= picks
SHOWN := build/$(if $(filter phantom,$(DATA)),start-here,picker-$(DATA))
.PHONY: $(SHOWN)
build/picker-$(DATA):
	$(BIN)/xbl-kit reproduce exbl --models unrefined --data $(DATA) --out $@ --resume \
		$(if $(ROOT),--root "$$(cd "$(ROOT)" && pwd)")
picker: setup ## the picker as a page for people who do not see notebooks (DATA=table ROOT=FOLDER)
	$(PIP) --editable ".[picker]"
	$(MAKE) --no-print-directory $(SHOWN)
	XBL_KIT_RUN=$(abspath $(SHOWN)) XBL_KIT_PICKS=$(abspath $(PICKS)) JUPYTER_PATH=notebooks/apps \
		$(BIN)/voila --template=picker notebooks/apps/picker.ipynb

bundle: setup ## one zip for a room without internet (TORCH=cpu: without CUDA)
	$(BIN)/python hosting/bundle.py $(if $(TORCH),--torch $(TORCH))

clean: ## delete results, caches and .venv
	rm -rf build data/cache data/downloads $(VENV)
