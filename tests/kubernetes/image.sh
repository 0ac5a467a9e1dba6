#!/usr/bin/env bash
# Builds one OCI image with docker, podman or buildah, whichever works here.
#
#   tests/kubernetes/image.sh NAME:TAG CONTEXT [STAGE [ARCHIVE [ARGUMENT=VALUE]]]
#   tests/kubernetes/image.sh --tool                 prints the tool, fails if there is none
#
# With ARCHIVE the image is also written to that file, as `ctr images import` reads it; ARGUMENT is one
# of the Dockerfile's build arguments.
set -euo pipefail

# A docker client without its daemon does not count.
tool() {
  if docker info >/dev/null 2>&1; then echo docker
  elif podman info >/dev/null 2>&1; then echo podman
  elif buildah --version >/dev/null 2>&1; then echo buildah
  else
    echo "image.sh: neither docker (with its daemon), podman nor buildah works here" >&2
    return 1
  fi
}
tool=$(tool)
if [ "${1:-}" = --tool ]; then echo "$tool"; exit; fi

name=${1:?usage: image.sh NAME:TAG CONTEXT [STAGE [ARCHIVE]]} context=$2 stage=${3:-} archive=${4:-}
flags=()
[ -z "$stage" ] || flags+=(--target "$stage")
[ -z "${5:-}" ] || flags+=(--build-arg "$5")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# vfs and chroot: they work without overlay mounts and without namespaces of their own.
buildah_() { buildah --storage-driver vfs "$@"; }
run() { "$@" >>"$log" 2>&1 || { echo "image.sh: '$*' failed:" >&2; tail -n 30 "$log" >&2; exit 1; }; }

case $tool in
  buildah)
    run buildah_ build --isolation chroot --layers=false "${flags[@]}" -t "$name" "$context"
    [ -z "$archive" ] || { rm -f "$archive"; run buildah_ push "$name" "oci-archive:$archive:$name"; }
    ;;
  podman)
    run podman build "${flags[@]}" -t "$name" "$context"
    [ -z "$archive" ] || { rm -f "$archive"; run podman save --format oci-archive -o "$archive" "$name"; }
    ;;
  docker)
    run docker build "${flags[@]}" -t "$name" "$context"
    [ -z "$archive" ] || run docker save -o "$archive" "$name"
    ;;
esac
echo "image.sh: $name built with $tool${archive:+, written to $archive}" >&2
