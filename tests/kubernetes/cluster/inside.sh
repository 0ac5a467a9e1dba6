#!/usr/bin/env bash
# The first process in the namespaces that with-cluster.sh makes: starts the cluster, runs the
# command. All other processes end with this one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROGRAMS=$1 DIR=$2 NODES=$3 IMAGES=$4 started=$5 minutes=$6
shift 6
. "$here/lib.sh"

# What containers write to fixed places stays in memory, and goes with the namespace.
mount -t tmpfs tmpfs /run
for directory in /var/lib /var/log; do
  mkdir -p "/run/over$directory" "/run/work$directory"
  mount -t overlay overlay "$directory" \
    -o "lowerdir=$directory,upperdir=/run/over$directory,workdir=/run/work$directory"
done
# The kubelet sets these for the whole machine. It finds them set, in files of ours.
while read -r name value; do
  echo "$value" >"/run/$name"
  mount --bind "/run/$name" "/proc/sys/${name/.//}"
done <<X
vm.overcommit_memory 1
vm.panic_on_oom 0
kernel.panic 10
kernel.panic_on_oops 1
X
# The command resolves names as pods do.
printf 'nameserver %s\nsearch cluster.local svc.cluster.local\noptions ndots:5\n' "$host" >/run/resolv.conf
resolv=$(realpath -m /etc/resolv.conf) # often a link into /run, where nothing is left now
mkdir -p "$(dirname "$resolv")"
[ -e "$resolv" ] || : >"$resolv"
mount --bind /run/resolv.conf "$resolv"

ip link set lo up
"$here/control-plane.sh" "$PROGRAMS" "$DIR"
export KUBECONFIG=$DIR/kubeconfig KONTIKI_CLUSTER=$DIR PATH=$PROGRAMS:$PATH
starting=()
for n in $(seq "$NODES"); do
  # shellcheck disable=SC2086 # a list of paths
  "$here/node.sh" "$PROGRAMS" "$DIR" "$n" $IMAGES &
  starting+=($!)
done
for pid in "${starting[@]}"; do wait "$pid"; done
node_ready() { kubectl get node "node$1" | grep -qw Ready; }
for n in $(seq "$NODES"); do await "kubelet$n" 120 node_ready "$n"; done
dns_ready() { exec 3<>/dev/tcp/127.0.0.1/8181 && printf 'GET /ready HTTP/1.0\r\n\r\n' >&3 && grep -q ' 200 ' <&3; }
await coredns 60 dns_ready
say "$NODES nodes are Ready after $((($(date +%s%N) - started) / 1000000)) ms"

export NODES KONTIKI_PROGRAMS=$PROGRAMS
status=0
timeout --kill-after=20 "${minutes}m" "$@" || status=$?
if [ "$status" != 0 ] && [ -n "${CLUSTER_LOGS:-}" ]; then cp -r "$DIR/logs" "$CLUSTER_LOGS"; fi
exit "$status"
