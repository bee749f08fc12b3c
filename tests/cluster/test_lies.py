"""Ways in which an endpoint can look well and not be: what only the address, or only time, gives away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from cluster.teams import Team, a_deployment, condition, says
from cluster.waiting import throughout, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("operator")]

#: `contestWindowSeconds` of the operator under test; 600 by default, and then all pauses are as much longer.
WINDOW_SECONDS = 20
MOST_WRITES = 5
_MISDIRECTS = 'op: "replace", path: "/spec/ports/0/targetPort", value: 9999'
_MIRRORS = 'op: "replace", path: "/spec/template/spec/containers/0/image", value: "mirror.example.com/vllm:1"'
_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture
def chat(team: Team):
    """One replica, Ready."""
    pool = team.pool("l4", nodes=2)
    team.apply(a_deployment("chat", hardware={"pools": [pool]}))
    return team.ready("chat")


def mutate(team: Team, resource: str, group: str, patch: str) -> tuple[str, ...]:
    """Somebody's admission policy patches the team's objects of one kind at every write; its paths."""
    name = f"mutate-{resource}-{team.namespace}"
    matched = {"matchLabels": {"kubernetes.io/metadata.name": team.namespace}}
    policy = {
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "namespaceSelector": matched,
                "resourceRules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [resource],
                    }
                ],
            },
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [
                {
                    "patchType": "JSONPatch",
                    "jsonPatch": {"expression": f"[JSONPatch{{{patch}}}]"},
                }
            ],
        },
    }
    team.client.create(f"{_ADMISSION}/mutatingadmissionpolicies", policy)
    binding = {"metadata": {"name": name}, "spec": {"policyName": name}}
    team.client.create(f"{_ADMISSION}/mutatingadmissionpolicybindings", binding)
    kinds = ("mutatingadmissionpolicybindings", "mutatingadmissionpolicies")
    return tuple(f"{_ADMISSION}/{kind}/{name}" for kind in kinds)


@pytest.fixture
def misdirected(team: Team) -> Iterator[Callable[[], None]]:
    """A policy sends the team's Services to a port where nothing listens; call it to take the policy away."""
    standing = list(mutate(team, "services", "", _MISDIRECTS))

    def end() -> None:
        while standing:
            team.client.delete(standing.pop(0))

    yield end
    end()


def test_pods_answer_and_the_address_does_not(team: Team, chat, misdirected, figure):  # FR-06
    """vllm-project/router#158: every worker was healthy, every request over the published path failed."""
    assert says("Ready", "True")(chat)
    service = team.path("Service", "chat")
    until(lambda: _misdirected(team, service), what="the policy is in force")
    since, began = team.audit.position, time.monotonic()
    gone = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "Conflict"))
    figure(f"a policy that misdirects a Service was said after {time.monotonic() - began:.1f} s")
    message = condition(gone, "Ready")["message"]
    assert condition(gone, "Ready")["status"] == "False"
    assert "admission webhook or policy changes spec.ports[http].targetPort of Service chat" in message
    until(lambda: says("Healthy", "False")(team.get("GemmaDeployment", "chat")), what="Healthy is False")
    throughout(
        lambda: says("Ready", "False", "Conflict")(team.get("GemmaDeployment", "chat")),
        what="Ready stays False",
        seconds=WINDOW_SECONDS - (time.monotonic() - began),
    )
    tried = writes_of(team, "Service", since)
    figure(f"writes of a Service that a policy misdirects, within a window: {tried}")
    assert 2 <= tried <= MOST_WRITES, "a field that is changed back is tried again, and not fought over"
    misdirected()
    team.ready(within_seconds=3 * WINDOW_SECONDS)
    assert team.get("Service", "chat")["spec"]["ports"][0]["targetPort"] != 9999
    at_rest(team)


def test_a_mirror_of_images_that_admission_sets_is_remarked_and_left_so(team: Team):
    pool = team.pool("l4", nodes=1)
    paths = mutate(team, "deployments", "apps", _MIRRORS)
    try:
        until(lambda: _mirrored(team), what="the policy is in force")
        team.apply(a_deployment("chat", hardware={"pools": [pool]}))
        ready = team.ready("chat")
        stands = team.get("Deployment", "chat")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert stands == "mirror.example.com/vllm:1", "the policy is in force"
        remark = "admission changes spec.template.spec.containers[engine].image of Deployment chat"
        assert remark in condition(ready, "Provisioned")["message"]
        at_rest(team)
    finally:
        for path in paths:
            team.client.delete(path)


def test_a_controller_that_takes_a_field_back_is_named_and_not_fought_over(team: Team, chat, figure):
    since, began = team.audit.position, time.monotonic()
    taken = 0
    while time.monotonic() < began + WINDOW_SECONDS:
        taken += _opens(team)
        time.sleep(0.1)  # as often as such a controller looks
    tried = writes_of(team, "NetworkPolicy", since)
    figure(f"writes of a NetworkPolicy that was opened {taken} times within a window: {tried}")
    assert 2 <= tried <= MOST_WRITES
    said = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "Conflict"))
    message = condition(said, "Ready")["message"]
    live = team.get("NetworkPolicy", "chat")
    theirs = [
        entry["manager"] for entry in live["metadata"]["managedFields"] if entry["operation"] == "Update"
    ]
    assert f"field manager {theirs[-1]} changes spec.ingress[0]" in message
    assert says("Healthy", "True")(said), "who is let in is another matter than whether it answers"
    team.ready(within_seconds=3 * WINDOW_SECONDS)
    at_rest(team)


def test_a_deployment_that_somebody_keeps_from_going_is_not_ready_any_more(team: Team, chat):
    path = team.path("GemmaDeployment", "chat")
    team.client.merge(path, {"metadata": {"finalizers": ["backup.example.com/kept"]}})
    team.delete("GemmaDeployment", "chat")
    going = team.sees("GemmaDeployment", "chat", says("Ready", "False", "Deleting"))
    assert "backup.example.com/kept" in condition(going, "Ready")["message"]
    assert says("Healthy", "True")(going), "what it owns goes when it has gone"
    at_rest(team)
    team.client.merge(path, {"metadata": {"finalizers": None}})
    team.gone("GemmaDeployment", "chat")


def _opens(team: Team) -> bool:
    """Lets everybody in, unless that is so already."""
    if team.get("NetworkPolicy", "chat")["spec"]["ingress"] == [{}]:
        return False
    team.change("chat", {"ingress": [{}]}, kind="NetworkPolicy")
    return True


def writes_of(team: Team, kind: str, since: int) -> int:
    """How often the operator wrote objects of one kind."""
    return sum(1 for write in team.writes(since=since) if write.kind == kind)


def at_rest(team: Team) -> None:
    """What was said is written, and nothing more is."""
    since = team.told()
    throughout(lambda: not team.writes(since=since), what="nothing is written at rest", seconds=3)


def _misdirected(team: Team, service: str) -> bool:
    touched = team.client.merge(service, {"metadata": {"annotations": {"touched": str(time.monotonic_ns())}}})
    return touched["spec"]["ports"][0]["targetPort"] == 9999


def _mirrored(team: Team) -> bool:
    """What becomes of a Deployment that is tried and not made."""
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod}
    tried = team.client.create(
        f"{team.path('Deployment')}?dryRun=All", {"metadata": {"name": "x"}, "spec": spec}
    )
    return tried["spec"]["template"]["spec"]["containers"][0]["image"] != "x"
