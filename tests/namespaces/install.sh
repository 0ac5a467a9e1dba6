#!/usr/bin/env bash
# Installs what the tests in namespaces call and this machine lacks.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

missing=()
need() { # PACKAGE COMMAND
  command -v "$2" >/dev/null || missing+=("$1")
}
need util-linux unshare
need util-linux nsenter
need iproute2 ip
need iproute2 tc
need nftables nft
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u | sed '/^$/d')
exec "$here/../install.sh" "${missing[@]}"
