"""The main job, shown: the operator plans, places and serves the samples on a simulated fleet.

A real control plane, the real operator with the rights that `manifests/base` grants it; nodes and model servers
are simulated and say so. Ends with exit 0 only if every sample reached the state that it is meant for.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from gemma_operator.catalog.loader import packaged
from gemma_operator.errors import GemmaOperatorError
from gemma_operator.hardware.declared import declared_pool
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools
from gemma_operator.sandbox import build
from gemma_operator.sandbox.session import Sandbox

ROOT = Path(__file__).resolve().parent.parent
NAME = "demo"
SAMPLES = ROOT / "manifests/samples"
#: What a sample is meant for, where it is not meant to serve: condition type and reason.
MEANT = {"does-not-fit": ("Stalled", "NothingFits"), "plan-only": ("Suspended", "Suspended")}
#: For each step: a laptop takes seconds, two busy cores a minute.
LIMIT_SECONDS = 120
LEAST_READY, LEAST_POOLS = 6, 4

_COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def say(text: str) -> None:
    print(text, flush=True)


def head(text: str) -> None:
    say(f"\n\033[1m{text}\033[0m" if _COLOURS else f"\n== {text}")


class Failed(GemmaOperatorError):
    """The demo did not come to its end."""


class Kubectl:
    """kubectl as the sandbox's administrator."""

    def __init__(self, kubeconfig: Path) -> None:
        found = build.kubectl()
        if found is None:
            raise Failed("kubectl is missing: `make setup` installs it")
        self.command = [found, f"--kubeconfig={kubeconfig}"]

    def __call__(self, *args: str, stdin: str | None = None) -> str:
        done = subprocess.run(  # noqa: S603 - our own arguments
            [*self.command, *args], input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def items(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("get", kind, "--all-namespaces", "-o", "json"))["items"]
        return found


@contextmanager
def operator(sandbox: Sandbox, log: Path) -> Iterator[int]:
    """The operator with the rights of its ServiceAccount; gives the port of its metrics."""
    command = [sys.executable, "-m", "gemma_operator", "run", "--metrics-port", "0", "--probe-period", "5"]
    with log.open("w") as out:
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            [*command, "--kubeconfig", str(sandbox.operator_kubeconfig)],
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to hand on
        )
    try:
        try:
            port = wait("the operator to start", lambda: _metrics_port(process, log), seconds=LIMIT_SECONDS)
        except Failed as error:
            raise Failed(f"{error}; it said:\n{log.read_text()}") from None
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def _metrics_port(process: subprocess.Popen[bytes], log: Path) -> int | None:
    text = log.read_text()
    if process.poll() is not None:
        raise Failed("the operator ended")
    found = re.search(r"metrics on port (\d+)", text)
    return int(found.group(1)) if found and "leading" in text else None


