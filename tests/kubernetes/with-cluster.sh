#!/usr/bin/env bash
# Runs a command beside a real Kubernetes: control plane, DNS and three nodes (a kubelet with a
# containerd of its own each), all of it in network, mount and process namespaces that end with the
# command. The machine's network is never touched, and nothing is left behind, whether the command
# ends, fails, takes too long or is interrupted.
#
#   tests/kubernetes/with-cluster.sh COMMAND...
#
#   NODES=3                nodes of the cluster, 1 to 9
#   IMAGES="A.tar B.tar"   image archives that every node gets
#   CLUSTER_MINUTES=60     the command is killed after that
#   CLUSTER_LOGS=DIR       if the command fails, the logs of all components are copied there
#   KUBECONFIG             if set, the command runs on that cluster, and none is started
#
# The command finds kubectl, helm and grpcurl in PATH and KUBECONFIG set. On a cluster of our own it also has
# KONTIKI_CLUSTER, the directory of the cluster's state (logs, process ids), and reaches pods and
# Services by their addresses, but not the world. Needs root or sudo; install.sh gets the rest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
NODES=${NODES:-3} IMAGES=${IMAGES:-} CLUSTER_MINUTES=${CLUSTER_MINUTES:-60}
export CLUSTER_LOGS=${CLUSTER_LOGS:-}
say() { echo "with-cluster: $*" >&2; }
[ $# -gt 0 ] || { say "usage: with-cluster.sh COMMAND..."; exit 2; }
[[ $NODES =~ ^[1-9]$ ]] || { say "NODES must be 1 to 9, not '$NODES'"; exit 2; }
[[ $CLUSTER_MINUTES =~ ^[0-9]+([.][0-9]+)?$ ]] ||
  { say "CLUSTER_MINUTES must be a number of minutes, not '$CLUSTER_MINUTES'"; exit 2; }

if [ -n "${KUBECONFIG:-}" ]; then
  programs=$("$here/build.sh" kubectl helm grpcurl)
  say "using the cluster of KUBECONFIG=$KUBECONFIG"
  PATH=$programs:$PATH exec "$@"
fi

if [ "$(id -u)" != 0 ]; then
  say "namespaces and containers need root: asking sudo"
  exec sudo env PATH="$PATH" HOME="$HOME" NODES="$NODES" IMAGES="$IMAGES" \
    CLUSTER_MINUTES="$CLUSTER_MINUTES" CLUSTER_LOGS="$CLUSTER_LOGS" \
    KONTIKI_CACHE="${KONTIKI_CACHE:-}" CI="${CI:-}" TAG="${TAG:-}" "${BASH_SOURCE[0]}" "$@"
fi
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
umask 022
programs=$("$here/build.sh")

# What the cluster leaves outside its namespaces: this directory and the control groups of its name.
remove() { # DIR
  local deadline=$((SECONDS + 20)) groups
  # The kernel ends processes of a dead namespace in its own time.
  while groups=$(find /sys/fs/cgroup -maxdepth 2 -type d -name "$(basename "$1")"); [ -n "$groups" ]; do
    # shellcheck disable=SC2086 # a list of paths
    find $groups -depth -type d -exec rmdir {} + 2>/dev/null || true
    [ $SECONDS -lt $deadline ] || { say "cannot remove control groups: $groups"; break; }
    sleep 0.1
  done
  rm -rf --one-file-system "$1"
}
# Runs that were killed outright could not clean up after themselves: their process id is gone.
base=${TMPDIR:-/tmp}
for old in "$base"/kontiki-cluster.*; do
  owner=${old##*.}
  if [ -d "$old" ] && ! kill -0 "$owner" 2>/dev/null; then
    say "removing what an earlier run left in $old"
    remove "$old"
  fi
done

DIR=$base/kontiki-cluster.$$
mkdir "$DIR" "$DIR/logs" "$DIR/run"
inside=
end() {
  local status=$?
  trap '' INT TERM HUP
  [ -z "$inside" ] || { kill -9 "$inside" 2>/dev/null; wait "$inside" 2>/dev/null; } || true
  remove "$DIR"
  exit $status
}
trap end EXIT
trap 'say "interrupted"; exit 130' INT TERM HUP

# A control group for each node, in the one hierarchy of cgroup v2 (which hands controllers down only
# on request) or in every one of cgroup v1.
group=$(basename "$DIR")
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir "/sys/fs/cgroup/$group"
  for parent in /sys/fs/cgroup "/sys/fs/cgroup/$group"; do
    sed 's/[a-z]*/+&/g' "$parent/cgroup.controllers" >"$parent/cgroup.subtree_control"
  done
  hierarchies=(/sys/fs/cgroup)
else
  mapfile -t hierarchies < <(awk '$3 == "cgroup" {print $2}' /proc/mounts)
fi
for hierarchy in "${hierarchies[@]}"; do
  for n in $(seq "$NODES"); do mkdir -p "$hierarchy/$group/node$n"; done
done

# setpriv and --kill-child: if this script is killed, so is everything in the namespaces.
started=$(date +%s%N)
setpriv --pdeathsig KILL unshare --net --mount --pid --fork --mount-proc --kill-child \
  "$here/cluster/inside.sh" "$programs" "$DIR" "$NODES" "$IMAGES" "$started" "$CLUSTER_MINUTES" "$@" &
inside=$!
status=0
wait "$inside" || status=$?
inside=
[ $status != 124 ] || say "killed after CLUSTER_MINUTES=$CLUSTER_MINUTES"
exit $status
