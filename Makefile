# The commands of the README. Each makes .venv first, from constraints.txt alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
# what pip builds the four distributions with comes from constraints.txt too
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: demo test lint bench docs install clean

demo: install
	$(BIN)/portnet demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

bench: install
	$(BIN)/python -m bench

docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/python -m portnet.testing.coverage --out docs/coverage.md --processes 2

install: $(VENV)/.installed

$(VENV)/.installed: constraints.txt requirements-dev.txt pyproject.toml adapters/*/pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) -r requirements-dev.txt -e '.[cpu,demo,fast]' -e adapters/torch -e adapters/keras -e adapters/gluon
	$(PIP) --no-deps -r requirements-nodeps.txt
	touch $@

clean:
	rm -rf $(VENV) demo
