"""Failures as real nodes show them, and how soon the status says so.

Most deployments fail at once, in one scene; each test waits for its own. Kubelet, containerd, scheduler and admission
are real, and so are the hub's client and what they all say. The registry and the hub are stand-ins. The texts of
engines and drivers are printed by a stand-in, as recorded from the sources that tests/data/failures names.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from cluster.operating import Operator
from cluster.teams import Object, condition, says
from cluster.waiting import until
from engine import houses
from engine.houses import RealTeam, engine, stand_in
from engine.model import environment, image
from engine.model.hub import BUSY_REPO, GATED_REPO, REPO, REVISION
from engine.nodes import hardships, registry
from engine.nodes.cluster import RealCluster
from engine.nodes.network import HUB, REGISTRY_PORT
from engine.scenes import failing
from engine.scenes.failing import Case, Failing, words

Figure = Callable[[str], None]

_SMALL = {"cpu": "50m", "ephemeralStorage": "64Mi"}
#: The most that a node may have; the other has one in the scene, for who finds none.
_MANY = 16
_SAID_WITHIN_SECONDS = 150
#: The shortest that the API takes.
_BUDGET_SECONDS = 60
#: Of an account that the gated repository does not let in.
_TOKEN = "hf_FAKEfake123FAKEfake123FAKEfake12345"
_SECRET = {"secretKeyRef": {"name": "hub", "key": "token"}}
#: Lost ones of two looks at a replica: for a scrape and for a question, each sent again once.
_PACKETS_OF_TWO_LOOKS = 8


def served_by(reference: str) -> Object:
    """`spec.serving` with an image."""
    return {"modalities": ["text"], "engine": {"version": "0.32", "image": reference}}


def on(node: str) -> Object:
    """`spec.hardware` for one node."""
    return {"nodeSelector": {"kubernetes.io/hostname": node}}


def ends(name: str, fault: str, **spec: Any) -> Object:
    """A deployment whose engine ends so."""
    return stand_in(name, fault=fault, **{"hardware": on("node-a"), **spec})


def of_a_registry(name: str, reference: str) -> Object:
    """A deployment with that image, whose pod brings its weights itself: the first that needs an image."""
    spec = {"model": {"variants": ["E2B"], "precisions": ["bf16"]}, "serving": served_by(reference)}
    return ends(name, "", **spec)


def of_a_hub(name: str, repo: str, revision: str = REVISION, **spec: Any) -> Object:
    """A deployment with a repository of the team's own, at which a Job looks before a GPU is used."""
    source = {"huggingFace": {"repo": repo, "revision": revision}}
    model = {"variants": ["E2B"], "precisions": ["bf16"], "source": source}
    return ends(name, "", model=model, serving=served_by(image.NAME), **spec)


def of_images(team: RealTeam) -> Iterator[Case]:
    """By what a registry answers, or does not, or has no room for."""
    for name, reference, reason, said, stalled in (
        ("gone", registry.GONE, "ImageNotFound", ": not found", True),
        ("private", registry.PRIVATE, "ImageDenied", "pod.imagePullSecrets", True),
        ("closed", registry.CLOSED, "ImageDenied", "401 Unauthorized", True),
        ("forbidden", registry.FORBIDDEN, "ImageDenied", "403 Forbidden", True),
        ("busy-registry", registry.BUSY, "ImagePull", "429 Too Many Requests", False),
        ("no-registry", "localhost:1/no/such:image", "ImagePull", "connection refused", False),
        ("full-disk", registry.LARGE, "DiskFull", "failed to copy: write ", False),
    ):
        yield Case(team, of_a_registry(name, reference), reason, said, failing.waits, stalled)


def of_hubs(team: RealTeam) -> Iterator[Case]:
    """By what the hub's own client makes of the stand-in's answers."""
    known = {"credentials": {"huggingFaceToken": _SECRET}}
    for made, reason, said, stalled in (
        (of_a_hub("gated", GATED_REPO, **known), "WeightsGated", "accept its licence", False),
        (
            of_a_hub("no-repo", "gemma-operator-tests/no-such", **known),
            "WeightsMissing",
            "has no repository gemma-operator-tests/no-such",
            True,
        ),
        (of_a_hub("no-commit", REPO, "0" * 40), "WeightsMissing", f"has no commit {'0' * 40}", True),
        (of_a_hub("busy-hub", BUSY_REPO), "HubRateLimited", "answers 429", False),
    ):
        yield Case(team, made, reason, said, failing.ended, stalled)


