#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what tests/interop needs besides Python packages: a redis server.
# Does nothing when there is one; needs apt and the right to install otherwise.
set -eu

if command -v redis-server >/dev/null 2>&1; then
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
fi
export DEBIAN_FRONTEND=noninteractive
# Packages mustn't start a service of their own: the tests start what they need.
if ! { $as_root apt-get update -q && $as_root apt-get install -qy --no-install-recommends redis-server; }; then
    echo "install.sh: redis-server can't be installed; its tests will be skipped" >&2
fi
