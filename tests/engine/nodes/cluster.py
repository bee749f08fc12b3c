"""A control plane and two real nodes, up in seconds and gone without a trace."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.waiting import until
from engine.model import environment, image
from engine.nodes import binaries, images, kernel, packages, runtime, trust
from engine.nodes.network import HUB, NODES, Network, NodeNet
from engine.nodes.traces import traces
from gemma_operator.sandbox import build, identities, locks, plane, processes, starting
from gemma_operator.sandbox.block import Block
from gemma_operator.sandbox.client import Client
from gemma_operator.sandbox.paths import StateFolder, cache_root

SERVICES = "198.18.96.0/20"
DNS = "198.18.96.10"
_HERE = Path(__file__).parent
_NODE_GRACE = "20s"


class _Hub(Block):
    """The sandbox's own start, at an address of the hub instead of a loopback one."""

    @property
    def host(self) -> str:
        return HUB

    @property
    def pods(self) -> str:
        return "198.18.200.0/22"


class RealCluster:
    """Two kubelets with containerd, Service addresses, DNS and enforced NetworkPolicies.

    What a test does to it, it does as an administrator from where it runs: the way to the hub is part of it.
    """

    def __init__(self) -> None:
        self._run = f"{os.getpid():x}"
        root = cache_root() / "nodes"
        self.folder = StateFolder(name=f"engine-{self._run}", path=root / f"ge-{self._run}")
        self.network = Network(self._run)
        self.seconds: dict[str, float] = {}
        self._block = _Hub(0)
        self._tokens: dict[str, str] = {}
        self._kernel = kernel.Saved()
        self._held = contextlib.ExitStack()
        self._client: Client | None = None
        #: What is on the machine before it comes up, and when it has gone: the same, or it left something behind.
        self.before: frozenset[str] = frozenset()
        self.after: frozenset[str] = frozenset()

    # what tests look at

    @property
    def kubeconfig(self) -> Path:
        """An administrator's."""
        return self.folder.kubeconfig

    @property
    def operator_kubeconfig(self) -> Path:
        """The operator's own ServiceAccount."""
        return self.folder.kubeconfig_of(identities.OPERATOR.key)

    @property
    def audit_log(self) -> Path:
        """Who wrote what."""
        return self.folder.audit_log

    @property
    def client(self) -> Client:
        """Speaks to the API server as an administrator."""
        if self._client is None:
            url, token = plane.url(self._block), self._tokens["admin"]
            self._client = self._held.enter_context(Client(url, token=token, ca_file=self.folder.ca_file))
        return self._client

    def enter(self, place: str) -> list[str]:
        """What a command is prefixed with to run in the network of `hub`, `node-a` or `node-b`."""
        return self.network.enter(place)

    def kubectl(self, *words: str, text: str | None = None, limit_seconds: float = 120) -> str:
        """kubectl as an administrator."""
        command = [
            str(Path(sys.executable).with_name("kubectl")),
            "--kubeconfig",
            str(self.kubeconfig),
            *words,
        ]
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, timeout=limit_seconds
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # coming up and going

    def __enter__(self) -> Self:
        root = self.folder.path.parent
        root.mkdir(parents=True, exist_ok=True)
        # one at a time on a machine: the way from the tests to the hub is one
        self._held.enter_context(locks.held(root / ".lock", purpose="another cluster runs", say=say))
        sweep()
        self.before = traces()
        try:
            self._up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _up(self) -> None:
        with self._timed("packages and programs"):
            self._packages = packages.unpacked(say=say)
            self._binaries = binaries.built(say=say)
            plane_binaries = build.binaries(None, say=say)
            tars = [*images.built(say=say).glob("*.tar")]
            engine = None
            if not environment.why_not():
                engine = environment.site_packages(say=say)
                tars.append(image.built(say=say))
            self._base_spec = runtime.base_spec(self._packages, engine)
        with self._timed("control plane"):
            self._kernel.save()
            self._control_plane(plane_binaries)
        with self._timed("nodes"):
            (self.folder.path / "images").mkdir()
            for tar in tars:
                shutil.copy(tar, self.folder.path / "images")
            for node in NODES:
                self.start_node(node.name)
            self._dns()
            for node in NODES:
                until(
                    lambda node=node: self.is_ready(node.name),
                    what=f"{node.name} is Ready",
                    within_seconds=90,
                )

    def _control_plane(self, plane_binaries: Path) -> None:
        self._tokens = dict(starting.prepare(self.folder, self._block)["tokens"])
        self._tokens |= trust.add_tokens(self.folder)
        self.network.make()
        trust.write_client_certificates(self.folder.certificates)
        self._starter = starting.Starter(self.folder, token=self._tokens["admin"])
        self._starter.start(self._in_hub(plane.etcd(plane_binaries, self.folder, self._block)))
        self._starter.start(self._in_hub(self._apiserver(plane_binaries)))
        starting.write_kubeconfigs(self.folder, self._block, self._tokens)
        trust.write_kubeconfigs(self.folder, self._block, self._tokens)
        followers = {c.name: c for c in plane.followers(plane_binaries, self.folder, self._block)}
        manager, scheduler = followers["kube-controller-manager"], followers["kube-scheduler"]
        kept = [
            word for word in manager.argv if not word.startswith(("--controllers=", "--node-monitor-grace"))
        ]
        manager = plane.Component(
            manager.name, (*kept, f"--node-monitor-grace-period={_NODE_GRACE}"), manager.health_url
        )
        self._starter.start(self._in_hub(manager), self._in_hub(scheduler))

    def _apiserver(self, plane_binaries: Path) -> plane.Component:
        like = plane.apiserver(plane_binaries, self.folder, self._block)
        certificates = self.folder.certificates
        kept = [word for word in like.argv if not word.startswith("--service-cluster-ip-range=")]
        more = (
            f"--service-cluster-ip-range={SERVICES}",
            f"--kubelet-client-certificate={certificates / 'kubelet-client.crt'}",
            f"--kubelet-client-key={certificates / 'kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--allow-privileged=true",
        )
        return plane.Component(like.name, (*kept, *more), like.health_url)

    def _in_hub(self, component: plane.Component) -> plane.Component:
        nsenter, *rest = self.network.enter("hub")
        argv = (_program(nsenter), *rest, *component.argv)
        return plane.Component(component.name, argv, component.health_url)

    def _dns(self) -> None:
        """CoreDNS in the hub, behind a Service whose endpoint is written by hand."""
        corefile = self.folder.path / "Corefile"
        config = self.folder.kubeconfig_of(trust.PROXY.key)
        corefile.write_text(
            f".:53 {{\n    errors\n    ready\n"
            f"    kubernetes cluster.local {{\n        kubeconfig {config}\n        pods insecure\n    }}\n"
            "    cache 5\n}\n"
        )
        argv = (str(self._binaries / "coredns"), "-conf", str(corefile))
        self._starter.start(self._in_hub(plane.Component("coredns", argv, f"http://{HUB}:8181/ready")))
        ports = [
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        ]
        self.client.create(
            "/api/v1/namespaces/kube-system/services",
            {"metadata": {"name": "kube-dns"}, "spec": {"clusterIP": DNS, "ports": ports}},
        )
        self.client.create(
            "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices",
            {
                "metadata": {"name": "kube-dns", "labels": {"kubernetes.io/service-name": "kube-dns"}},
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": [{"addresses": [HUB]}],
            },
        )

    # nodes

    def start_node(self, name: str) -> None:
        """Starts a node that does not run; whoever needs it waits until `is_ready`."""
        node = _node(name)
        folder = self.node_folder(name)
        folder.mkdir(exist_ok=True)
        shutil.copy(self.folder.certificates / "kubelet-ca.crt", folder / "client-ca.crt")
        (folder / "base-spec.json").write_text(self._base_spec)
        shutil.copy(self.folder.kubeconfig_of(name), folder / "kubeconfig")
        shutil.copy(self.folder.kubeconfig_of(trust.PROXY.key), folder / "kubeconfig-proxy")
        kernel.make_cgroups(folder.name)
        nsenter, *rest = self.network.enter(name)
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        script = ["/bin/bash", str(_HERE / "node.sh"), str(folder), str(self._binaries), str(self._packages)]
        processes.spawn(
            (_program(nsenter), *rest, *apart, *script, name, node.address, node.pods, DNS),
            component=name,
            folder=self.folder.path,
            log_file=self.folder.log_of(name),
            environment=packages.environment(self._packages),
        )

    def stop_node(self, name: str) -> None:
        """A machine that loses its power: nothing on it ends by itself."""
        for running in processes.find(self.folder.path):
            if running.component == name:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(running.pid, 9)
        until(lambda: not self._runs(name), what=f"{name} is gone")
        kernel.remove_cgroups(self.node_folder(name).name)

    def _runs(self, name: str) -> bool:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return any(running.component == name for running in processes.find(self.folder.path))

    def node_folder(self, name: str) -> Path:
        """Everything that a node writes, its logs among it."""
        return self.folder.path / f"{self.folder.path.name}-{name}"

    def is_ready(self, name: str) -> bool:
        """Whether the API server counts the node as Ready."""
        found = [node for node in self.client.items("/api/v1/nodes") if node["metadata"]["name"] == name]
        said: list[dict[str, Any]] = found[0]["status"].get("conditions", []) if found else []
        return any((each["type"], each["status"]) == ("Ready", "True") for each in said)

    def close(self) -> None:
        """Ends everything and gives everything back."""
        remove(self.folder.path)
        self._kernel.restore()
        # while nobody else may begin
        self.after = traces()
        self._held.close()

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[phase] = time.monotonic() - began
        say(f"{phase}: {self.seconds[phase]:.1f} s")


def sweep() -> None:
    """Removes what a killed run left: a cluster whose process does not live any more."""
    root = cache_root() / "nodes"
    for folder in sorted(root.glob("ge-*")) if root.is_dir() else ():
        owner = int(folder.name.removeprefix("ge-"), 16)
        if not Path(f"/proc/{owner}").exists():
            remove(folder)


def remove(folder: Path) -> None:
    """The processes, cgroups, namespaces and files of one cluster."""
    processes.kill_all(folder, limit_seconds=30)
    for node in NODES:
        kernel.remove_cgroups(f"{folder.name}-{node.name}")
    Network(folder.name.removeprefix("ge-")).remove()
    shutil.rmtree(folder, ignore_errors=True)


def say(message: str) -> None:
    """Progress, past pytest's capture."""
    print(f"engine: {message}", file=sys.__stderr__, flush=True)


def _node(name: str) -> NodeNet:
    return next(node for node in NODES if node.name == name)


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found is not None, f"{name} is not on PATH"
    return found
