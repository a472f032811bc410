# make demo: everything from a fresh machine to a policy with a report.   make test: everything that is checked.
#
# PYTHON       the interpreter that makes .venv (3.11 or later)
# TORCH        the torch to install before anything else, so that no other build is pulled in:
#                make demo TORCH=torch==2.13.0+cu130 TORCH_INDEX=URL
# TORCH_INDEX  package index for that one install, where your usual one does not have the build (PyTorch's "cpu" index has
#              the small wheel without CUDA)

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
TESTS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

# The root holds a folder named datasets/: keep the working directory off sys.path, or it hides the package of that name.
export PYTHONSAFEPATH := 1

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-slow test-lerobot test-robosuite15 test-calvin lint format bench clean

help:
	@echo 'make setup      a virtual environment with deixis in it, and headless rendering'
	@echo 'make demo       collect, check, train, evaluate, report: runs/demo/report.html'
	@echo 'make test       lint, types and every fast test'
	@echo 'make test-slow  the tests that take minutes'
	@echo 'make test-lerobot  what is exported, read by lerobot itself, in a venv of its own'
	@echo 'make test-robosuite15  our robosuite tasks with robosuite 1.5, in a venv of its own'
	@echo 'make test-calvin  the adapter for CALVIN over PyBullet, in a venv of its own'
	@echo 'make lint       ruff and pyright            make format   let ruff rewrite'
	@echo 'make bench      every benchmark, into results/'
	@echo 'make clean      remove .venv and caches (runs/ stays)'

setup: $(VENV)/.rendering
setup-dev: setup $(VENV)/.dev

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'deixis needs Python 3.11 or later: make PYTHON=python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.python
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	@touch $@

$(VENV)/.base: pyproject.toml $(VENV)/.torch
	$(PIP) --editable .
	@mkdir -p .typing/mujoco && ln -sfn .. .typing/deixis
	@echo 'def __getattr__(name: str): ...' > .typing/mujoco/__init__.pyi
	@touch $@

$(VENV)/.dev: $(VENV)/.base
	$(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/.rendering: $(VENV)/.base envs/rendering_backend.py
	@if ! $(BIN)/python envs/rendering_backend.py >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'installing a software renderer'; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$($(BIN)/python envs/rendering_backend.py --install-command) >/dev/null; \
	fi
	@backend=$$($(BIN)/python envs/rendering_backend.py) && echo "rendering with $$backend"
	@touch $@

demo: setup
	$(BIN)/deixis demo --config demo --overwrite true

test: lint
	$(BIN)/pytest -n 2 $(TESTS)

test-slow: setup-dev
	$(BIN)/pytest -m slow $(TESTS)
	$(BIN)/pytest -n 2 --hypothesis-profile=search $(TESTS)

LEROBOT_PYTHON ?= python3.12
LEROBOT_TORCH ?= torch>=2.7,<2.12 torchvision>=0.22,<0.27
LEROBOT := .venv-lerobot

$(LEROBOT)/.done:
	$(LEROBOT_PYTHON) -m venv $(LEROBOT)
	$(LEROBOT)/bin/python -m pip install -qq $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(foreach p,$(LEROBOT_TORCH),'$(p)')
	$(LEROBOT)/bin/python -m pip install -qq 'lerobot[dataset]==0.6.1'
	@touch $@

# The script runs from a folder of its own, so that lerobot does not find our `datasets`.
test-lerobot: setup-dev $(LEROBOT)/.done
	@folder=$$(mktemp -d) && cp tests/datasets/formats/check_lerobot.py $$folder \
		&& $(BIN)/python $$folder/check_lerobot.py make $$folder \
		&& python=$$PWD/$(LEROBOT)/bin/python && cd $$folder && $$python check_lerobot.py compare $$folder; \
		status=$$?; rm -rf $$folder; exit $$status

# robosuite 1.5 wants numpy below 2 and no mujoco from 3.10 on: deixis comes without what it requires elsewhere.
ROBOSUITE15 := .venv-robosuite15

$(ROBOSUITE15)/.done:
	$(PYTHON) -m venv $(ROBOSUITE15)
	$(ROBOSUITE15)/bin/python -m pip install -qq $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(ROBOSUITE15)/bin/python -m pip install -qq 'robosuite==1.5.2' 'mujoco==3.3.0' 'numpy<2' 'gymnasium>=1.4,<1.5' \
		'scipy>=1.17,<2' 'fast-simplification>=0.2,<0.3' 'zarr>=3.1,<4' 'numcodecs>=0.16' 'google-crc32c>=1.7' pyyaml \
		'pytest>=9,<10' 'pytest-timeout>=2.4' 'hypothesis>=6.170'
	$(ROBOSUITE15)/bin/python -m pip install -qq --no-deps --editable .
	@touch $@

test-robosuite15: $(ROBOSUITE15)/.done
	$(ROBOSUITE15)/bin/python -m pytest tests/envs/test_robosuite.py

# PyBullet is a heavy wheel for one file of tests.
CALVIN := .venv-calvin

$(CALVIN)/.done: pyproject.toml
	$(PYTHON) -m venv $(CALVIN)
	$(CALVIN)/bin/python -m pip install -qq $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(CALVIN)/bin/python -m pip install -qq --editable '.[calvin]' 'pytest>=9,<10' 'pytest-timeout>=2.4' 'hypothesis>=6.170'
	@touch $@

test-calvin: $(CALVIN)/.done
	$(CALVIN)/bin/python -m pytest tests/envs/test_calvin.py

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	@for name in $$($(BIN)/deixis bench | cut -d ' ' -f 1); do \
		$(BIN)/deixis bench $$name --json results/bench-$$name.json || exit 1; \
	done

clean:
	rm -rf $(VENV) .typing .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