def of_engines(team: RealTeam) -> Iterator[Case]:
    """By their last words, their node's, and by how they end; the one that takes longest first."""
    serving = {**engine(fault="never-listens"), "startupTimeoutSeconds": _BUDGET_SECONDS}
    slow = ends("slow", "", serving=serving)
    yield Case(team, slow, "StartupBudgetExceeded", "serving.startupTimeoutSeconds", failing.ended)
    for name, text, reason, said in (
        ("out-of-memory", "cuda-out-of-memory", "OutOfMemory", "planned again with"),
        ("old-driver", "driver-too-old", "DriverTooOld", "hardware.pools"),
        ("old-gpu", "gpu-unsupported", "UnsupportedAccelerator", "hardware.accelerators"),
    ):
        yield Case(team, ends(name, words(text)), reason, said, failing.ended, stalled=True)
    crashes = ends("crashes", "says:boom: it broke")
    yield Case(team, crashes, "CrashLoop", "boom: it broke", failing.ended_again)
    limited = ends("eats", "eats-memory", pod={"resources": {**_SMALL, "memory": "96Mi"}})
    yield Case(team, limited, "HostOutOfMemory", "pod.resources.memory", failing.ended, stalled=None)
    fills = ends("fills", "fills-its-cache")
    yield Case(team, fills, "DiskFull", 'volume "cache" exceeds the limit', failing.sent_away)


def of_who_refuses(team: RealTeam, quota: RealTeam, limit: RealTeam) -> Iterator[Case]:
    """By the scheduler and by admission."""
    crowded = ends("crowded", "", replicas=2, hardware=on("node-b"))
    yield Case(team, crowded, "Unschedulable", "Insufficient nvidia.com/gpu", failing.homeless)
    folder = ends("folder", "", model={"variants": ["E2B"]}, weights={"cache": {"type": "Node"}})
    yield Case(team, folder, "AdmissionDenied", "hostPath", failing.not_made, stalled=True)
    yield Case(quota, ends("quota", ""), "QuotaExceeded", "exceeded quota: few", failing.not_made)
    large = ends("limit", "", pod={"resources": {**_SMALL, "memory": "1Gi"}})
    yield Case(limit, large, "QuotaExceeded", "minimum memory usage per Container is 1Gi", failing.not_made)


def _kinds() -> Mapping[str, list[str]]:
    """Names of the cases, without a cluster."""
    none: Any = None
    return {
        kind: [case.name for case in cases]
        for kind, cases in {
            "images": of_images(none),
            "hubs": of_hubs(none),
            "engines": of_engines(none),
            "who refuses": of_who_refuses(none, none, none),
        }.items()
    }


_NAMES = _kinds()
_NO_HUB = environment.why_not()
#: A minute of theirs is waited for beside the other tests.
_LAST = ("fills", "slow")


class Scene:
    """What stands while it is played."""

    def __init__(self, team: RealTeam, failing: Failing) -> None:
        self.team = team
        self.failing = failing


