# make book                                        read the book: execute the notebooks, build the site
# make book PROFILE=reference DEVICE=cuda          the same rules, other sizes, another device
# make test                                        unit tests, notebooks, links
# make refresh                                     rewrite the committed notebooks from a reference run
# make lock                                        rewrite requirements.lock from what .venv holds
# make clean                                       forget executed copies and sites; runs/ and data/ stay

PYTHON  ?= python3
PROFILE ?= quick
DEVICE  ?= cpu
CORES   ?= 2
LINKS   ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := build/.installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book test refresh lock clean unit notebooks links
.DELETE_ON_ERROR:

# Notebooks run side by side, one thread each. What fails, fails alone; the site is rendered all the same.
book: $(STAMP)
	@$(BIN)/snakemake --cores $(CORES) --quiet rules progress --config profile=$(PROFILE) device=$(DEVICE) -- notebooks; \
	  status=$$?; $(BIN)/python workflow/make_book.py --profile $(PROFILE) --device $(DEVICE) --site-only && exit $$status

refresh: $(STAMP)
	@$(BIN)/python workflow/make_book.py --profile reference --device $(DEVICE) --refresh

test: unit notebooks links

unit: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadscope tests

notebooks: $(STAMP)
	PRODA_PROFILE=smoke PRODA_ROOT=$(CURDIR) PRODA_RUNS=$(CURDIR)/build/runs-smoke $(BIN)/python -m pytest -q -n 2 --dist loadscope --nbval-lax --nbval-current-env -p no:cacheprovider book

links: $(STAMP)
	rm -rf book/_build
	$(BIN)/jupyter-book build -W --keep-going -q book/ > build/site.log
	$(BIN)/python workflow/check_links.py book/_build/html $(LINKS)

lock: $(STAMP)
	$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock

clean:
	rm -rf build book/_build

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13))' || \
	  { echo "Python 3.11 to 3.13 is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 book"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP): requirements.lock pyproject.toml $(VENV)/pyvenv.cfg
	@echo "installing requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --no-deps --editable .
	@mkdir -p $(@D) && touch $@
