#!/usr/bin/env bash
# Installs from Debian's or Ubuntu's archive what a test cluster needs and this machine lacks.
#
#   tests/kubernetes/install.sh [--list]         --list: only print the missing packages
#
# At a terminal it asks first, unless CI is set (../install.sh).
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
exec "$here/../install.sh" "${missing[@]}"
