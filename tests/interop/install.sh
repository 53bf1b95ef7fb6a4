#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what tests/interop needs besides Python packages: a redis server (the tests start one
# of their own). Does nothing when there is one; otherwise needs apt and the right to install.
set -eu

if command -v redis-server >/dev/null 2>&1; then
    exit 0
fi

as_root=
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
fi
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qy"
if ! { $apt update && $apt install --no-install-recommends redis-server; }; then
    echo "install.sh: redis-server can't be installed; its tests will be skipped" >&2
fi
