#!/bin/bash
# SPDX-License-Identifier: MIT
# Builds hoop with AddressSanitizer and UndefinedBehaviorSanitizer into .venv-asan and runs the
# tests on it. usage: asan.sh PYTHON [PYTEST_ARGUMENT ...]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift

tag=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
venv=$PWD/.venv-asan
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

if [ ! -e "$venv/.python-$tag" ]; then
    tools/prerequisites.sh "$python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
    touch "$venv/.python-$tag"
fi
export PATH="$venv/bin:$PATH"
pip install 'meson-python>=0.17' 'meson>=1.4' ninja -r tests/requirements.txt
# Not editable: a rebuild at import would run the compiler under the preloaded sanitizers.
pip install --no-build-isolation --no-deps --force-reinstall . "-Cbuild-dir=build/asan-$tag" \
    -Csetup-args=-Dbuildtype=debugoptimized -Csetup-args=-Db_lto=false \
    -Csetup-args=-Db_sanitize=address,undefined -Csetup-args=-Db_lundef=false

export HOOP_SANITIZE=address,undefined
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
status=0

echo "=== C tests, leaks are errors ==="
python -m pytest tests/test_core.py || status=1

echo "=== Python tests ==="
# The interpreter itself leaks by design and isn't instrumented: no leak check there.
LD_PRELOAD="$("${CC:-cc}" -print-file-name=libasan.so):$("${CC:-cc}" -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
    python -m pytest --ignore=tests/test_core.py --loop hoop "$@" || status=1
exit "$status"