def wait(what: str, look: Callable[[], Any], *, seconds: float) -> Any:  # noqa: ANN401 - what `look` gives
    """Looks until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (answer := look()) is not None:
            return answer
        time.sleep(0.3)
    raise Failed(f"waited {seconds:.0f} s for {what}")


def install(kubectl: Kubectl) -> None:
    """CRDs, namespace and rights. The operator itself runs here, so its Deployment is left out."""
    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    base = yaml.safe_load_all(kubectl("kustomize", str(ROOT / "manifests/base")))
    kept = [each for each in base if each["kind"] not in ("Deployment", "PodDisruptionBudget")]
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(kept))


def reached(sample: dict[str, Any]) -> str | None:
    """What the sample came to, where that is final: the reason of the condition that it is meant for."""
    name = sample["metadata"]["name"]
    kind, reason = MEANT.get(name, ("Ready", "Serving"))
    for condition in sample.get("status", {}).get("conditions", ()):
        if (condition["type"], condition["status"], condition["reason"]) == (kind, "True", reason):
            return reason
    return None


def follow(kubectl: Kubectl, wanted: set[str]) -> None:
    """A line for each sample as it gets where it belongs."""
    started = time.monotonic()
    told: set[str] = set()

    def all_there() -> bool | None:
        for sample in kubectl.items("gemmadeployments"):
            name = sample["metadata"]["name"]
            reason = reached(sample)
            if name in wanted and name not in told and reason is not None:
                told.add(name)
                plan = sample["status"].get("plan")
                where = (
                    f"{plan['variant']} {plan['precision']} on {plan['pool']['name']}" if plan else "no plan"
                )
                say(f"  {time.monotonic() - started:5.1f} s  {name:14} {reason:12} {where}")
        return True if told == wanted else None

    try:
        wait("the samples", all_there, seconds=LIMIT_SECONDS)
    except Failed as error:
        missing = ", ".join(sorted(wanted - told))
        raise Failed(f"{error}; not there: {missing}\n{kubectl('get', 'gd', '-A', '-o', 'wide')}") from None


def check_places(kubectl: Kubectl) -> int:
    """Every pod of a Ready sample is on a node of the pool in its plan; gives the number of pools in use."""
    nodes = {node["metadata"]["name"]: node for node in kubectl.items("nodes")}
    records = [record for node in nodes.values() if (record := node_record(node)) is not None]
    declared = [declared_pool(pool) for pool in kubectl.items("acceleratorpools")]
    of_node: dict[str, set[tuple[str, str, str]]] = {}
    for pool in pools(records, declared, packaged()):
        id_ = pool.shape.id
        for node in pool.nodes:
            of_node.setdefault(node.name, set()).add((id_.source.value, id_.name, id_.shape))
    pods = kubectl.items("pods")
    used = set()
    ready = [s for s in kubectl.items("gemmadeployments") if reached(s) == "Serving"]
    for sample in ready:
        plan = sample["status"]["plan"]["pool"]
        place = (plan["source"], plan["name"], plan["shape"])
        used.add(place)
        label = sample["status"]["selector"].split("=")
        own = [pod for pod in pods if pod["metadata"].get("labels", {}).get(label[0]) == label[1]]
        strays = [pod["metadata"]["name"] for pod in own if place not in of_node[pod["spec"]["nodeName"]]]
        if strays or not own:
            raise Failed(f"{sample['metadata']['name']}: pods {strays or 'none'} are not on pool {place}")
    if len(ready) < LEAST_READY or len(used) < LEAST_POOLS:
        raise Failed(f"{len(ready)} samples on {len(used)} pools; {LEAST_READY} on {LEAST_POOLS} are meant")
    return len(used)


def show(kubectl: Kubectl, sandbox: Sandbox, port: int) -> None:
    """The plans, one that does not fit, an answer, and figures."""
    head("The plans")
    columns = ",".join(
        (
            "NAME:.metadata.name",
            "VARIANT:.status.plan.variant",
            "PRECISION:.status.plan.precision",
            "POOL:.status.plan.pool.name",
            "ACCELERATOR:.status.plan.accelerator",
            "GPUS:.status.plan.acceleratorsPerReplica",
            "CONTEXT:.status.plan.contextLength",
            "KV-MIB:.status.plan.memoryMiB.kvCache",
            "REPLICAS:.status.readyReplicas",
        )
    )
    say(kubectl("get", "gd", "-o", f"custom-columns={columns}").rstrip())
    say("")
    say(kubectl("get", "gd").rstrip())
    head("Why does-not-fit does not fit")
    say(kubectl("get", "gd", "does-not-fit", "-o", "jsonpath={.status.conditions[0].message}"))
    head("An answer from the endpoint of `chat` (simulated: no model ran)")
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]})
    command = [sys.executable, "-m", "gemma_operator", "sandbox", "curl", "chat", "--name", NAME]
    done = subprocess.run(  # noqa: S603 - our own arguments
        [*command, "/v1/chat/completions", "-d", body], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(done.stderr)
    say(done.stderr.strip())
    say(done.stdout.strip())
    head("What Prometheus sees of `chat`")
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    shown = ("_info", "_replicas", "_tokens_total", "_kv_", "_requests_r", "_data_age")
    for line in metrics.splitlines():
        if (
            line.startswith("gemma_deployment")
            and 'name="chat"' in line
            and any(word in line for word in shown)
        ):
            say(f"  {line}")
    head("Try next")
    say(f"  export KUBECONFIG={sandbox.kubeconfig}")
    say("  kubectl get gd chat -o yaml          # the plan, what was given up for it, and the alternatives")
    say("  kubectl scale gd chat --replicas 3")
    say("  kubectl explain gd.spec.serving")
    say(f"  gemma-operator sandbox curl chat /v1/models --name {NAME}")
    say(f"  curl http://127.0.0.1:{port}/metrics")


def demo(*, once: bool) -> None:
    """Everything, from the sandbox to its end."""
    started = time.monotonic()
    head("A sandbox: a real control plane, a simulated GPU fleet")
    sandbox = Sandbox.start(NAME, log=lambda line: say(f"  {line}"))
    try:
        kubectl = Kubectl(sandbox.kubeconfig)
        install(kubectl)
        head("The operator, with the rights of its ServiceAccount")
        with operator(sandbox, sandbox.folder.logs / "operator.log") as port:
            say(f"  leads after {time.monotonic() - started:.1f} s")
            head("The samples of manifests/samples")
            kubectl("apply", "-f", str(SAMPLES))
            names = {sample["metadata"]["name"] for sample in kubectl.items("gemmadeployments")}
            follow(kubectl, names)
            used = check_places(kubectl)
            say(f"  every pod is on the pool of its plan; {used} pools are in use")
            show(kubectl, sandbox, port)
            say(f"\n{time.monotonic() - started:.1f} s in all")
            if not once:
                say("Up until Ctrl-C.")
                signal.pause()
    finally:
        sandbox.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="end by itself")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demo(once=args.once)
    except KeyboardInterrupt:
        say("\nended, nothing is left")
    except GemmaOperatorError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
