# make setup | demo | test | certify-fuzz | lint | docs | bench
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test certify-fuzz lint format docs bench microbench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ssimpert needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev,bench,baselines,coco,models,onnx,docs]'
	@touch $@

demo: setup
	$(BIN)/ssimpert compare coffee --constraint global-ssim --distance 0.005 --out out/demo

test: setup
	$(BIN)/python -m pytest -q -n 2

# Certificates of N random problems against exact arithmetic, from the seed SEED on, in JOBS processes.
N    ?= 10000
SEED ?= 0
JOBS ?= 2

certify-fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.solvers.exact_arithmetic.fuzz --problems $(N) --first-seed $(SEED) --jobs $(JOBS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without --quiet, which hides warnings from --strict, too.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python docs/check_site.py out/site

bench: setup
	$(BIN)/python -m benchmarks.run

microbench: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks/micro --benchmark-columns=median,iqr,rounds

clean:
	rm -rf $(VENV) out build *.egg-info
