"""Snapshots with good defaults: one GemmaDeployment `chat` of one replica on an H100 pool."""

from dataclasses import replace
from datetime import UTC, datetime

from gemma_operator.api import names
from gemma_operator.api.conditions import Reason
from gemma_operator.api.parse import parse_deployment
from gemma_operator.backends.kubernetes.ownership import manifest_hash
from gemma_operator.backends.kubernetes.render import pod_intent, render
from gemma_operator.backends.kubernetes.snapshot import (
    Child,
    Key,
    Placement,
    Replica,
    ServedAddress,
    Snapshot,
)
from gemma_operator.backends.kubernetes.startup_ledger import PodTimes
from gemma_operator.engines.registry import engine_named
from gemma_operator.probing.facts import Failure, FailureKind, ReplicaFacts
from gemma_operator.settings import OperatorSettings
from plans import a_plan

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
ENGINE = engine_named("VLLM")
UID = "uid-of-chat"


def a_spec(**spec):
    return parse_deployment(
        {
            "apiVersion": names.API_VERSION,
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat", "namespace": "team-a", "uid": UID, "generation": 1},
            "spec": spec,
        }
    )


def a_placement(plan=None, **changes):
    """What placement answered for the inputs of `a_snapshot`."""
    return replace(
        Placement(
            plan=plan,
            waiting=False,
            reason=Reason.PLANNED if plan else Reason.NOTHING_FITS,
            message="" if plan else "31B bf16 needs 58.8 GiB of weights a GPU; nvidia-l4 offers 20.3 GiB",
            alternatives=(),
            token="",
        ),
        **changes,
    )


def a_snapshot(*, spec=None, **changes):
    """Nothing exists yet and nothing was planned."""
    snapshot = Snapshot(
        key=Key("team-a", "chat"),
        uid=UID,
        generation=1,
        resource_version="10",
        created_at="2026-11-25T08:00:00Z",
        terminating=False,
        finalizers=(),
        annotations={},
        deployment=a_spec(**(spec or {})),
        spec_error="",
        status={"observedGeneration": -1},
        schema_gaps=(),
        inputs_hash=a_plan().inputs_hash,
        unknown_arguments=(),
        plan=None,
        plan_possible=True,
        placement=None,
        children=(),
        replicas=(),
        served=(),
        facts={},
        settings=OperatorSettings(),
        living_uids=frozenset({UID}),
    )
    return replace(snapshot, **changes)


def manifests_for(*, spec=None, plan=None):
    deployment = a_spec(**(spec or {}))
    return render(
        deployment,
        plan or a_plan(),
        uid=UID,
        replicas=deployment.spec.replicas,
        settings=OperatorSettings(),
        engine=ENGINE,
    )


def a_child(manifest, **changes):
    """The manifest as it stands after it was applied."""
    return replace(
        Child(
            kind=manifest["kind"],
            name=manifest["metadata"]["name"],
            uid=f"uid-of-{manifest['kind']}",
            generation=1,
            resource_version="11",
            owned_hash=manifest_hash(manifest),
            has_our_label=True,
            controller_kind="GemmaDeployment",
            controller_name="chat",
            controller_uid=UID,
            terminating=False,
            annotations=manifest["metadata"].get("annotations", {}),
            intent=pod_intent([manifest]) if "spec" in manifest and manifest["kind"] == "Deployment" else "",
        ),
        **changes,
    )


def a_replica(name="chat-0", *, intent="", **changes):
    """A pod that is Running and ready."""
    return replace(
        Replica(
            uid=f"uid-of-{name}",
            name=name,
            node="node-1",
            ip="127.20.0.1",
            phase="Running",
            ready=True,
            started=True,
            terminating=False,
            intent=intent,
            model_name="chat",
            started_at="2026-11-25T08:50:00Z",
            unschedulable_message="",
            gated=False,
            waiting_reason="",
            waiting_message="",
            terminated_reason="",
            terminated_message="",
            exit_code=None,
            restarts=0,
            times=PodTimes(
                made="2026-11-25T08:49:00Z",
                scheduled="2026-11-25T08:49:10Z",
                engine_started="2026-11-25T08:50:00Z",
                ready="2026-11-25T08:52:30Z",
            ),
        ),
        **changes,
    )


def proved(replica, **changes):
    return replace(
        ReplicaFacts(
            pod_uid=replica.uid, proved_at_seconds=100.0, proved_model="chat", scraped_at_seconds=100.0
        ),
        **changes,
    )


def failing(replica, kind=FailureKind.NO_TOKEN, *, times=1, **changes):
    return replace(
        ReplicaFacts(pod_uid=replica.uid, failed_probes=times, failure=Failure(kind, "", 101.0)), **changes
    )


def a_running_snapshot(*, spec=None, replicas=None, facts=None, served=None, **changes):
    """Everything was applied; by default every wanted replica runs, is served and proved."""
    manifests = manifests_for(spec=spec)
    intent = pod_intent(manifests)
    wanted = (spec or {}).get("replicas", 1)
    pods = (
        tuple(a_replica(f"chat-{n}", intent=intent) for n in range(wanted)) if replicas is None else replicas
    )
    return a_snapshot(
        spec=spec,
        plan=a_plan(),
        children=tuple(a_child(manifest) for manifest in manifests),
        replicas=pods,
        served=tuple(ServedAddress(pod.uid, 8000, True) for pod in pods) if served is None else served,
        facts={pod.uid: proved(pod) for pod in pods} if facts is None else facts,
        **changes,
    )


def said(decision):
    """Conditions of a decision by type: `said(d)["Ready"]` is (status, reason)."""
    return {str(c.type): (c.status, str(c.reason)) for c in decision.conditions}
