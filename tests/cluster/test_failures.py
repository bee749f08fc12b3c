"""Failures on the simulated fleet: what a kubelet shows of a pod is in the status, with its reason and its remedy.

One deployment a failure, all at once. Words come from tests/data/failures; when Kubernetes showed them and when the
status said so is looked at for all together, and the difference is a figure.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.operating import Operator
from cluster.teams import Object, Team, a_deployment, condition, says
from cluster.waiting import until
from gemma_operator.errors import ApiError
from gemma_operator.sandbox.simulator.instructions import PREFIX

_DATA = Path(__file__).parents[1] / "data/failures"
#: Made up; whatever holds a part of it is a leak.
_TOKEN = "hf_FAKEfake123FAKEfake123FAKEfake12345"
_SIGNATURE = "deadbeefdeadbeefdeadbeefdeadbeef"
_LOOK_SECONDS = 0.02


def words(name: str) -> str:
    """The text of a recorded failure."""
    return (_DATA / f"{name}.txt").read_text().split("\n", 3)[3].rstrip("\n")


def ends(
    message: str = "", *, code: int = 1, reason: str = "Error", ran: int | None = None
) -> dict[str, str]:
    """An engine that ends so."""
    said = {"exitCode": code, "reason": reason, "message": message}
    return {f"{PREFIX}ends-with": json.dumps(said | ({} if ran is None else {"ranSeconds": ran}))}


def waits(reason: str, name: str) -> dict[str, str]:
    """A container that is never made."""
    return {f"{PREFIX}waits-with": json.dumps({"reason": reason, "message": words(name)})}


@dataclass
class Case:
    """What a deployment's pods do, what is to be said, and whether it is the user's move."""

    does: dict[str, str]
    reason: str
    stalled: bool
    remedy: str
    shown_at: float = 0.0
    said_at: float = 0.0
    seen: Object = field(default_factory=dict)

    @property
    def message(self) -> str:
        return str(condition(self.seen, "Ready")["message"])


def cases() -> dict[str, Case]:
    """By name of the deployment."""
    return {
        "gpu-taken": Case(ends(words("gpu-taken")), "OutOfMemory", True, "hardware.sharedAccelerators"),
        "old-driver": Case(ends(words("driver-too-old")), "DriverTooOld", True, "hardware.pools"),
        "old-driver-2": Case(
            waits("RunContainerError", "driver-container-cli"), "DriverTooOld", True, "hardware.pools"
        ),
        "old-gpu": Case(
            ends(words("gpu-unsupported")), "UnsupportedAccelerator", True, "hardware.accelerators"
        ),
        "lost-gpu": Case(ends("RuntimeError: No CUDA GPUs are available"), "DeviceUnhealthy", True, "cordon"),
        "no-image": Case(
            waits("ErrImagePull", "image-not-found"), "ImageNotFound", True, "serving.engine.image"
        ),
        "denied": Case(
            waits("ImagePullBackOff", "image-denied"), "ImageDenied", True, "pod.imagePullSecrets"
        ),
        "registry": Case(waits("RegistryUnavailable", "image-registry-down"), "ImagePull", False, "registry"),
        "registry-2": Case(
            waits("ErrImagePull", "image-registry-refuses"), "ImagePull", False, "let the nodes reach"
        ),
        "registry-3": Case(
            waits("ErrImagePull", "image-registry-limit"), "ImagePull", False, "pod.imagePullSecrets"
        ),
        "disk": Case(waits("ErrImagePull", "image-disk-full"), "DiskFull", False, "pod.resources"),
        "no-secret": Case(
            waits("CreateContainerConfigError", "secret-key-missing"),
            "SecretMissing",
            True,
            "make the Secret",
        ),
        "no-device": Case(
            waits("CreateContainerError", "runtime-error"), "CannotStart", False, "pod.runtimeClassName"
        ),
        "host": Case(ends(code=137, reason="OOMKilled"), "HostOutOfMemory", False, "pod.resources.memory"),
        "slow": Case(
            ends(code=137, ran=1300), "StartupBudgetExceeded", False, "serving.startupTimeoutSeconds"
        ),
        "crashes": Case(ends("boom: it broke", code=3), "CrashLoop", False, "--previous"),
        "silent": Case(ends(code=139), "CrashLoop", False, "--previous"),
        "gated": Case({f"{PREFIX}weights-fault": "WeightsGated"}, "WeightsGated", True, "licence"),
        "no-repo": Case(ends(words("hub-missing")), "WeightsMissing", True, "model.source"),
        "no-revision": Case(ends(words("hub-revision")), "WeightsMissing", True, "model.source"),
        "no-hub": Case(ends(words("hub-offline")), "HubUnreachable", False, "hub mirror"),
        "bad-token": Case(
            ends(words("hub-token-invalid")), "CredentialInvalid", True, "credentials.huggingFaceToken"
        ),
        "limited": Case(
            {f"{PREFIX}weights-fault": "HubRateLimited"}, "HubRateLimited", False, "weights.cache"
        ),
        "newline": Case(
            ends(f"httpx.LocalProtocolError: Illegal header value b'Bearer {_TOKEN}\\n'"),
            "CredentialMalformed",
            True,
            "without spaces or line breaks",
        ),
        "signed": Case(
            ends(f"OSError: 403 for https://x.s3.amazonaws.com/y?X-Amz-Signature={_SIGNATURE}&a=b"),
            "CrashLoop",
            False,
            "--previous",
        ),
    }


def shows(pods: list[Object]) -> bool:
    """Kubernetes shows that a container of them waits or ended."""
    statuses = [
        status
        for pod in pods
        for kind in ("containerStatuses", "initContainerStatuses")
        for status in pod["status"].get(kind, ())
    ]
    return any(
        status["state"].get("waiting", {}).get("reason") not in (None, "PodInitializing")
        or any(
            (status.get(state) or {}).get("terminated", {}).get("exitCode")
            for state in ("state", "lastState")
        )
        for status in statuses
    )


@pytest.fixture(scope="module")
def failed(new_team: Callable[[], Team], one_operator: Operator) -> tuple[Team, dict[str, Case]]:
    """All of them, once each is said or the time is over."""
    one_operator.ensure_running()
    team, failing = new_team(), cases()
    team.pool("l4", nodes=len(failing))
    began = time.monotonic()
    for name, case in failing.items():
        annotations = {f"{PREFIX}startup-seconds": "0.1", **case.does}
        team.client.create(team.path("GemmaDeployment"), a_deployment(name, pod={"annotations": annotations}))
    while time.monotonic() < began + 180 and not all(case.said_at for case in failing.values()):
        pods: dict[str, list[Object]] = {}
        for pod in team.pods():
            pods.setdefault(pod["metadata"]["labels"].get("gemma-operator.io/deployment", ""), []).append(pod)
        for obj in team.all("GemmaDeployment"):
            look(failing[obj["metadata"]["name"]], obj, pods.get(obj["metadata"]["name"], []))
        time.sleep(_LOOK_SECONDS)
    return team, failing


def look(case: Case, obj: Object, pods: list[Object]) -> None:
    """Takes the time of the first sight of each."""
    now = time.monotonic()
    if not case.shown_at and shows(pods):
        case.shown_at = now
    if not case.said_at and condition(obj, "Ready").get("reason") == case.reason:
        case.said_at = now
    case.seen = obj


@pytest.mark.parametrize("name", sorted(cases()))
def test_a_failure_is_said_with_its_remedy(
    failed: tuple[Team, dict[str, Case]], name: str, figure: Callable[[str], None]
) -> None:
    case = failed[1][name]
    assert case.said_at, condition(case.seen, "Ready")
    assert case.remedy in case.message
    assert bool(condition(case.seen, "Stalled")) is case.stalled
    assert bool(condition(case.seen, "Reconciling")) is not case.stalled
    figure(
        f"{name}: {case.reason} said {max(0.0, case.said_at - case.shown_at):.2f} s after Kubernetes showed it"
    )


def test_no_secret_reaches_status_events_log_or_metrics(
    failed: tuple[Team, dict[str, Case]], one_operator: Operator
) -> None:  # FR-17
    team, failing = failed
    assert failing["newline"].said_at
    assert failing["signed"].said_at
    # the order to the simulator stands in the spec and the pod, where it came from
    shown = {
        "status": json.dumps([obj["status"] for obj in team.all("GemmaDeployment")]),
        "events": json.dumps(team.all("Event")),
        "log": one_operator.log,
        "metrics": one_operator.metrics(),
    }
    leaks = [
        (place, part)
        for place, text in shown.items()
        for part in (_TOKEN[:7], _SIGNATURE[:8])
        if part in text
    ]
    assert leaks == []
    assert "[removed]" in shown["status"]


def restarts(team: Team, name: str) -> int:
    """How often the engine of the only pod was started again."""
    statuses = [each for pod in team.pods(name) for each in pod["status"].get("containerStatuses", ())]
    return sum(each.get("restartCount", 0) for each in statuses)


def test_failures_that_go_on_cost_no_write(failed: tuple[Team, dict[str, Case]]) -> None:
    """Over a whole back-off and a start of each that ends: "back-off 40s" is another message after each end."""
    team, failing = failed
    ending = [name for name, case in failing.items() if f"{PREFIX}ends-with" in case.does]
    until(lambda: all(restarts(team, name) >= 2 for name in ending), what="two restarts", within_seconds=90)
    before, since = {name: restarts(team, name) for name in ending}, team.audit.position
    until(
        lambda: all(restarts(team, name) > before[name] for name in ending),
        what="one restart more",
        within_seconds=330,  # the longest back-off, where the start of this test was late
    )
    assert team.writes(since=since) == []


def test_a_pod_that_is_evicted_is_said_until_the_next_one_has_started(team: Team, operator: Operator) -> None:
    team.pool("l4", nodes=1)
    team.apply(a_deployment(pod={"annotations": {f"{PREFIX}startup-seconds": "600"}}))
    pod = until(lambda: next(iter(team.pods("chat")), None), what="a pod")
    team.tell("chat", startup_seconds="0.1")
    team.ready()
    over = {"phase": "Failed", "reason": "Evicted", "message": words("evicted-memory")}
    team.client.merge(f"{team.path('Pod', pod['metadata']['name'])}/status", {"status": over})
    seen = team.sees("GemmaDeployment", "chat", says("Ready", "False", "Evicted"))
    assert "low on resource: memory" in condition(seen, "Ready")["message"]
    assert condition(seen, "Reconciling")["reason"] == "Evicted"
    until(lambda: len(team.pods("chat")) > 1, what="the next pod")
    team.tell("chat", startup_seconds="0.1")
    team.ready()


def fall_ill(team: Team, device: str) -> None:
    """What the kubelet writes when a device plugin calls a device unhealthy (KEP-4680)."""
    (pod,) = team.pods("chat")
    (status,) = pod["status"]["containerStatuses"]
    devices = {"name": "nvidia.com/gpu", "resources": [{"resourceID": device, "health": "Unhealthy"}]}
    ill = {"containerStatuses": [{**status, "allocatedResourcesStatus": [devices]}]}
    team.client.merge(f"{team.path('Pod', pod['metadata']['name'])}/status", {"status": ill})


def test_a_gpu_that_the_kubelet_calls_unhealthy_is_named(team: Team, operator: Operator) -> None:
    """While the engine still generates beside what serves, then as the reason why nothing does."""
    team.pool("l4", nodes=1)
    team.apply(a_deployment())
    team.ready()
    fall_ill(team, "GPU-5c8a")
    served = team.sees(
        "GemmaDeployment", "chat", lambda obj: "GPU-5c8a" in condition(obj, "Ready").get("message", "")
    )
    assert condition(served, "Ready")["status"] == "True"
    team.tell("chat", fault="unhealthy")
    team.sees("GemmaDeployment", "chat", says("Ready", "False"))
    fall_ill(team, "GPU-5c8a")
    lost = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "DeviceUnhealthy"))
    assert "delete the pod" in condition(lost, "Ready")["message"]


def policy(name: str, namespace: str) -> list[Object]:
    """A ValidatingAdmissionPolicy that lets no pod into one namespace, and its binding."""
    about = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    group = "admissionregistration.k8s.io/v1"
    here = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [about], "namespaceSelector": here},
                "validations": [{"expression": "false", "message": "no pods on a Friday"}],
            },
        },
        {
            "apiVersion": group,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        },
    ]


def test_what_a_policy_of_the_cluster_says_is_said(team: Team, operator: Operator) -> None:
    team.pool("l4", nodes=1)
    made = policy(f"deny-{team.namespace}", team.namespace)
    for each in made:
        team.kubectl("create", "-f", "-", text=json.dumps(each))
    try:
        until(lambda: denies(team), what="the policy is in force")
        team.apply(a_deployment())
        seen = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "AdmissionDenied"))
        assert "no pods on a Friday" in condition(seen, "Ready")["message"]
    finally:
        for each in made:
            team.kubectl("delete", each["kind"].lower(), each["metadata"]["name"])
    team.ready(within_seconds=120)


def denies(team: Team) -> bool:
    """A pod is refused: the API server takes a moment to hear of a new policy."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "x"},
        "spec": {"containers": [{"name": "x", "image": "x"}]},
    }
    try:
        team.client.create(f"{team.path('Pod')}?dryRun=All", pod)
    except ApiError as error:
        return "Friday" in str(error)
    return False
