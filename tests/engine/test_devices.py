"""A GPU that its device plugin calls unhealthy, on a real kubelet: what is shown, what is said, what mends it."""

from __future__ import annotations

import time
from collections.abc import Callable

from cluster.operating import Operator
from cluster.teams import Object, condition, says
from cluster.waiting import until
from engine.houses import RealTeam, stand_in
from engine.nodes import devices, hardships
from engine.nodes.cluster import RealCluster
from engine.scenes.failing import words

#: Into a file that the stand-in looks at when it is asked for a token, and in its next life.
_TELL = "import os, sys; open(os.environ['VLLM_CACHE_ROOT'] + '/fault', 'w').write(sys.argv[1])"


def device_of(pod: Object) -> Object:
    """The one device of its engine, in the kubelet's words."""
    (status,) = pod["status"]["containerStatuses"]
    ((device,),) = (each["resources"] for each in status["allocatedResourcesStatus"])
    return dict(device)


def message(obj: Object) -> str:
    return str(condition(obj, "Ready")["message"])


def test_a_gpu_that_falls_ill_is_named_while_its_engine_generates_and_blamed_when_it_does_not(
    team: RealTeam, operator: Operator, installed: RealCluster, figure: Callable[[str], None]
) -> None:
    team.apply(stand_in())
    team.ready("chat", within_seconds=120)
    (pod,) = team.pods("chat")
    name, node, device = pod["metadata"]["name"], pod["spec"]["nodeName"], device_of(pod)["resourceID"]
    all_of_them = devices.counted(installed, node)

    def shown() -> float:
        until(lambda: device_of(team.get("Pod", name))["health"] == "Unhealthy", what="Kubernetes shows it")
        return time.monotonic()

    with hardships.ill_device(installed, node, device):
        began = shown()
        served = team.sees("GemmaDeployment", "chat", lambda obj: device in message(obj))
        figure(f"device unhealthy: named {time.monotonic() - began:.1f} s after Kubernetes showed it")
        assert condition(served, "Ready")["status"] == "True", "it generates"
        until(lambda: devices.counted(installed, node) == all_of_them - 1, what="one less for new pods")
    team.sees("GemmaDeployment", "chat", lambda obj: device not in message(obj))

    team.kubectl("exec", name, "--", "python3", "-c", _TELL, words("gpu-lost"))
    with hardships.ill_device(installed, node, device):
        began = shown()
        lost = team.sees("GemmaDeployment", "chat", says("Stalled", "True", "DeviceUnhealthy"))
        figure(
            f"device lost: not Ready {time.monotonic() - began:.1f} s after Kubernetes showed it unhealthy"
        )
        assert condition(lost, "Ready")["status"] == condition(lost, "Healthy")["status"] == "False"
        assert f"nvidia.com/gpu {device} of pod {name}" in message(lost)
        assert "delete the pod" in message(lost)

        deleted = time.monotonic()
        team.kubectl("delete", "pod", name)
        team.ready("chat", within_seconds=60)
        figure(f"device lost: Ready on another {time.monotonic() - deleted:.1f} s after its pod was deleted")
        (successor,) = team.pods("chat")
        assert device_of(successor)["resourceID"] != device
