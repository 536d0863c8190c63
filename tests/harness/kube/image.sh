#!/usr/bin/env bash
# Builds the images that the tests' clusters run, without any registry of images, and prints their archives, one a line:
# ours (letterlock:tests) and pause. Kept in the cache by content: what has not changed is not built again.
# The base is Debian's Python 3.13, made by mmdebstrap; wheels come the way that pip is set up on this machine.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache="${LETTERLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/letterlock}/images"
mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9
work=$(mktemp -d "$cache/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Layers are kept beside the images. Where overlays cannot be mounted (in some containers), every layer is a whole copy.
mkdir "$work/lower" "$work/upper" "$work/scratch" "$work/merged"
driver=vfs
if mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/scratch" "$work/merged" 2>/dev/null; then
  umount "$work/merged"
  driver=overlay
fi
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=$driver TMPDIR="$work"
buildah() { command buildah --root "$cache/storage-$driver" --runroot "$work/run" "$@"; }
digest() { sha256sum | cut -c1-16; }

packages=python3,ca-certificates
base="$cache/base-$(echo "trixie $packages" | digest).tar"
if [ ! -e "$base" ]; then
  echo "making the base of the test image (a minute, once)…" >&2
  mmdebstrap --quiet --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    trixie "$work/base.tar" >&2
  mv "$work/base.tar" "$base"
fi

wheels="$cache/wheels-$(digest <"$root/requirements/runtime.txt")"
if [ ! -d "$wheels" ]; then
  echo "fetching wheels for the test image…" >&2
  fetch() {
    python3 -m pip download --quiet --disable-pip-version-check --only-binary :all: --implementation cp \
      --python-version 3.13 --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
      --platform manylinux_2_26_x86_64 --platform any --dest "$work/wheels" "$@" >&2
  }
  fetch --no-deps --require-hashes -r "$root/requirements/runtime.txt"
  fetch pip "$(sed -nE 's/^requires = \["(.*)"\]$/\1/p' "$root/pyproject.toml")"
  mv "$work/wheels" "$wheels"
fi

version=$(sed -nE 's/^version = "(.*)"$/\1/p' "$root/pyproject.toml")
# What the Dockerfile copies, as it is here.
content=$(cd "$root" && find Dockerfile .dockerignore README.md LICENSE pyproject.toml requirements/runtime.txt image \
  crds/letterlock_api operator/letterlock_operator gateway/letterlock_gateway cli/letterlock_cli \
  -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; sha256sum "$here/image.sh" "$base" </dev/null)
ours="$cache/letterlock-$(echo "$content" | digest).tar"
if [ ! -e "$ours" ]; then
  echo "building the image…" >&2
  mkdir "$work/context"
  (cd "$root" && tar -c --exclude=__pycache__ Dockerfile .dockerignore README.md LICENSE pyproject.toml requirements/runtime.txt image \
    crds/letterlock_api operator/letterlock_operator gateway/letterlock_gateway cli/letterlock_cli) | tar -x -C "$work/context"
  mkdir -p "$work/context/build"
  cp -a "$wheels" "$work/context/build/wheels"
  name=letterlock-base:$(basename "$base" .tar)
  if ! buildah inspect --type image "localhost/$name" >/dev/null 2>&1; then
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$base" / >/dev/null
    buildah commit --quiet "$container" "$name" >/dev/null
    buildah rm "$container" >/dev/null
  fi
  buildah bud --quiet --layers --build-arg BASE="localhost/$name" --build-arg VERSION="$version" \
    -t letterlock:tests "$work/context" >&2
  buildah push --quiet localhost/letterlock:tests "docker-archive:$ours.new:docker.io/library/letterlock:tests" >&2
  mv "$ours.new" "$ours"
  # Those of earlier contents are of no use to anybody; the newest few may be another clone's.
  ls -t "$cache"/letterlock-*.tar | tail -n +7 | xargs -r rm -f
  buildah rmi --prune >/dev/null 2>&1 || true
fi
echo "$ours"

pause="$cache/pause-$(digest <"$here/pause/main.go").tar"
if [ ! -e "$pause" ]; then
  (cd "$here/pause" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$work/pause" main.go) >&2
  container=$(buildah from scratch)
  buildah add --quiet "$container" "$work/pause" /pause >/dev/null
  buildah config --entrypoint '["/pause"]' --user 65535:65535 "$container"
  buildah commit --quiet "$container" pause:tests >/dev/null
  buildah push --quiet localhost/pause:tests "docker-archive:$pause.new:docker.io/library/pause:tests" >&2
  mv "$pause.new" "$pause"
fi
echo "$pause"
