# Sourced by the commands of the README (examples/run, tests/run): sets $root (the checkout), $venv (an environment that has the
# package installed from it) and $python (that environment's interpreter), after making what is missing.
#
#   PYTHON        interpreter to make the environment of; default: python3
#   ISOLATE_VENV  a ready environment, used as it is: nothing is checked, made or installed
#
# What it cannot make it names, with the command that installs it. Without a network pip's own variables help (PIP_NO_INDEX,
# PIP_FIND_LINKS), or an environment made before: one that is up to date is used again, without asking any network.

fail() {
    echo "$0: $1" >&2
    exit 1
}

# What decides whether the package has to be built again. Python modules do not: the installation is editable.
fingerprint() {
    (cd "$root" && cat pyproject.toml setup.py pytest_isolate/linux/_native/*.py pytest_isolate/linux/_native/*.[ch]; "$base" -VV; echo "$root") |
        cksum | tr ' ' -
}

# An environment that is up to date, and whose interpreter this user can run.
ready() {
    [ "$(cat "$1/fingerprint" 2>/dev/null)" = "$now" ] && [ -x "$root/pytest_isolate/linux/_native/builder" ] &&
        "$1/bin/python" -c 'import pytest_isolate.linux._native._core, xdist' 2>/dev/null
}

check_host() {
    missing=
    "$base" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    compiler=${CC:-$("$base" -c 'import sysconfig; print(sysconfig.get_config_var("CC") or "cc")')}
    command -v "${compiler%% *}" >/dev/null || missing="$missing gcc"
    header=$("$base" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
    [ -e "$header" ] || missing="$missing python3-dev"
    [ -z "$missing" ] && return
    sudo=; [ "$(id -u)" = 0 ] || sudo='sudo '
    fail "some packages of the system are needed first (Debian, Ubuntu):

    ${sudo}apt-get install$missing
"
}

make_venv() {
    echo "Setting up $1 (once; later runs use it again) ..." >&2
    check_host
    "$base" -m venv --clear "$1" || fail "cannot make the environment $1"
    # -qq: warnings of pip about its own configuration are not the newcomer's affair; errors still show.
    "$1/bin/python" -m pip install -qq --disable-pip-version-check --no-input -e "$root[test]" ||
        fail "pip could not install the package, see above. Without a network: set PIP_NO_INDEX=1 and PIP_FIND_LINKS to a folder
of wheels, or ISOLATE_VENV to an environment that has pytest-isolate-ns, pytest-timeout and pytest-xdist."
    echo "$now" >"$1/fingerprint"
}

# Tests start pytest some thousand times; to compile the package at each start takes a third of their time.
unset PYTHONDONTWRITEBYTECODE
root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
if [ -n "${ISOLATE_VENV:-}" ]; then
    venv=$ISOLATE_VENV
else
    base=$(command -v "${PYTHON:-python3}") || fail "no ${PYTHON:-python3} found. On Debian and Ubuntu: apt-get install python3"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$base is too old: Python 3.10 or newer is needed
(Debian 12, Ubuntu 22.04). PYTHON names another interpreter."
    now=$(fingerprint)
    venv=$root/.venv-run
    if ! ready "$venv"; then
        if [ ! -w "$root" ]; then
            # Somebody else's checkout: work on a copy, as the compiled parts are placed beside the sources.
            copy=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/pytest-isolate-ns/$(echo "$root" | cksum | cut -d' ' -f1)
            mkdir -p "$copy" && (cd "$root" && tar -c --exclude=.git --exclude='.venv*' .) | tar -xm -C "$copy" ||
                fail "cannot copy $root to $copy"
            root=$copy
            now=$(fingerprint)
            venv=$root/.venv-run
        fi
        ready "$venv" || make_venv "$venv"
    fi
fi
python=$venv/bin/python
