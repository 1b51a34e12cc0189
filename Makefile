# make setup | demo | test | test-all | dist | certify-fuzz | verify-fuzz | mutants | study-torture | lint | docs | bench
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Without --quiet: pip says what it downloads and how far it is.
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

.PHONY: setup demo test test-all dist certify-fuzz verify-fuzz mutants study-torture lint format docs bench microbench clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ssimpert needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Making $(VENV) and installing the project there. This takes a minute or two, and longer with a slow network."
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev,bench,baselines,browser,cluster,coco,models,onnx,docs]'
	@# So that scripts run by their path, such as `python examples/borders.py`, find the checkout's other folders.
	@$(BIN)/python -c "import pathlib, sysconfig; \
		pathlib.Path(sysconfig.get_path('purelib'), 'ssimpert-checkout.pth').write_text(str(pathlib.Path.cwd()) + '\n')"
	@touch $@
	@echo "Ready: '. $(BIN)/activate' puts ssimpert on the path, and '$(BIN)/ssimpert doctor' checks this installation."

demo: setup
	$(BIN)/ssimpert compare coffee --constraint global-ssim --distance 0.005 --out out/demo
	@echo; echo "Written:"; ls -1 out/demo/*
	@echo; $(BIN)/ssimpert report out/demo -o out/demo/report.html --force

test: setup
	$(BIN)/python -m pytest -q -n 2

# The whole suite on every Python that ssimpert supports and that is found here, each in an environment of its own.
test-all: setup
	$(BIN)/python -m tests.release.all_pythons

# Wheel and source distribution in dist/: built, checked, installed in an empty environment, and used there.
dist: setup
	$(PIP) -e '.[release]'
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m tests.release.try_distribution dist

# Certificates of N random problems against exact arithmetic, from the seed SEED on, in JOBS processes.
N    ?= 10000
SEED ?= 0
JOBS ?= 2

certify-fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.solvers.exact_arithmetic.fuzz --problems $(N) --first-seed $(SEED) --jobs $(JOBS)

# Claimed bounds of NETWORKS random small networks against sampled and attacked points, from the seed SEED on.
NETWORKS ?= 1000

verify-fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.ssimpert.verification.random_networks --networks $(NETWORKS) --first-seed $(SEED)

# A small study whose processes are killed at twenty random moments, here and on a Dask cluster.
study-torture: setup
	$(BIN)/python -m tests.study_torture

# N small faults put into the certificate, the sets and the windows, one at a time: how many do the tests find?
mutants: N = 400
mutants: setup
	$(PIP) -e '.[mutants]'
	$(BIN)/python -m tests.mutation.run --mutations $(N) --seed $(SEED) --jobs $(JOBS)

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

# Writes to out/bench; make bench RECORD=--record replaces the committed records, except those of fuller runs.
RECORD ?=

bench: setup
	$(BIN)/python -m benchmarks.run $(RECORD)

microbench: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q benchmarks/micro --benchmark-columns=median,iqr,rounds

clean:
	rm -rf $(VENV) out build dist *.egg-info
