# `make help` lists the targets. Each makes the virtual environment itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_SLOW := $(VENV)/.ready-slow
# the tested build of torch comes first, so that no range of another package picks a different one
TORCH := $(shell grep '^torch==' constraints.txt)
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

.PHONY: help demo test test-slow test-matrix quality gpu-check clean

help:  ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "hf_reason needs Python 3.11 or newer; call make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(INSTALL) '.[test,quality]'
	touch $@

# What only the slow tests need: DeepSpeed, gptqmodel, and setuptools, which the wheel is built with.
$(READY_SLOW): $(READY)
	$(INSTALL) '.[test,quality,deepspeed,gptq,test-browser]'
	$(BIN)/python -m pip install --quiet 'setuptools>=77'
	touch $@

demo: $(READY)  ## Data, two models, reports and a question in minutes; QUESTION="..." STEP_REASONER=1
	$(BIN)/python -m hf_reason.cli demo $(if $(QUESTION),--question "$(QUESTION)") $(if $(STEP_REASONER),--step_reasoner)

test: $(READY)  ## The fast tests, on all cores
	$(BIN)/python -m pytest tests -n logical --dist loadfile

test-slow: $(READY_SLOW)  ## The tests that take minutes (the wheel, the whole demo, DeepSpeed); installs their extras
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest tests -m slow -n logical --dist loadfile --durations=0

# Environments of their own in .matrix/; torch comes as pip finds it.
test-matrix:  ## The fast tests with the lowest versions that setup.cfg allows; ROW=highest, PYTHON=python3.13
	.ci/matrix $(or $(ROW),lowest) --python $(PYTHON)

quality: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Uses the machine's own Python, since a GPU machine has its own build of torch.
gpu-check:  ## What must hold on a GPU, with the machine's own Python
	PYTHONPATH=.:$$PYTHONPATH $(PYTHON) recipes/bench/gpu_check.py

clean:  ## Remove the environment, outputs and caches
	rm -rf $(VENV) .matrix outputs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
