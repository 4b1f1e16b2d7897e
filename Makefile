# make demo: the whole line on the embedded data set. make test: the fast tests. make check: everything that CI runs.
PYTHON ?= python3
BIN := .venv/bin
export PYTHONWARNINGS := ignore::DeprecationWarning
ifneq ($(wildcard ../shared/data),)
export LIMBECK_DATA ?= $(abspath ../shared/data)
endif

.PHONY: demo test check clean

demo: .venv/ready
	$(BIN)/limbeck run demo

test: .venv/ready
	$(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal

check: .venv/ready
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/limbeck check src/limbeck/recipes
	$(BIN)/python -m pytest -q -m slow -n 2 --dist worksteal

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all,dev]"
	touch $@

clean:
	rm -rf .venv dist build
