#!/usr/bin/env bash
# Builds a real kube-apiserver, kube-controller-manager, kubectl and etcd from their Go modules, once,
# into a cache folder outside the clone, and prints that folder. Versions live in the go.mod files beside this script.
# Binaries that the caller already has (KUBEBUILDER_ASSETS, the envtest convention) are used as they are.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs="kube-apiserver kube-controller-manager kubectl etcd"

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi
version=$(sed -nE 's|^.*k8s\.io/kubernetes (v[0-9.]+)( // indirect)?$|\1|p' "$here/kubernetes/go.mod" | head -1)
[ -n "$version" ] || { echo "$here/kubernetes/go.mod names no version of k8s.io/kubernetes" >&2; exit 1; }
minor=$(echo "$version" | cut -d. -f2)
cache="${LETTERLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/letterlock}/kube/$version"
mkdir -p "$cache"

exec 9>"$cache/.lock"
flock 9 # two test runs at once build once
missing=""
for program in $programs; do [ -x "$cache/$program" ] || missing="$missing $program"; done
if [ -z "$missing" ]; then
  echo "$cache"
  exit 0
fi
command -v go >/dev/null || {
  echo "building the Kubernetes test binaries needs Go 1.26 or later on the PATH; or set KUBEBUILDER_ASSETS to a folder with:$missing" >&2
  exit 1
}
echo "building$missing $version into $cache (minutes, once)…" >&2
export CGO_ENABLED=0 GOFLAGS=-mod=readonly GOBIN="$cache/.new"
mkdir -p "$GOBIN"
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
(cd "$here/etcd" && go build -trimpath -ldflags "-s -w" -o "$GOBIN/etcd" go.etcd.io/etcd/server/v3) >&2
for program in kubectl kube-apiserver kube-controller-manager; do
  (cd "$here/kubernetes" && go build -trimpath -ldflags "-s -w $stamp" -o "$GOBIN/$program" "k8s.io/kubernetes/cmd/$program") >&2
done
for program in $programs; do mv "$GOBIN/$program" "$cache/$program"; done
rmdir "$GOBIN"
echo "$cache"
