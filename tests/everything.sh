#!/bin/sh
# Runs pytest with what it is given; without arguments: all tests. `make test` runs it.
# Where this machine allows it, the tests get processes of their own (what one leaves behind ends with the run), and
# run two files at a time, each half with a network of its own (tests/conftest.py): its ports never meet those of the
# other, nor what else runs here. Elsewhere they run one after the other, as with plain pytest.
set -eu
cd "$(dirname "$0")/.."
pytest=.venv/bin/pytest
# Hundreds of programs are started: none of them shall compile what it imports.
.venv/bin/python -m compileall -q crds operator gateway cli tests

if ! unshare -n -p -f --mount-proc ip link set lo up 2>/dev/null; then
    echo "No namespaces here (they take root, and ip): the tests run one after the other." >&2
    exec $pytest "$@"
fi
# A shell of its own comes first: as process 1 it collects the processes that others leave behind.
# The files in their order, those with many cases (pure ones) not first.
# shellcheck disable=SC2016 # expanded by that shell
unshare -p -f --kill-child --mount-proc sh -c '"$@"; exit $?' sh \
    $pytest -n 2 --dist loadfile --no-loadscope-reorder "$@" &
all=$!
trap 'kill -KILL $all; exit 143' INT TERM HUP
wait $all
