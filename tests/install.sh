#!/usr/bin/env bash
# Installs packages from Debian's or Ubuntu's archive; nothing, if none is named.
#
#   tests/install.sh PACKAGE...
#
# At a terminal it asks first, unless CI is set.
set -euo pipefail

[ $# -gt 0 ] || exit 0

missing=("$@")
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
