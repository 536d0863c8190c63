#!/usr/bin/env bash
# Builds real Kubernetes programs from their Go modules, once, into a cache folder outside the clone, and prints that
# folder. Versions live in the go.mod files beside this script.
#
#   build.sh        kube-apiserver, kube-controller-manager, kubectl, etcd: an API server without nodes; and helm
#   build.sh node   these, and what runs pods: kubelet, kube-proxy, kube-scheduler, containerd, coredns
#   build.sh oldest kube-apiserver of the oldest Kubernetes whose modules can be had
#
# Binaries that the caller already has (KUBEBUILDER_ASSETS, the envtest convention) are used as they are for the first.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

# What is built from which module: `module program package`.
apiserver="
etcd       etcd                     go.etcd.io/etcd/server/v3
kubernetes kubectl                  k8s.io/kubernetes/cmd/kubectl
kubernetes kube-apiserver           k8s.io/kubernetes/cmd/kube-apiserver
kubernetes kube-controller-manager  k8s.io/kubernetes/cmd/kube-controller-manager
helm       helm                     helm.sh/helm/v3/cmd/helm
"
node="
containerd containerd               github.com/containerd/containerd/v2/cmd/containerd
containerd containerd-shim-runc-v2  github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
containerd ctr                      github.com/containerd/containerd/v2/cmd/ctr
coredns    coredns                  github.com/coredns/coredns
kubernetes kube-scheduler           k8s.io/kubernetes/cmd/kube-scheduler
kubernetes kube-proxy               k8s.io/kubernetes/cmd/kube-proxy
kubernetes kubelet                  k8s.io/kubernetes/cmd/kubelet
"
oldest="
oldest     kube-apiserver           k8s.io/kubernetes/cmd/kube-apiserver
"
wanted=$apiserver
kubernetes=kubernetes
case "${1:-}" in
  node) wanted="$apiserver$node" ;;
  oldest) wanted=$oldest; kubernetes=oldest ;;
  "")
    if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
      echo "$KUBEBUILDER_ASSETS"
      exit 0
    fi
    ;;
  *) echo "usage: build.sh [node|oldest]" >&2; exit 2 ;;
esac

version=$(sed -nE 's|^.*k8s\.io/kubernetes (v[0-9.]+)( // indirect)?$|\1|p' "$here/$kubernetes/go.mod" | head -1)
[ -n "$version" ] || { echo "$here/$kubernetes/go.mod names no version of k8s.io/kubernetes" >&2; exit 1; }
minor=$(echo "$version" | cut -d. -f2)
cache="${LETTERLOCK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/letterlock}/kube/$version"
mkdir -p "$cache"

exec 9>"$cache/.lock"
flock 9 # two test runs at once build once

# Other modules' versions are not in the folder's name: a program whose module has changed is built anew.
missing=""
while read -r module program package; do
  [ -n "$module" ] || continue
  sum=$(sha256sum <"$here/$module/go.mod")
  built=$cache/.$program.sum
  if [ ! -x "$cache/$program" ] || { [ "$module" != "$kubernetes" ] && [ -e "$built" ] && [ "$(cat "$built")" != "$sum" ]; }; then
    missing="$missing $program"
  fi
done <<<"$wanted"
if [ -z "$missing" ]; then
  echo "$cache"
  exit 0
fi
command -v go >/dev/null || {
  echo "building the Kubernetes test binaries needs Go 1.26 or later on the PATH; or set KUBEBUILDER_ASSETS to a folder with:$missing" >&2
  exit 1
}
echo "building$missing ($version) into $cache (minutes, once)…" >&2
export CGO_ENABLED=0 GOFLAGS=-mod=readonly
fresh="$cache/.new"
mkdir -p "$fresh"
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
while read -r module program package; do
  [ -n "$module" ] || continue
  case " $missing " in *" $program "*) ;; *) continue ;; esac
  (cd "$here/$module" && go build -trimpath -ldflags "-s -w $stamp" -o "$fresh/$program" "$package") >&2 </dev/null
  sha256sum <"$here/$module/go.mod" >"$cache/.$program.sum"
  mv "$fresh/$program" "$cache/$program"
done <<<"$wanted"
rmdir "$fresh"
echo "$cache"