@pytest.fixture(scope="module")
def scene(installed: RealCluster, one_operator: Operator, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """All cases at once, and one deployment that serves."""
    one_operator.ensure_running()
    with ExitStack() as held:
        for node, gpus in (("node-a", _MANY), ("node-b", 1)):
            held.callback(houses.equip, installed, node, gpus=4)
            houses.equip(installed, node, gpus=gpus)
            registry.trust(installed.node_folder(node))
        team, quota, limit = (houses.a_team(installed) for _ in range(3))
        for each in (team, quota, limit):
            held.callback(each.leave)
        slow, *cases = [*of_engines(team), *of_images(team), *of_who_refuses(team, quota, limit)]
        slow.begin()
        team.apply(ends("reached", ""))
        _constrain(team, quota, limit)
        if not _NO_HUB:
            request.getfixturevalue("hub")
            cases += of_hubs(team)
        served = ("engine.nodes.registry",)
        held.enter_context(houses.beside_the_cluster(installed, *served, port=REGISTRY_PORT))
        held.enter_context(hardships.full_disk(installed, "node-a"))
        for case in cases:
            case.begin()
        yield Scene(team, held.enter_context(Failing({case.name: case for case in (slow, *cases)})))


def _constrain(team: RealTeam, quota: RealTeam, limit: RealTeam) -> None:
    """Room for an engine, and none for the Job before it."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}}
    team.create({**secret, "data": {"token": base64.b64encode(_TOKEN.encode()).decode()}})
    few = {"apiVersion": "v1", "metadata": {"name": "few"}}
    quota.create({**few, "kind": "ResourceQuota", "spec": {"hard": {"requests.cpu": "100m"}}})
    least = {"type": "Container", "min": {"memory": "1Gi"}}
    limit.create({**few, "kind": "LimitRange", "spec": {"limits": [least]}})


def check(scene: Scene, name: str, figure: Figure) -> None:
    """Said, with its words, as what it is."""
    case = scene.failing.said(name, within_seconds=_SAID_WITHIN_SECONDS)
    assert case.words in case.message
    stalled, reconciling = (bool(condition(case.seen, kind)) for kind in ("Stalled", "Reconciling"))
    assert stalled is not reconciling
    assert case.stalled in (stalled, None)
    again = ", planned again in between" if "planned again" in case.message else ""
    figure(f"{name}: {case.reason} said within {case.most_seconds:.1f} s of Kubernetes showing it{again}")


@pytest.mark.parametrize("name", _NAMES["images"])
def test_an_image_that_does_not_come(scene: Scene, name: str, figure: Figure) -> None:
    check(scene, name, figure)


@pytest.mark.skipif(bool(_NO_HUB), reason=_NO_HUB)
@pytest.mark.parametrize("name", _NAMES["hubs"])
def test_weights_that_a_hub_does_not_give(scene: Scene, name: str, figure: Figure) -> None:
    check(scene, name, figure)
    told = json.dumps([scene.team.all(kind) for kind in ("GemmaDeployment", "Event")])
    assert _TOKEN[:7] not in told


@pytest.mark.parametrize("name", _NAMES["who refuses"])
def test_a_pod_that_nobody_lets_run(scene: Scene, name: str, figure: Figure) -> None:
    check(scene, name, figure)


@pytest.mark.parametrize("name", [name for name in _NAMES["engines"] if name not in _LAST])
def test_an_engine_that_ends(scene: Scene, name: str, figure: Figure) -> None:
    check(scene, name, figure)


def test_who_loses_the_operators_packets_is_not_probed_and_keeps_its_pod(
    scene: Scene, operator: Operator, installed: RealCluster, figure: Figure
) -> None:
    scene.team.ready("reached", within_seconds=_SAID_WITHIN_SECONDS)
    (pod,) = scene.team.pods("reached")
    way = {"source": HUB, "destination": pod["status"]["podIP"]}
    began = time.monotonic()
    with hardships.lost_packets(installed, pod["spec"]["nodeName"], **way) as lost:
        said = scene.team.sees("GemmaDeployment", "reached", says("Ready", "Unknown", "NotProbed"))
        figure(f"lost packets: NotProbed said {time.monotonic() - began:.1f} s after the first")
        assert condition(said, "Healthy")["reason"] == "NotProbed"
        assert condition(said, "Reconciling")["reason"] == "NotProbed"
        assert "operatorCidrs" in condition(said, "Ready")["message"]
        until(lambda: lost() >= _PACKETS_OF_TWO_LOOKS, what="what answers nothing would count as wedged")
        (still,) = scene.team.pods("reached")
        assert still["metadata"]["uid"] == pod["metadata"]["uid"]
        assert condition(scene.team.get("GemmaDeployment", "reached"), "Ready")["status"] == "Unknown"
    mended = time.monotonic()
    scene.team.ready("reached")
    figure(f"lost packets: Ready {time.monotonic() - mended:.1f} s after the last")
    (after,) = scene.team.pods("reached")
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]


def test_a_node_that_loses_its_power(
    scene: Scene, team: RealTeam, operator: Operator, installed: RealCluster, figure: Figure
) -> None:
    houses.equip(installed, "node-b", gpus=_MANY)
    team.apply(stand_in(replicas=2))
    team.ready("chat", within_seconds=120)
    installed.stop_node("node-b")
    try:
        until(lambda: not installed.is_ready("node-b"), what="Kubernetes shows it", within_seconds=120)
        shown = time.monotonic()
        lost = team.sees(
            "GemmaDeployment", "chat", lambda obj: "node-b" in condition(obj, "Ready").get("message", "")
        )
        figure(f"node lost: said {time.monotonic() - shown:.1f} s after Kubernetes showed it")
        assert condition(lost, "Healthy")["status"] == "True"
    finally:
        installed.start_node("node-b")
        until(lambda: installed.is_ready("node-b"), what="node-b is back", within_seconds=120)
    team.ready("chat", within_seconds=180)


def test_an_engine_that_never_listens_within_its_start_up_budget(scene: Scene, figure: Figure) -> None:
    check(scene, "slow", figure)


def test_an_engine_that_fills_its_disk_and_is_evicted(scene: Scene, figure: Figure) -> None:
    check(scene, "fills", figure)
