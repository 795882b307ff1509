# Sourced by scripts/demo and scripts/test: `setup_env EXTRA` makes .venv ready, in no time if nothing changed.
# Sets ROOT (the repository) and VENV_PYTHON. Works with the bash of macOS (3.2).

export FIFTYONE_DO_NOT_TRACK=true
# ensure_mongod.py brings MongoDB 6 where FiftyOne has none, and FiftyOne would remark on its age at every start.
export FIFTYONE_DATABASE_VALIDATION="${FIFTYONE_DATABASE_VALIDATION:-false}"
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV_PYTHON="$ROOT/.venv/bin/python"

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

suits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Print $PYTHON if it is set, else the first interpreter that suits, one with the venv module if there is any.
find_python() {
    local candidate second=""
    if [ -n "${PYTHON:-}" ]; then suits "$PYTHON" && echo "$PYTHON"; return; fi
    for candidate in python3 python3.12 python3.13 python3.11 python3.10; do
        suits "$candidate" || continue
        if has_venv "$candidate"; then echo "$candidate"; return; fi
        second="${second:-$candidate}"
    done
    [ -n "$second" ] || return 1
    echo "$second"
}

make_venv() {
    local python version
    python="$(find_python)" || die "Python 3.10 to 3.13 is needed, found $("${PYTHON:-python3}" --version 2>/dev/null || echo "no ${PYTHON:-python3}")." \
        "Install one, or name it: PYTHON=/path/to/python3.12 $0"
    version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    say "creating .venv with Python $version"
    if has_venv "$python"; then
        "$python" -m venv "$ROOT/.venv"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv -q "$ROOT/.venv"
    elif command -v virtualenv >/dev/null 2>&1; then
        virtualenv -q -p "$python" "$ROOT/.venv"
    else
        die "Python $version has no venv module. On Debian or Ubuntu: sudo apt-get install python$version-venv"
    fi
}

# Install the project, editable, with one extra. A stamp holds what was installed, so that a second run has no work.
install_extra() {
    local stamp="$ROOT/.venv/.installed-$1" wanted
    wanted="$ROOT $1 $(cksum < "$ROOT/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "installing mobilesam[$1] into .venv (the first time takes minutes)"
    "$VENV_PYTHON" -m pip install -q --disable-pip-version-check -e "$ROOT[$1]" || die "pip failed, see above."
    printf '%s\n' "$wanted" > "$stamp"
}

setup_env() {
    if [ ! -e "$ROOT/.venv" ]; then make_venv; fi
    if ! suits "$VENV_PYTHON" || ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
        die "$ROOT/.venv has no working Python 3.10 to 3.13 with pip. Remove it and run this again."
    fi
    install_extra "$1"
    "$VENV_PYTHON" "$ROOT/scripts/ensure_mongod.py" || exit 1
}

# The tests of the App drive Chromium, some make videos. As root on Debian both are installed, elsewhere those tests say
# what is missing.
ensure_programs() {
    if command -v chromedriver >/dev/null 2>&1 && command -v ffmpeg >/dev/null 2>&1; then return; fi
    if [ "$(id -u)" = 0 ] && apt-cache show chromium-driver >/dev/null 2>&1; then
        say "installing chromium and ffmpeg for some of the tests"
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver ffmpeg >/dev/null 2>&1 && return
    fi
    say "some tests are skipped. To run them: apt-get install chromium chromium-driver ffmpeg"
}
