# Each target makes its own virtual environment first. A GPU machine: make demo JAX=cuda13 (or cuda12).
PYTHON ?= python3
JAX ?= cpu
VENV ?= .venv-$(JAX)
BIN := $(VENV)/bin
CUDA := $(filter-out cpu,$(JAX))
DEMO := runs/demo

.PHONY: help demo test lint install clean

help:
	@echo "make demo     generate data, clone a policy, fine-tune it with TRQAM, compare the two"
	@echo "make test     lint and all tests"
	@echo "make install  only the virtual environment, in $(VENV)"
	@echo "make clean    remove the virtual environment and the demo's run (not its data)"
	@echo "Add JAX=cuda13 or JAX=cuda12 for an NVIDIA GPU, PYTHON=python3.12 for another interpreter."

$(VENV)/installed: requirements.txt setup.py
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'error: Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; make PYTHON=python3.12 names another')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e ".[dev$(if $(CUDA),$(comma)$(CUDA))]"
	@touch $@
comma := ,

install: $(VENV)/installed

demo: install
	rm -rf $(DEMO)
	$(BIN)/python experiments/main.py --agent=trqam --env=cube-single-task1 --protocol=quick \
		--dataset=generate --dataset_episodes=60 --dataset_dir=data --eval_episodes=100 --out_dir=runs --group=demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

clean:
	rm -rf $(VENV) $(DEMO)
