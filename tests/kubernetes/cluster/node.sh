#!/usr/bin/env bash
# Starts node N of a test cluster, also after kill-node.sh, and loads images into it.
#
#   node.sh PROGRAMS DIR N [ARCHIVE...]
set -euo pipefail
PROGRAMS=$1 DIR=$2 n=$3
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# A mount namespace for each node: kubelets share the fixed path /var/lib/kubelet/device-plugins
# otherwise, and so a dead node takes its mounts with it.
if [ -z "${IN_NODE:-}" ]; then
  IN_NODE=1 exec unshare --mount -- "$0" "$@"
fi
shift 3
node=$DIR/node$n
mkdir -p "$node"/{containerd,state,kubelet,cni,pods} /var/lib/kubelet
mount -t tmpfs tmpfs /var/lib/kubelet

cat >"$node/cni/10-bridge.conflist" <<X
{"cniVersion": "1.0.0", "name": "node$n", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$node/addresses", "routes": [{"dst": "0.0.0.0/0"}],
     "ranges": [[{"subnet": "10.88.0.0/16", "gateway": "$host",
                  "rangeStart": "10.88.$n.10", "rangeEnd": "10.88.$n.250"}]]}}]}
X
# restrict_oom_score_adj: without CAP_SYS_RESOURCE a negative oom_score_adj is refused, and runc
# then dies with "can't get final child's PID from pipe: EOF".
cat >"$node/containerd.toml" <<X
version = 2
root = "$node/containerd"
state = "$node/state"
[grpc]
  address = "$node/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/kontiki-pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$node/cni"
X
start "containerd$n" containerd -c "$node/containerd.toml"
await "containerd$n" 60 ctr -a "$node/containerd.sock" version
for archive in "$@"; do
  ctr -a "$node/containerd.sock" -n k8s.io images import "$archive" >>"$DIR/logs/images$n.log" 2>&1 ||
    fail "images$n" "node $n cannot load $archive"
done

# failCgroupV1: where cgroup v1 is mounted, kubelet 1.35 refuses to start unless told otherwise.
cat >"$node/kubelet.yaml" <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $host
port: $((10250 + n * 10))
healthzPort: $((10248 + n * 10))
readOnlyPort: 0
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /$(basename "$DIR")/node$n
enforceNodeAllocatable: []
podLogsDir: $node/pods
containerRuntimeEndpoint: unix://$node/containerd.sock
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
clusterDNS: [$host]
clusterDomain: cluster.local
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: 100Mi
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
nodeStatusUpdateFrequency: 4s
X
start "kubelet$n" "$PROGRAMS/kubelet" --config="$node/kubelet.yaml" \
  --kubeconfig="$DIR/kubeconfig" --hostname-override="node$n" --node-ip=$host \
  --root-dir="$node/kubelet" --cert-dir="$node/kubelet/pki"
