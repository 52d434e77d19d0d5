# Each target makes its own virtual environment first. A GPU machine: make demo JAX=cuda13 (or cuda12). With Robomimic's
# simulators: make install ROBOMIMIC=1, at once or later.
PYTHON ?= python3
JAX ?= cpu
VENV ?= .venv-$(JAX)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
CUDA := $(filter-out cpu,$(JAX))
DEMO := runs/demo

KERNELS := .venv-kernels

.PHONY: help demo check test lint types install kernels lock lock-upgrade audit clean

help:
	@echo "make demo     generate data, train a BC policy, fine-tune it with TRQAM, compare the two"
	@echo "make check    lint, types and the fast tests: the inner loop"
	@echo "make test     lint, types and all tests"
	@echo "make install  only the virtual environment, in $(VENV)"
	@echo "make kernels  compile every method's update for an H100 and a TPU v5e, neither of which is needed, and compare kernels,"
	@echo "              launches and memory with those in benchmarks/results; in $(KERNELS), one to two hours on two cores"
	@echo "make lock     write both lock files anew from the ranges of setup.py and requirements-robomimic.in, keeping the"
	@echo "              versions that still fit; make lock-upgrade takes the newest"
	@echo "make audit    ask for known vulnerabilities of what is locked; without a network nothing is checked, and it says so"
	@echo "make clean    remove the virtual environment and the demo's run (not its data)"
	@echo "Add JAX=cuda13 or JAX=cuda12 for an NVIDIA GPU, ROBOMIMIC=1 for Robomimic's simulators, PYTHON=python3.12 for"
	@echo "another interpreter."

# requirements.txt is complete, so that pip has nothing to resolve, and has the digest of every file that it may take. The
# checkout itself and a GPU's packages, which come on top, have none: pip takes no digest of a folder, and which files of
# CUDA's fit depends on the driver.
$(VENV)/installed: requirements.txt setup.py
	@$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and 'error: Python 3.11 to 3.13 is needed, this is ' + sys.version.split()[0] + '; make PYTHON=python3.12 names another')"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --no-deps --require-hashes -r requirements.txt
	$(PIP) --no-deps -e .
	$(if $(CUDA),sed -e 's/ \\$$//' -e '/--hash=/d' requirements.txt > $(VENV)/constraints.txt)
	$(if $(CUDA),$(PIP) -c $(VENV)/constraints.txt "jax[$(CUDA)]")
	@touch $@

# Complete, too: robosuite's own list of what it needs is not followed (pyproject.toml says why).
$(VENV)/installed-robomimic: $(VENV)/installed requirements-robomimic.txt
	$(PIP) --no-deps --require-hashes -r requirements-robomimic.txt
	@touch $@

install: $(VENV)/installed $(if $(ROBOMIMIC),$(VENV)/installed-robomimic)

# What compiles for a GPU and a TPU, of the version of jax that is locked, without the libraries that run programs there.
$(KERNELS)/installed: requirements.txt
	$(PYTHON) -m venv $(KERNELS)
	$(KERNELS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.txt
	sed -e 's/ \\$$//' -e '/--hash=/d' requirements.txt > $(KERNELS)/constraints.txt
	$(KERNELS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
		$(foreach plugin,jax-cuda12-plugin jax-cuda12-pjrt,$(plugin)==$(shell sed -n 's/^jax==\([^ ]*\).*/\1/p' requirements.txt))
	$(KERNELS)/bin/python -m pip install --quiet --disable-pip-version-check -c $(KERNELS)/constraints.txt "jax[tpu]"
	@touch $@

# Rows of a run that was stopped are kept in build/ and not made again.
kernels: kernels-h100 kernels-tpu-v5e

kernels-%: $(KERNELS)/installed
	$(KERNELS)/bin/python -m benchmarks.kernels --agents=all --replicas=1,8 --platform=$(if $(filter tpu%,$*),tpu,gpu) \
		--csv=build/kernels-$*.csv --compare=benchmarks/results/kernels-$*.csv

# An environment of its own, so that no tool's packages mix with what is locked.
LOCK_TOOLS := uv==0.13.9 pip-audit==2.10.1
LOCK := .venv-lock/bin/uv pip compile --universal --fork-strategy fewest --python-version 3.11 --annotation-style line \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet

.venv-lock/installed: Makefile
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check $(LOCK_TOOLS)
	@touch $@

lock-upgrade: LOCK += --upgrade
lock lock-upgrade: .venv-lock/installed
	$(LOCK) setup.py --extra dev --output-file requirements.txt
	$(LOCK) requirements-robomimic.in --constraint requirements.txt --no-emit-package numpy \
		--output-file requirements-robomimic.txt

# Where pip-audit cannot be installed the script says that nothing was checked.
audit:
	@$(MAKE) --quiet .venv-lock/installed PYTHON=$(PYTHON) || true
	@$(PYTHON) .ci/audit.py requirements.txt requirements-robomimic.txt

demo: install
	rm -rf $(DEMO)
	$(BIN)/python experiments/main.py --agent=trqam --env=cube-single-task1 --protocol=quick \
		--dataset=generate --dataset_episodes=60 --dataset_dir=data --eval_episodes=100 --out_dir=runs --group=demo

lint: install types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/pyright --pythonpath $(BIN)/python

check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not slurm"

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

clean:
	rm -rf $(VENV) $(KERNELS) .venv-lock $(DEMO)
