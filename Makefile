# Two commands do all set-up: `make demo` and `make test`; either may come first.
#   make demo TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"   another torch build, e.g. CPU only on Linux
#   make test PYTHON=python3.12 VENV=/tmp/venv
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= torch==2.13.0
BIN     = $(VENV)/bin
JOBS   ?= 2

.PHONY: demo test env lint gpu-check clean

env: $(VENV)/.ready

# torch first and alone; the constraint then keeps every later install from replacing its build.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip freeze | grep '^torch==' > $(VENV)/constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[dev]'
	$(BIN)/pip check
	$(BIN)/python -c "import archgrad, torch, lightning_fabric, datasets, kornia, pydantic, cyclopts, rich, safetensors, scipy, sklearn, jinja2, matplotlib"
	@touch $@
