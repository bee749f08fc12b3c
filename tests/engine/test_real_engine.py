"""A real vLLM on a real node with what a team asks for: weights from a hub, and a key on every path."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cluster.operating import Operator
from cluster.rolling import has_ended
from cluster.teams import Object, condition, says
from cluster.waiting import until
from engine.houses import RealTeam, tiny
from engine.model import environment

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())

_FROM_HUB = Path(__file__).with_name("manifests") / "tiny-from-hub.yaml"
KEY = "of-the-team"
#: A kubelet's sync period, and what it may lag.
_SYNCED_SECONDS = 180.0
_SPACE = "VLLM_CPU_KVCACHE_SPACE"
#: Prints the status of an answer.
_STATUS = (
    "import json, sys, urllib.request, urllib.error\n"
    "url, key = sys.argv[1:]\n"
    "body = json.dumps({'model': 'tiny', 'prompt': 'x', 'max_tokens': 3}).encode()\n"
    "headers = {'Content-Type': 'application/json', **({'Authorization': 'Bearer ' + key} if key else {})}\n"
    "try: print(urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)\n"
)


def status(team: RealTeam, url: str, key: str = "") -> str:
    return team.kubectl("exec", "client", "--", "python3", "-c", _STATUS, url, key).strip()


def test_weights_from_the_hub_and_a_key_on_every_path(
    team: RealTeam, operator: Operator, hub: None, figure: Callable[[str], None]
) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}}
    team.create({**secret, "data": {"chat": base64.b64encode(f"{KEY}\n".encode()).decode()}})
    began = time.monotonic()
    asked: Object = yaml.safe_load(_FROM_HUB.read_text())
    asked["spec"]["access"] = {"apiKey": {"secretKeyRef": {"name": "keys", "key": "chat"}}}
    team.apply(asked)
    team.client_pod("client", node="node-a")
    made = team.ready("tiny", within_seconds=400)
    figure(f"apply to Ready of a real vLLM with weights from a hub: {time.monotonic() - began:.0f} s")
    url = made["status"]["endpoint"]["url"]
    for path in ("/completions", "/../invocations", "/../tokenize", "/../scale_elastic_ep"):
        assert status(team, f"{url}{path}".replace("/v1/..", "")) == "401", path
    assert status(team, f"{url}/completions", KEY) == "200"
    assert status(team, f"{url}/../invocations".replace("/v1/..", ""), KEY) == "200"
    (pod,) = team.pods("tiny")
    used = team.kubectl("exec", pod["metadata"]["name"], "--", "python3", "-c", _USED)
    assert used.strip() == "True", (
        "the weights lie in the mounted cache, and the root of the container is as it was"
    )
    phases = {phase["phase"]: phase["seconds"] for phase in made["status"]["startup"]}
    figure(f"phases of that start, in seconds: {phases}")
    assert {"capacity", "image", "download", "load", "firstToken"} <= phases.keys()
    _keys_go_and_come_back(team, secret, pod, f"{url}/completions", figure)


def _keys_go_and_come_back(
    team: RealTeam, secret: Object, pod: Object, url: str, figure: Callable[[str], None]
) -> None:
    """A Ready that lets nobody in would lie; the kubelet brings what a Secret says within a minute or two."""
    team.create({**secret, "data": {"chat": ""}})
    until(lambda: status(team, url, KEY) == "401", what="nobody is let in", within_seconds=_SYNCED_SECONDS)
    gone = time.monotonic()
    found = team.sees("GemmaDeployment", "tiny", says("Ready", "False"), within_seconds=60)
    figure(f"keys of a serving replica: their lack said {time.monotonic() - gone:.1f} s after the first 401")
    assert condition(found, "Ready")["reason"] == "SecretMissing"
    team.create({**secret, "data": {"chat": base64.b64encode(KEY.encode()).decode()}})
    team.ready("tiny", within_seconds=_SYNCED_SECONDS)
    (same,) = team.pods("tiny")
    assert same["metadata"]["uid"] == pod["metadata"]["uid"]
    assert [each["restartCount"] for each in same["status"]["containerStatuses"]] == [0]


#: Whether weights are below /cache and nowhere else in what the container may write.
_USED = (
    "import pathlib\n"
    "found = [str(f) for top in ('/cache', '/tmp', '/root', '/home', '/var', '/mnt')"
    " for f in pathlib.Path(top).rglob('*.safetensors') if f.is_file()]\n"
    "print(bool(found) and all(f.startswith('/cache/') for f in found))\n"
)


def test_what_a_real_engine_refuses_is_told_and_never_tried_for_ever(
    team: RealTeam, operator: Operator, figure: Callable[[str], None]
) -> None:
    """vLLM's own words, through the container's first process, the kubelet and the status."""
    asked = tiny()
    variables = [v for v in asked["spec"]["serving"]["engine"]["env"] if v["name"] != _SPACE]
    asked["spec"]["serving"]["engine"]["env"] = [*variables, {"name": _SPACE, "value": "0"}]
    team.apply(asked)
    until(
        lambda: any(map(has_ended, team.pods("tiny"))),
        what="Kubernetes shows that the engine ended",
        within_seconds=300,
    )
    shown = time.monotonic()
    stalled = team.sees("GemmaDeployment", "tiny", says("Stalled", "True"), within_seconds=300)
    figure(f"a real engine's refusal was final {time.monotonic() - shown:.0f} s after its first end")
    said = condition(stalled, "Stalled")
    assert said["reason"] == "KvCacheTooSmall"
    assert (
        f"planned again with {stalled['status']['plan']['correctionMiB']} MiB a GPU more" in said["message"]
    )
    assert [event["reason"] for event in team.events("tiny")].count("Replanned") == 1
