# `make demo` and `make test` do all the set-up from a clean clone: Python 3.11 and make are enough.
PYTHON ?= python3.11
DEMO_ARGS ?=
TEST_ARGS ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test check format docs lock clean

help:  ## Show what there is to make.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(READY): requirements.lock pyproject.toml
	@echo "setting up .venv (once; a few minutes, most of it TensorFlow)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)  ## The whole chain on a rendered shelf; DEMO_ARGS="--once --json demo.json" for scripts.
	$(BIN)/shelfkit demo $(DEMO_ARGS)

test: $(READY)  ## Run the tests; TEST_ARGS="-m 'slow or not slow'" for all of them.
	$(BIN)/pytest $(TEST_ARGS)

check: $(READY)  ## The gate: lint, format, types, who imports whom, docs up to date.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: $(READY)  ## Format the code and mend what can be mended by itself.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)  ## Write docs/reference from the code.
	$(BIN)/python docs/generate.py

lock:  ## Resolve requirements.lock anew from pyproject.toml (needs uv).
	uv pip compile --universal --python-version 3.11 --all-extras --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --upgrade --output-file requirements.lock pyproject.toml

clean:  ## Remove what can be made again.
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo
