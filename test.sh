#!/bin/bash
# Everything that the tests need, then the tests.
#
#   sudo ./test.sh                    all of them
#   ./test.sh unit                    those that need no root
#   sudo ./test.sh system -k reboot   booted Debian systems; what follows goes to pytest
#   sudo ./test.sh browser --suite trixie
#   sudo ./test.sh vm                 what needs a virtual machine; not among "all of them"
#
# What is made (a Python environment, systems to boot, the packages) is kept in
# ~/.cache/jupyter-remote, so that the next time takes less. That directory may be removed.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '\e[1m== %s\e[0m\n' "$*" >&2; }
fail() { printf 'test.sh: %s\n' "$*" >&2; exit 64; }

what=all
case "${1:-}" in
    unit | system | browser | vm) what=$1; shift ;;
    -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p}' "$0"; exit ;;
    "" | -*) ;;
    *) fail "'$1' is none of: unit system browser vm (see ./test.sh --help)" ;;
esac
[ "$what" = unit ] || [ "$(id -u)" = 0 ] || fail "booting systems needs root: sudo ./test.sh (or ./test.sh unit)"

install_missing() { # PACKAGE...
    [ "$(id -u)" = 0 ] || fail "missing on this machine: sudo apt-get install $*"
    say "installing $*"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq install --yes --no-install-recommends "$@" >/dev/null 2>&1 ||
        { apt-get -qq update && apt-get -qq install --yes --no-install-recommends "$@" >/dev/null; }
}

python=$(command -v python3) || { install_missing python3; python=$(command -v python3); }
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed to run the tests; this is $("$python" --version)"
"$python" -c 'import ensurepip, venv' 2>/dev/null || install_missing python3-venv
command -v openssl >/dev/null || install_missing openssl

cache=${JUPYTER_REMOTE_CACHE:-$HOME/.cache/jupyter-remote}
needed=(requirements/server.txt requirements/kernel.txt requirements/tests.txt)
key=$({ "$python" -c 'import sys; print(sys.version, sys.executable)'; cat "${needed[@]}"; } | sha256sum | cut -c1-12)
venv=$cache/test-venv-$key
mkdir -p "$cache"
(
    flock 9
    if [ ! -e "$venv/ready" ]; then
        say "making the Python environment of the tests"
        rm -rf "$cache"/test-venv-*
        "$python" -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
            "${needed[@]/#/--requirement=}"
        touch "$venv/ready"
    fi
) 9>"$cache/test-venv.lock"

# A unit test may start our own programs.
export PATH="$venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1

run_pytest() { "$venv/bin/python" -m pytest "$@"; }

# Real browsers and booting machines on a busy computer: one of 1600 tests may lose a race. It has to pass when it is
# run once more, one test at a time, and is named at the end. That is a race to look for: two in three of them were in
# what is tested.
at_most=3
run_all() { # PYTEST-ARGUMENT...
    local result=0 failed list=.pytest_cache/v/cache/lastfailed
    rm -f "$list"
    run_pytest -n "${JUPYTER_REMOTE_TEST_WORKERS:-$(($(nproc) + 1))}" --dist worksteal "$@" || result=$?
    [ "$result" = 1 ] || return "$result"
    failed=$("$venv/bin/python" -c 'import json; print(*json.load(open("'"$list"'")), sep="\n")')
    [ "$(wc -l <<<"$failed")" -le "$at_most" ] || return 1
    say "once more, one at a time: what has failed"
    run_pytest --last-failed --last-failed-no-failures none "$@" || return 1
    say "passed only the second time:"
    printf '%s\n' "$failed" >&2
}

case $what in
    unit) run_pytest tests/unit "$@" ;;
    vm)
        say "making ready what the tests boot: a virtual machine"
        "$venv/bin/python" tests/prepare.py --vm "$@"
        run_pytest tests/vm "$@"
        ;;
    *)
        say "making ready what the tests boot: systems and packages"
        "$venv/bin/python" tests/prepare.py "$@"
        tests=(tests --ignore=tests/vm)
        [ "$what" = all ] || tests=("tests/$what")
        for argument; do
            # named files or tests instead of all of them
            [ ! -e "${argument%%::*}" ] || tests=()
        done
        # One more than there are cores: what boots and is installed also waits.
        run_all ${tests[@]+"${tests[@]}"} "$@"
        ;;
esac
