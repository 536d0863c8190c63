#!/bin/sh
# Puts sslyze into an environment of its own in the cache folder, once for each lock, and prints the program's path.
# `make test` runs it, and tests/harness/scanners.py.
set -eu
clone=$(cd "$(dirname "$0")/../.." && pwd)
lock="$clone/requirements/sslyze.txt"
version=$(sha256sum "$lock" | cut -c1-12)
cache="${LETTERLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/letterlock}/sslyze"
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9 # two test runs at once build once
if [ ! -e "$cache/$version/.complete" ]; then
    echo "installing sslyze into $cache/$version (once)…" >&2
    "$clone/.ci/uv" venv -q --allow-existing --python 3.13 "$cache/$version" >&2
    "$clone/.ci/uv" pip install -q --python "$cache/$version/bin/python" --require-hashes -r "$lock" >&2
    touch "$cache/$version/.complete"
fi
echo "$cache/$version/bin/sslyze"
