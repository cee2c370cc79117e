# The pinned environment, the study, the tests. `make` alone says what there is.
#
# Targets are relative paths and recipes run in this folder, so spaces in its path are harmless.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help reproduce paper-smoke test faults slurm-test lint clean clean-checkpoints clean-states

STUDY ?= config/mini.yaml
CORES ?= all

# Tested on 3.12 and 3.11; any other python3 that is new enough is tried last.
ifndef PYTHON
PYTHON := $(shell for p in python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	>/dev/null 2>&1 && echo $$p && break; done)
endif

PIP := .venv/bin/python -m pip --disable-pip-version-check
# Rules call `python -m ssl_bench`: that must be this environment's.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help:
	@echo 'make reproduce   environment, then the study in STUDY (now $(STUDY))'
	@echo 'make paper-smoke environment, then all of config/paper.yaml on small generated corpora'
	@echo 'make test        environment, then the tests'
	@echo 'make faults      studies killed, out of disk, started twice; half an hour to an hour'
	@echo 'make slurm-test  the smoke study on a real Slurm (root; packages slurm-wlm and munge)'
	@echo 'make lint        ruff, mypy, snakefmt (snakemake --lint is one of the tests)'
	@echo 'make clean       remove caches (not .venv, work/ or results/)'
	@echo 'make clean-checkpoints  remove those of trainings in STUDY that are not done; says what it frees'
	@echo 'make clean-states       remove hidden states of STUDY on disk (see config/README.md, cache); says what it frees'

.venv/.stamp: constraints.txt pyproject.toml
	@if [ -z '$(PYTHON)' ]; then \
	  echo "make: needs Python 3.11 or newer with venv (found: $$(python3 --version 2>&1 | head -n 1)); give one with: make PYTHON=/path/to/python3.12" >&2; \
	  exit 2; fi
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: '$(PYTHON)' is not Python 3.11 or newer" >&2; exit 2; }
	@echo "Making .venv with $$('$(PYTHON)' --version): about 6 GB on disk (torch with CUDA), 3 GB to download; 3 to 10 minutes."
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear .venv
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv: .venv/.stamp

reproduce: .venv/.stamp
	@gpus=$$(.venv/bin/python -m ssl_bench gpus --study '$(STUDY)') && \
	echo "Running $(STUDY) on $(CORES) cores and $$gpus GPUs." && \
	.venv/bin/python -m snakemake --cores $(CORES) --resources gpu=$$gpus --configfile '$(STUDY)'

# Every cell of the paper's study on generated speech and random encoders: the road, not the numbers.
paper-smoke: STUDIES := config/paper.yaml config/paper_smoke.yaml
paper-smoke: .venv/.stamp
	.venv/bin/python tests/paper_smoke.py data/paper-smoke
	.venv/bin/python -m ssl_bench warm \
	  .venv/bin/python -m snakemake --cores $(CORES) --scheduler greedy --configfile $(STUDIES)
	@tail -n +1 results/paper-smoke/tables/table[1-4].md

test: .venv/.stamp
	.venv/bin/python -m pytest -q

faults: .venv/.stamp
	SSL_BENCH_FAULTS=1 .venv/bin/python -m pytest -q -rs -s tests/faults

slurm-test: .venv/.stamp
	SSL_BENCH_SLURM_TEST=1 .venv/bin/python -m pytest -q -rs -s tests/slurm

# Every check runs, and the target fails if one of them did.
lint: .venv/.stamp
	@failed=; \
	check() { echo "lint: $$*"; .venv/bin/python -m "$$@" || failed="$$failed $$1"; }; \
	check ruff check --output-format concise .; \
	check ruff format --check .; \
	check mypy; \
	check snakefmt --check Snakefile workflow/Snakefile workflow/rules; \
	if [ -n "$$failed" ]; then echo "lint: failed:$$failed" >&2; exit 1; fi; \
	echo 'lint: clean'

clean:
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-checkpoints: .venv/.stamp
	@.venv/bin/python -m ssl_bench checkpoints --study '$(STUDY)'

clean-states: .venv/.stamp
	@.venv/bin/python -m ssl_bench states --free --study '$(STUDY)'
