# Every target that runs something makes its environment first; that is immediate the second
# time. Pass arguments on with ARGS, as in: make test ARGS='-k sigma'

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow bench lint format clean

# Not named PYTHON: that is the user's choice of interpreter for tools/setup_env.sh.
PY := .venv/bin/python

base := @bash tools/setup_env.sh base
ops := @bash tools/setup_env.sh ops

# $(call timed,COMMAND): run it and say how long it took, without the set-up.
timed = @SECONDS=0; $(1); rc=$$?; echo "$@: run time $$SECONDS s (set-up not counted)"; exit $$rc

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make the whole environment in .venv (operators, tests, tools)
	$(ops)

demo: ## a small segmentation run on this machine
	$(base)
	$(call timed,PYTHONPATH=tools/dataset_converters:tools/model_converters $(PY) tools/demo.py $(ARGS))

test: ## the tests to run before a commit
	$(ops)
	$(call timed,$(PY) -m pytest -n logical --dist loadfile -m 'not slow' $(ARGS))

test-slow: ## the other tests: killed and resumed, distributed, all configs, real weights
	$(ops)
	$(call timed,$(PY) -m pytest -n logical --dist loadfile -m slow $(ARGS))

bench: ## measure parameters, time and memory
	$(base)
	$(call timed,$(PY) tools/analysis_tools/benchmark.py backbone $(ARGS))

lint: ## ruff, mypy, import-linter and codespell
	$(ops)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	.venv/bin/lint-imports
	$(PY) -m codespell_lib

format: ## let ruff fix and format the code
	$(ops)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches and build output; .venv, data and work_dirs stay
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
