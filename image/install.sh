#!/bin/sh
# Installs in the image's build stages: `dependencies` into a virtual environment, then the `program` into a folder that
# this environment sees too. Wheels come from /wheels where there are any, else from pip's index.
set -eu
target=/opt/dependencies
program=/opt/letterlock
for wheel in /wheels/*.whl; do
    [ -e "$wheel" ] && export PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
    break
done
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
# A base without pip has it from the wheels: a wheel is a zip archive that Python runs as it is.
pip() {
    if python3 -m pip --version >/dev/null 2>&1; then
        python3 -m pip --python $target "$@"
    else
        python3 "$(echo /wheels/pip-*.whl)/pip" --python $target "$@"
    fi
}

case "$1" in
dependencies)
    # Nothing of pip stays in it.
    python3 -m venv --without-pip $target
    echo $program >"$(echo $target/lib/python3*/site-packages)/letterlock.pth"
    pip install --quiet --require-hashes --only-binary :all: -r requirements/runtime.txt
    # Tests of others, and what only compilers read.
    find $target -depth \( -name tests -o -name test \) -type d -path '*/site-packages/*' -exec rm -rf {} +
    # The half of the Kubernetes client that is never imported here: 55 MB.
    rm -rf $target/lib/python3*/site-packages/kubernetes/aio
    find $target \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.pyi' \) -type f -delete
    ;;
program)
    pip install --quiet --no-deps --target $program .
    # What it is made of, for those who ask which versions run where: CycloneDX.
    $target/bin/python image/sbom.py >$program/sbom.cdx.json
    ;;
esac
