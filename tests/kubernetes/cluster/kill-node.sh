#!/usr/bin/env bash
# Node N of a test cluster dies: its kubelet, its containerd and all its containers at once, by
# SIGKILL. It is NotReady about 20 s later; node.sh starts it again.
#
#   kill-node.sh DIR N
set -euo pipefail
DIR=$1 n=$2
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ -d "$DIR/node$n" ] || { say "kill-node.sh: there is no node $n in $DIR"; exit 1; }

victims=$(cat "$DIR/run/kubelet$n.pid" "$DIR/run/containerd$n.pid")
# Containers are the children of their shims, which name the node's containerd.
for directory in /proc/[0-9]*; do
  command=$(tr '\0' ' ' <"$directory/cmdline" 2>/dev/null) || continue
  case $command in
    *containerd-shim*"$DIR/node$n/containerd.sock"*)
      shim=${directory#/proc/}
      victims="$victims $shim $(cat /proc/"$shim"/task/*/children 2>/dev/null || true)"
      ;;
  esac
done
# shellcheck disable=SC2086 # a list of process ids
kill -9 $victims 2>/dev/null || true
