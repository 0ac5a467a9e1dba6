#!/usr/bin/env bash
# Starts etcd, API server, controllers, scheduler, kube-proxy and DNS of a test cluster as plain
# processes. with-cluster.sh calls it inside the cluster's namespaces: every port is its own there.
#
#   control-plane.sh PROGRAMS DIR
set -euo pipefail
PROGRAMS=$1 DIR=$2
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$DIR"
mkdir -p pki

# --- keys ---
openssl ecparam -name prime256v1 -genkey -noout -out pki/ca.key
openssl req -x509 -new -key pki/ca.key -days 30 -subj /CN=kontiki-test -out pki/ca.crt
openssl ecparam -name prime256v1 -genkey -noout -out pki/api.key
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
echo "subjectAltName=$names,IP:127.0.0.1,IP:10.96.0.1,IP:$host" >pki/api.extensions
openssl req -new -key pki/api.key -subj /CN=kube-apiserver |
  openssl x509 -req -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -days 30 \
    -extfile pki/api.extensions -out pki/api.crt 2>/dev/null
openssl genrsa -out pki/accounts.key 2048 2>/dev/null
token=$(openssl rand -hex 16)
echo "$token,admin,admin,\"system:masters\"" >pki/tokens.csv
cat >kubeconfig <<X
apiVersion: v1
kind: Config
clusters:
  - name: kontiki-test
    cluster: {server: "https://127.0.0.1:6443", certificate-authority: $DIR/pki/ca.crt}
users:
  - name: admin
    user: {token: $token}
contexts:
  - name: kontiki-test
    context: {cluster: kontiki-test, user: admin}
current-context: kontiki-test
X
export KUBECONFIG=$DIR/kubeconfig

# --- network: one bridge for the pods of all nodes ---
ip link add cni0 type bridge
ip address add $host/16 dev cni0
ip link set cni0 up
echo 1 >/proc/sys/net/ipv4/ip_forward

# --- processes ---
start etcd "$PROGRAMS/etcd" --data-dir "$DIR/etcd" --unsafe-no-fsync \
  --listen-peer-urls http://127.0.0.1:2380 --listen-client-urls http://127.0.0.1:2379 \
  --advertise-client-urls http://127.0.0.1:2379
# The preferred address: `kubectl logs` and `exec` go through the kubelet's address, not its name.
start kube-apiserver "$PROGRAMS/kube-apiserver" \
  --etcd-servers=http://127.0.0.1:2379 --advertise-address=$host --secure-port=6443 \
  --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=Node,RBAC --allow-privileged=true \
  --tls-cert-file=pki/api.crt --tls-private-key-file=pki/api.key --client-ca-file=pki/ca.crt \
  --token-auth-file=pki/tokens.csv --kubelet-preferred-address-types=InternalIP \
  --service-account-key-file=pki/accounts.key --service-account-signing-key-file=pki/accounts.key \
  --service-account-issuer=https://kubernetes.default.svc
await kube-apiserver 120 "$PROGRAMS/kubectl" get --raw /readyz
start kube-controller-manager "$PROGRAMS/kube-controller-manager" --kubeconfig=kubeconfig \
  --leader-elect=false --use-service-account-credentials=true --root-ca-file=pki/ca.crt \
  --service-account-private-key-file=pki/accounts.key --node-monitor-grace-period=20s
start kube-scheduler "$PROGRAMS/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false
# masqueradeAll: all pods are on one bridge, so a pod would answer another behind a Service directly,
# past the translation of its address. conntrack: its limits belong to the whole machine.
cat >proxy.yaml <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $DIR/kubeconfig}
mode: nftables
nftables: {masqueradeAll: true}
clusterCIDR: 10.88.0.0/16
hostnameOverride: node1
conntrack: {maxPerCore: 0}
X
start kube-proxy "$PROGRAMS/kube-proxy" --config=proxy.yaml
cat >Corefile <<X
.:53 {
    bind $host
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $DIR/kubeconfig
        pods insecure
        ttl 5
    }
}
X
start coredns "$PROGRAMS/coredns" -conf Corefile
