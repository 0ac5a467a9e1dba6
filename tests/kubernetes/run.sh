#!/usr/bin/env bash
# Runs the Kubernetes tests: installs and builds what they need, starts a cluster (or takes the one of
# KUBECONFIG), runs. `make e2e` calls it once the images are built.
#
#   tests/kubernetes/run.sh IMAGE.tar... [-- ARGUMENT...]     arguments of the tests: --list, or NAMEs
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
images=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  images+=("$(realpath "$1")")
  shift
done
[ $# = 0 ] || shift

"$here/install.sh"
"$here/build.sh" >/dev/null
"$here/clients.sh"

if [ -z "${KUBECONFIG:-}" ]; then
  pause=$(mktemp -d)
  trap 'rm -rf "$pause"' EXIT
  cp "$here/pause/Dockerfile" "$pause"
  gcc -Os -static -s -Wall -Wextra -Werror -o "$pause/pause" "$here/pause/pause.c"
  "$here/image.sh" localhost/kontiki-pause:1 "$pause" "" "$pause/pause.tar"
  images=("$pause/pause.tar" "${images[@]}")
fi

# Built here, and run as a program: inside the cluster's namespaces there is no network for cargo.
cd "$here/../.."
built=$(cargo test --workspace --locked --test kubernetes --no-run 2>&1) || { echo "$built" >&2; exit 1; }
program=$(sed -n 's/^ *Executable .*tests\/kubernetes.*(\(.*\))$/\1/p; s/^ *Executable .*kubernetes\/main.rs (\(.*\))$/\1/p' <<<"$built" | head -n 1)
[ -x "$program" ] || { echo "run.sh: cargo did not say where the tests are:" >&2; echo "$built" >&2; exit 1; }

IMAGES="${images[*]}" "$here/with-cluster.sh" "$(realpath "$program")" "$@"
