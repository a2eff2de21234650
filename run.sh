#!/usr/bin/env bash
# The one door to the project: sets up .venv beside this file, then runs an experiment or the tests.
#
#   ./run.sh                                 the demo: drawn portraits, two networks, a scored submission
#   ./run.sh FILE.yaml [--set key.sub=value] any experiment; a second run skips what is done
#   ./run.sh FILE.yaml --dry-run             what would run, and why
#   ./run.sh setup                           the set-up alone
#   ./run.sh test [PYTEST ARGUMENTS]         the set-up, the linter and the tests
set -euo pipefail

project="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
venv="$project/.venv"
export PYTHONPATH="$project"

say() { printf '%s\n' "run.sh: $*" >&2; }

trap 'say interrupted; exit 130' INT
if [[ "$project" == *:* ]]; then
    say "Python imports nothing from a folder with ':' in its path: rename $project"
    exit 1
fi

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    say "needs Python 3.11 or newer; found ${PYTHON:-$(python3 --version 2>&1 || true)}. Install one, or name it: PYTHON=/path/to/python3 ./run.sh"
    exit 1
}

setup() {
    local python stamp="$venv/requirements.installed"
    if [[ -x "$venv/bin/python" ]] && cmp -s "$project/requirements.txt" "$stamp"; then
        return
    fi
    # A set-up that was cut off may have left a Python without pip.
    if ! "$venv/bin/python" -P -m pip --version >/dev/null 2>&1; then
        python="$(find_python)"
        say "creating $venv with $("$python" --version)"
        "$python" -P -m venv --clear "$venv" || { say "cannot create $venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
    fi
    say "installing requirements.txt (a few minutes the first time)"
    rm -f "$stamp"
    "$venv/bin/python" -P -m pip install -qq --disable-pip-version-check --no-compile -r "$project/requirements.txt"
    # pip compiles on one core; this uses all, and works where Python itself is told not to write bytecode.
    "$venv/bin/python" -P -m compileall -q -j 0 "$venv/lib" >/dev/null 2>&1 || true
    cp "$project/requirements.txt" "$stamp"
    say "set up"
}

case "${1:-}" in
    -h | --help)
        sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        ;;
    setup)
        setup
        ;;
    test)
        shift
        setup
        cd "$project"
        "$venv/bin/ruff" check .
        "$venv/bin/ruff" format --check .
        # Two at once, each file as a whole since its tests share what took long to make; -n 0 for one after the other.
        # In the order of their names, so that the longest, of clusters and faults, do not come last.
        OMP_NUM_THREADS=1 exec "$venv/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
        ;;
    *)
        setup
        if [[ $# -eq 0 || "$1" == -* ]]; then
            set -- "$project/pipeline/experiments/demo.yaml" "$@"
        fi
        trap - INT
        # Python starts with a traceback if it is interrupted before it has read a line; the pipeline takes it up then.
        later=(env --block-signal=INT)
        "${later[@]}" true 2>/dev/null || later=()
        exec ${later[@]+"${later[@]}"} "$venv/bin/python" -P -m pipeline run --experiment "$@"
        ;;
esac
