# Two commands: `make repro` runs the pipeline, `make test` runs the tests. Both set up what they need, once.

VENV ?= .venv
PYTHON ?= python3
INSTALLED := $(VENV)/.installed

.PHONY: repro test lint

repro: $(INSTALLED)
	PATH="$(abspath $(VENV))/bin:$$PATH" dvc repro

test: $(INSTALLED)
	PATH="$(abspath $(VENV))/bin:$$PATH" pytest

lint: $(INSTALLED)
	$(VENV)/bin/ruff check stages tests

$(INSTALLED): pyproject.toml .constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint .constraints.txt --editable '.[cluster,dev]'
	touch $@
