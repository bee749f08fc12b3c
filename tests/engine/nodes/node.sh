#!/bin/bash
# One node, inside its own network, mount and pid namespace: node.sh FOLDER BINARIES PACKAGES NAME ADDRESS POD_SUBNET DNS
# All that it mounts goes with the mount namespace, all that it starts with the pid namespace.
set -euo pipefail
folder=$1 binaries=$2 packages=$3 name=$4 address=$5 subnet=$6 dns=$7

mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd "$folder"/{kubelet,cni,log,containerd}
mkdir -p /var/lib/kubelet /var/lib/cni /var/log
mount --bind "$folder/kubelet" /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
mount --bind "$folder/cni" /var/lib/cni
mount --bind "$folder/log" /var/log

cat >"$folder/containerd.toml" <<TOML
version = 2
root = "$folder/containerd/root"
state = "/run/containerd/state"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$folder/registries"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$packages/usr/lib/cni"
    conf_dir = "$folder/cni-config"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      base_runtime_spec = "$folder/base-spec.json"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
mkdir -p "$folder/cni-config"
cat >"$folder/cni-config/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$subnet"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$(basename "$folder")
failSwapOn: false
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $folder/client-ca.crt}
authorization: {mode: AlwaysAllow}
clusterDNS: ["$dns"]
clusterDomain: cluster.local
nodeStatusUpdateFrequency: 2s
nodeStatusReportFrequency: 10s
volumeStatsAggPeriod: 10s
syncFrequency: 5s
maxPods: 60
serializeImagePulls: false
evictionHard: {}
YAML

containerd --config "$folder/containerd.toml" >"$folder/containerd.log" 2>&1 &
for _ in $(seq 200); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.05; done
for image in "$folder"/../images/*.tar; do
    ctr -a /run/containerd/containerd.sock -n k8s.io images import "$image" >>"$folder/images.log" 2>&1
done
"$binaries/kubelet" --config="$folder/kubelet.yaml" --kubeconfig="$folder/kubeconfig" \
    --hostname-override="$name" --node-ip="$address" --cert-dir="$folder/kubelet-certificates" \
    >"$folder/kubelet.log" 2>&1 &
"$binaries/kube-proxy" --kubeconfig="$folder/kubeconfig-proxy" --proxy-mode=iptables --hostname-override="$name" \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0s --conntrack-tcp-timeout-close-wait=0s \
    --cluster-cidr=198.18.0.0/16 >"$folder/kube-proxy.log" 2>&1 &
# it ends where the kubelet has not registered the node yet
while :; do
    "$binaries/kube-router" --run-firewall=true --run-router=false --run-service-proxy=false \
        --hostname-override="$name" --kubeconfig="$folder/kubeconfig-proxy" || true
    sleep 0.5
done >"$folder/kube-router.log" 2>&1 &
wait
