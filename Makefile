# SPDX-License-Identifier: MIT
# The one entry: `make` lists the targets. PYTHON chooses the interpreter, VENV where its
# virtual environment goes; PYTEST_ARGS and BENCH_ARGS are passed on.
PYTHON ?= python3
VENV ?= .venv
TAG := $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
BUILD := build/$(TAG)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
# Meson looks for ninja there.
TOOLS := PATH="$(abspath $(BIN)):$$PATH"

# Stamps: what $(VENV) has.
PYTHON_READY := $(VENV)/.python-$(TAG)
HOOP_READY := $(VENV)/.hoop
TESTS_READY := $(VENV)/.tests
LINT_READY := $(VENV)/.lint
BENCH_READY := $(VENV)/.bench

.PHONY: help run test ecosystem bench lint asan clean build
.NOTPARALLEL:
# Ninja would look for the job server of make -j, which recipes don't pass on.
unexport MAKEFLAGS

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

run: build ## build hoop and take the tour of the examples
	$(BIN)/python examples/tour.py

test: build $(TESTS_READY) ## C unit tests, Python tests, CPython's and uvloop's suites
	$(BIN)/python -m pytest $(PYTEST_ARGS)

ecosystem: build ## test suites of httpx and redis-py, on asyncio and on hoop
	tests/interop/install.sh
	$(BIN)/python tests/ecosystem/run.py $(SUITES)

bench: build $(BENCH_READY) ## hoop, asyncio and the peers side by side
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

lint: build $(LINT_READY) ## format, types, stubs, and compiler warnings as errors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find src tests benchmarks/c -name '*.[ch]' | xargs $(BIN)/clang-format --dry-run --Werror
	for version in 3.11 3.12 3.13 3.14; do $(BIN)/mypy --python-version $$version || exit 1; done
	$(BIN)/stubtest hoop --mypy-config-file pyproject.toml \
	    --allowlist tests/typing/stubtest.allowlist --ignore-unused-allowlist
	$(TOOLS) meson setup build/lint-$(TAG) -Dwerror=true -Db_lto=false
	$(TOOLS) ninja -C build/lint-$(TAG) all meson-test-prereq

asan: ## the tests once more under AddressSanitizer and UndefinedBehaviorSanitizer
	bash tests/asan.sh $(PYTHON) $(PYTEST_ARGS)

clean: ## remove what the targets made
	rm -rf build .venv .venv-* benchmarks/_build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -r {} +

# The extension module is rebuilt at import too, but there a compiler error would be hidden.
build: $(HOOP_READY)
	@$(TOOLS) ninja --quiet -C $(BUILD)

# Another Python than last time begins anew; a folder that isn't ours is kept.
$(PYTHON_READY):
	@tools/prerequisites.sh $(PYTHON)
	$(if $(wildcard $(VENV)/.python-*),rm -rf $(VENV))
	$(PYTHON) -m venv $(VENV)
	touch $@

# Editable: Python files are used where they stand.
$(HOOP_READY): pyproject.toml $(PYTHON_READY)
	$(PIP) install 'meson-python>=0.17' 'meson>=1.4' ninja
	$(TOOLS) $(PIP) install --no-build-isolation --editable . -Cbuild-dir=$(BUILD)
	touch $@

$(TESTS_READY): tests/requirements.txt $(HOOP_READY)
	$(PIP) install -r $<
	touch $@

$(LINT_READY): tests/typing/requirements.txt $(HOOP_READY)
	$(PIP) install -r $<
	touch $@

$(BENCH_READY): benchmarks/requirements.txt $(HOOP_READY)
	$(BIN)/python benchmarks/peers.py
	touch $@
