#!/usr/bin/env bash
# Builds the programs of a real Kubernetes from pinned Go modules (tools/*/go.mod), and prints the
# directory where they are:
#
#   tests/kubernetes/build.sh [NAME...]          default: all of them
#
# The directory is kubernetes-VERSION below $KONTIKI_CACHE (default ~/.cache/kontiki-tests), outside
# the checkout. What is there already is not built again: after changing a version in go.mod other
# than that of Kubernetes, remove the program. About 12 minutes on 2 cores when nothing is cached.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all="etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl coredns helm grpcurl"

say() { echo "build.sh: $*" >&2; }
command -v go >/dev/null || { say "'go' is not in PATH; install Go 1.26 or later"; exit 1; }

version=$(cd "$here/tools/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
programs=${KONTIKI_CACHE:-$HOME/.cache/kontiki-tests}/kubernetes-${version#v}
mkdir -p "$programs"

# Without these the API server calls itself v0.0.0, and clients refuse it.
IFS=. read -r major minor _ <<<"${version#v}"
stamp=
for variable in "gitVersion=$version" "gitMajor=$major" "gitMinor=$minor" gitTreeState=clean; do
  stamp="$stamp -X k8s.io/component-base/version.$variable"
done

# Prints the module directory and the package of a program.
source_of() {
  case $1 in
    etcd) echo kubernetes go.etcd.io/etcd/server/v3 ;;
    kube-* | kubelet | kubectl) echo kubernetes "k8s.io/kubernetes/cmd/$1" ;;
    coredns) echo coredns . ;;
    helm) echo helm helm.sh/helm/v4/cmd/helm ;;
    grpcurl) echo grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl ;;
    *) say "'$1' is none of: $all"; return 1 ;;
  esac
}

for name in ${*:-$all}; do
  read -r module package <<<"$(source_of "$name")"
  [ -n "${package:-}" ] || exit 1
  [ -x "$programs/$name" ] && continue
  (
    flock 9
    [ -x "$programs/$name" ] && exit 0 # another run has built it meanwhile
    say "$name ..."
    started=$SECONDS
    cd "$here/tools/$module"
    # To another name first: an interrupted build must not pass for a finished one.
    CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags "-s -w $stamp" \
      -o "$programs/.$name.new" "$package" >&2
    mv "$programs/.$name.new" "$programs/$name"
    say "$name built in $((SECONDS - started)) s"
  ) 9>"$programs/.lock"
done
echo "$programs"
