#!/usr/bin/env bash
# Makes .venv and installs what `make run` (argument: run) or `make test` (argument: dev) needs.
# Does nothing, quickly, when that is already there. Every failure ends in one sentence that says
# what to do.
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-run}
# The CPU build of torch and everything else unpack to about 2 GB; pip needs room beside them.
need_mb=4000
log=var/bootstrap.log

die() { printf '\n%s\n' "$*" >&2; exit 1; }
say() { printf '%s\n' "$*"; }

# ---- system packages ------------------------------------------------------------------------

missing=()
# Reading to the end: a grep that leaves early would make the pipe, hence the search, fail.
find_library() { { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep "$1" >/dev/null; }
find_library libOSMesa || missing+=(libosmesa6) # MuJoCo renders without a screen

if [ "$what" = dev ]; then
    command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
    command -v node >/dev/null || missing+=(nodejs)
    command -v xgettext >/dev/null || missing+=(gettext)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
fi

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3.11 /usr/bin/python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || [ -x .venv/bin/python ] || die "Python 3.11 was not found:" \
    "install it (Debian 12: apt-get install python3.11 python3.11-venv)," \
    "or name it: make $what PYTHON=/path/to/python3.11"
if [ ! -x .venv/bin/python ] && ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    missing+=(python3.11-venv)
fi

if [ ${#missing[@]} -gt 0 ]; then
    line="apt-get install -y --no-install-recommends ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        die "These Debian packages, or your system's equivalents, are missing: ${missing[*]}"
    elif [ "$(id -u)" != 0 ]; then
        die "System packages are missing. Run this, then the same make again:  sudo $line"
    fi
    say "Installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    $line >/dev/null 2>&1 || { apt-get update -qq && $line >/dev/null; } ||
        die "apt-get could not install ${missing[*]}: check the network, then run: $line"
fi

# ---- Python packages ------------------------------------------------------------------------

files=(requirements.txt requirements-robot.txt)
[ "$what" = dev ] && files+=(requirements-dev.txt)
stamp=.venv/.installed-$what-$(cat "${files[@]}" | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0

mkdir -p var
free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
[ "$free_mb" -ge "$need_mb" ] || die "The disk of $PWD has $free_mb MB left and the installation" \
    "needs $need_mb: free some space, or clone to a larger disk."

# Without compiling: importing compiles what is used, which is a small part of what is installed.
# pip's own message is kept in the log; the sentence says what to do about the usual causes.
pip_install() {
    if ! .venv/bin/python -m pip install -qq --no-compile --disable-pip-version-check "$@" 2>&1 |
        tee -a "$log"; then
        if grep -qi 'no space left' "$log"; then
            die "The disk ran full during the installation: free $need_mb MB and run the same again."
        elif grep -qiE 'name resolution|connection (broken|refused|timed out)|network is unreach|ReadTimeout|ProxyError' "$log"; then
            die "Python packages could not be downloaded: check the network (or pip's index," \
                "PIP_INDEX_URL, and proxy settings) and run the same again."
        fi
        die "pip could not install $*: the reason is above and in $log."
    fi
}

: >"$log"
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv >>"$log" 2>&1 ||
        die "$python could not make .venv: the reason is in $log."
fi
say "Installing Python packages (once, a few minutes)"
# torch first and by itself: what comes later then finds it installed and pulls no other build.
pip_install "$(grep -oE '^torch==[^ ]+' requirements.txt)"
requirements=()
for file in "${files[@]}"; do requirements+=(-r "$file"); done
pip_install "${requirements[@]}"
rm -f .venv/.installed-"$what"-*
touch "$stamp"
