#!/bin/sh
# SPDX-License-Identifier: MIT
# Says what this machine lacks to build hoop, and the Debian packages that bring it.
# usage: prerequisites.sh PYTHON; exits with 1 if anything is missing.
python=$1
missing=0

lacks() { # WHAT PACKAGE
    echo "hoop needs $1; on Debian and Ubuntu: apt install $2" >&2
    missing=1
}

if ! command -v "${CC:-cc}" >/dev/null; then
    lacks "a C compiler (${CC:-cc})" gcc
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "hoop needs Python 3.11 or later, and '$python' isn't one: choose with PYTHON=..." >&2
    exit 1
fi
name=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    lacks "Python's modules venv and ensurepip" "$name-venv"
fi
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
if [ ! -f "$include/Python.h" ]; then
    lacks "Python's header files ($include/Python.h)" "$name-dev"
fi
exit "$missing"
