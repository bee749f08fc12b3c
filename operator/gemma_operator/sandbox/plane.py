"""How the control plane is started: each component's command, and in which order.

Without the endpoint controllers: the API server refuses loopback addresses in EndpointSlices of type IPv4,
and our pods have no others. The daemon writes the slices instead (see `endpoints`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from gemma_operator.sandbox import identities
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.paths import StateFolder

FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"
SERVICE_ADDRESSES = "10.96.0.0/16"
# A starved machine delays kwok's lease renewals; the default of 50 s then evicts healthy pods.
_NODE_GRACE = "120s"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "daemon")
_NO_ENDPOINTS = "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"

AUDIT_POLICY = """\
# One line a request with its user, no bodies: tests count what the operator reads and writes.
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None  # what the control plane reads of itself would be most of the log
  users: [system:apiserver, system:kube-controller-manager, system:kube-scheduler, "sandbox:kwok"]
  verbs: [get, list, watch]
- level: None  # each node renews its lease every ten seconds
  users: ["sandbox:kwok"]
  resources: [{group: coordination.k8s.io, resources: [leases]}]
- level: Metadata
"""


@dataclass(frozen=True, slots=True)
class Component:
    """One process: what to run, and where to ask whether it is up (None: being alive is enough)."""

    name: str
    argv: tuple[str, ...]
    health_url: str | None


def url(block: Block) -> str:
    """Where the API server answers."""
    return f"https://{block.host}:6443"


def etcd(binaries: Path, folder: StateFolder, block: Block) -> Component:
    """The store. Without fsync: nothing of a sandbox outlives a crash of the machine."""
    client, peer = f"http://{block.host}:2379", f"http://{block.host}:2380"
    argv = (
        str(binaries / "etcd"),
        "--name=sandbox",
        f"--data-dir={folder.path / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=sandbox={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )
    return Component("etcd", argv, f"{client}/health")


def apiserver(binaries: Path, folder: StateFolder, block: Block) -> Component:
    """The API server. It makes its own certificate, whose key signs ServiceAccount tokens as well."""
    key = folder.certificates / "apiserver.key"
    argv = (
        str(binaries / "kube-apiserver"),
        f"--etcd-servers=http://{block.host}:2379",
        f"--bind-address={block.host}",
        f"--advertise-address={block.host}",
        "--secure-port=6443",
        f"--cert-dir={folder.certificates}",
        f"--token-auth-file={folder.path / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC",
        "--anonymous-auth=false",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--service-cluster-ip-range={SERVICE_ADDRESSES}",
        "--endpoint-reconciler-type=none",
        f"--audit-policy-file={folder.path / 'audit-policy.yaml'}",
        f"--audit-log-path={folder.audit_log}",
        "--audit-log-maxsize=4096",  # MiB: never rotated under a test that counts
    )
    return Component("kube-apiserver", argv, f"{url(block)}/readyz")


def followers(binaries: Path, folder: StateFolder, block: Block) -> tuple[Component, ...]:
    """What needs an API server and nothing of each other."""
    return (
        _controller_manager(binaries, folder, block),
        _scheduler(binaries, folder, block),
        _kwok(binaries, folder, block),
        _daemon(folder),
    )


def stages() -> str:
    """kwok's stages, as packaged."""
    return (resources.files("gemma_operator.sandbox") / "stages.yaml").read_text(encoding="utf-8")


def _controller_manager(binaries: Path, folder: StateFolder, block: Block) -> Component:
    config = folder.kubeconfig_of(identities.CONTROLLER_MANAGER.key)
    argv = (
        str(binaries / "kube-controller-manager"),
        *_served(folder, block, config, port=10257),
        f"--controllers={_NO_ENDPOINTS}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={folder.certificates / 'apiserver.key'}",
        f"--root-ca-file={folder.ca_file}",
        f"--node-monitor-grace-period={_NODE_GRACE}",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )
    return Component("kube-controller-manager", argv, f"https://{block.host}:10257/healthz")


def _scheduler(binaries: Path, folder: StateFolder, block: Block) -> Component:
    config = folder.kubeconfig_of(identities.SCHEDULER.key)
    argv = (
        str(binaries / "kube-scheduler"),
        *_served(folder, block, config, port=10259),
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    )
    return Component("kube-scheduler", argv, f"https://{block.host}:10259/healthz")


def _served(folder: StateFolder, block: Block, config: Path, *, port: int) -> tuple[str, ...]:
    """What controller-manager and scheduler share. The API server's certificate is good for this host."""
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={block.host}",
        f"--secure-port={port}",
        f"--tls-cert-file={folder.ca_file}",
        f"--tls-private-key-file={folder.certificates / 'apiserver.key'}",
        "--leader-elect=false",
    )


def _kwok(binaries: Path, folder: StateFolder, block: Block) -> Component:
    argv = (
        str(binaries / "kwok"),
        f"--kubeconfig={folder.kubeconfig_of(identities.KWOK.key)}",
        f"--config={folder.path / 'stages.yaml'}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-annotation-selector={FAKE_NODE_ANNOTATION}=fake",
        f"--cidr={block.pods}",
        f"--node-ip={block.host}",
        "--node-lease-duration-seconds=40",
        f"--server-address={block.host}:10247",
    )
    return Component("kwok", argv, f"http://{block.host}:10247/healthz")


def _daemon(folder: StateFolder) -> Component:
    argv = (sys.executable, "-P", "-m", "gemma_operator.sandbox.daemon", str(folder.path))
    return Component("daemon", argv, None)
