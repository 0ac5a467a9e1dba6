#!/usr/bin/env bash
# Installs from Debian's or Ubuntu's archive what a test cluster needs and this machine lacks.
#
#   tests/kubernetes/install.sh [--list]         --list: only print the missing packages
#
# At a terminal it asks first, unless CI is set.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=()
need() { # PACKAGE COMMAND-OR-FILE
  command -v "$2" >/dev/null || missing+=("$1")
}
need prometheus prometheus
need prometheus promtool
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
if [ -z "${KUBECONFIG:-}" ]; then # a cluster of our own
  need containerd containerd
  need runc runc
  need containernetworking-plugins /usr/lib/cni/bridge
  need iproute2 ip
  need nftables nft
  need iptables iptables
  need openssl openssl
  need gcc gcc
  "$here/image.sh" --tool >/dev/null 2>&1 || missing+=(buildah)
fi

mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u | sed '/^$/d')
if [ "${1:-}" = --list ]; then
  echo "${missing[*]}"
  exit
fi
[ ${#missing[@]} -gt 0 ] || exit 0

echo "install.sh: this machine lacks: ${missing[*]} (apt-get install, as root)" >&2
if [ -t 0 ] && [ -z "${CI:-}" ]; then
  read -rp "Install them? [y/N] " answer
  [[ $answer == [yY]* ]] || { echo "install.sh: not installed" >&2; exit 1; }
fi
command -v apt-get >/dev/null || {
  echo "install.sh: there is no apt-get here; install the programs of these packages" >&2
  exit 1
}
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() {
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" \
    >>"$log" 2>&1
}
run install -y --no-install-recommends "${missing[@]}" ||
  { run update && run install -y --no-install-recommends "${missing[@]}"; } ||
  { echo "install.sh: apt-get failed:" >&2; tail -n 30 "$log" >&2; exit 1; }
