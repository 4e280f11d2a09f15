# Every target makes the virtual environment itself when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# the tested build of torch comes first, so that no range of another package picks a different one
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: demo test test-slow quality gpu-check clean

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "hf_reason needs Python 3.11 or newer; call make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,quality]'
	touch $@

demo: $(READY)
	$(BIN)/python recipes/demo.py $(if $(QUESTION),--question "$(QUESTION)") $(if $(STEP_REASONER),--step_reasoner)

test: $(READY)
	$(BIN)/python -m pytest tests -n logical --dist loadfile

test-slow: $(READY)
	$(BIN)/python -m pytest tests -m slow

quality: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Uses the machine's own Python, since a GPU machine has its own build of torch.
gpu-check:
	PYTHONPATH=.:$$PYTHONPATH $(PYTHON) recipes/bench/gpu_check.py

clean:
	rm -rf $(VENV) outputs build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
