# Two commands do all set-up: `make demo` and `make test`; either may come first.
#   make demo TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"   another torch build, e.g. CPU only on Linux
#   make test PYTHON=python3.12 VENV=../venv
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
BIN     = $(VENV)/bin
JOBS   ?= 2

.PHONY: demo test slow lint docs gpu-check env clean

env: $(VENV)/.ready

# torch first and alone; the constraint then keeps every later install from replacing its build.
$(VENV)/.ready: pyproject.toml
	@echo "torch and the package are being installed into $(VENV): this takes a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip freeze | grep '^torch==' > $(VENV)/constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev]'
	$(BIN)/pip check
	$(BIN)/python -c "import archgrad, torch, lightning_fabric, datasets, kornia, lazy_loader, pydantic, cyclopts, docstring_parser, rich, safetensors, scipy, sklearn, matplotlib"
	@touch $@

# A whole search on real images, the network it finds trained and tested: each command is shown as it runs.
demo: env
	rm -rf runs/demo
	$(BIN)/archgrad search --config recipes/digits.yaml --out runs/demo
	$(BIN)/archgrad retrain runs/demo
	$(BIN)/archgrad show runs/demo
	$(BIN)/archgrad evaluate runs/demo

# One process a core, one thread each: the tests compare to the last bit, and that depends on the number of threads.
# A file stays in one process, which makes what its tests share once.
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not slow" tests

slow: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site in build/docs. Every warning is an error: a link without a target, a heading that is gone, a docstring that cannot be read.
docs: $(VENV)/.docs
	$(BIN)/python benchmarks/study_pages.py --check
	$(BIN)/python -m sphinx -b html -W --keep-going -n -q docs build/docs
	@echo "the site is in build/docs/index.html"

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[docs]'
	@touch $@

# On a machine with an NVIDIA GPU (TORCH=torch takes its CUDA build): parity with the CPU, resume bit for bit, bf16.
gpu-check: env
	ARCHGRAD_GPU=required $(BIN)/python -m pytest tests/test_gpu.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
