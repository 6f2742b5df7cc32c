#!/bin/sh
# Create, repair or reuse the environment .venv at the root of the repository.
# It holds what requirements.lock lists and this package in editable form. Nothing is done when lock, pyproject.toml,
# Python and place are those of the last complete set-up; an interrupted one starts again from nothing.
set -eu
cd "$(dirname "$0")/.."
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV || true
venv=.venv
stamp=$venv/.setup

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
    for name in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
        if command -v "$name" >/dev/null 2>&1 && usable "$name"; then
            echo "$name"
            return
        fi
    done
    found=$(python3 --version 2>/dev/null || echo "no python3 at all")
    echo "CQOx needs Python 3.11 or newer, found $found; install one or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
}

create() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        echo "$python has no venv module; on Debian install it with: apt-get install python3-venv" >&2
        exit 1
    fi
    echo "creating $venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
}

works() { usable "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; }

key() {
    "$venv/bin/python" - <<'END'
import hashlib, pathlib, sys

content = b"".join(pathlib.Path(name).read_bytes() for name in ("requirements.lock", "pyproject.toml", "tools/setup.sh"))
print(hashlib.sha256(content + sys.version.encode() + str(pathlib.Path.cwd()).encode()).hexdigest())
END
}

install() {
    echo building >"$stamp"
    echo "installing $(grep -c == requirements.lock) packages of requirements.lock into $venv (a minute or two)"
    "$venv/bin/python" -m pip install -qq --compile --disable-pip-version-check -r requirements.lock || return 1
    "$venv/bin/python" -m pip install -qq --compile --disable-pip-version-check --no-deps -e . || return 1
    "$venv/bin/python" -c 'import cqox_assets, dagster, duckdb, pandas, pyarrow, scipy' || return 1
    "$venv/bin/python" -m compileall -q cqox_assets cqox_resources dagster_deploy || return 1
    key >"$stamp"
}

# One set-up at a time, where the system can lock.
if command -v flock >/dev/null 2>&1; then
    exec 9<requirements.lock
    flock 9
fi
fresh=no
if [ "$(cat "$stamp" 2>/dev/null)" = building ] || ! usable "$venv/bin/python"; then
    create
    fresh=yes
fi
if [ "$(cat "$stamp" 2>/dev/null)" = "$(key)" ]; then exit 0; fi
if ! works; then
    create
    fresh=yes
fi
if install; then exit 0; fi
if [ "$fresh" = no ]; then
    echo "$venv cannot be brought up to date; starting again from nothing"
    create
    if install; then exit 0; fi
fi
echo "the packages of requirements.lock could not be installed, see above; is a package registry reachable for pip?" >&2
exit 1
