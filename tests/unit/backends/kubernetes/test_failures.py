"""Each failure by its reason, as Kubernetes shows it; its words are those of tests/data/failures."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gemma_operator.api.conditions import MESSAGE_MAX_LENGTH, Reason
from gemma_operator.backends.kubernetes.containers import Container
from gemma_operator.backends.kubernetes.failures import evicted, not_made, trouble, unhealthy
from gemma_operator.scrub import scrub
from snapshots import a_replica

DATA = Path(__file__).parents[3] / "data/failures"


@dataclass(frozen=True)
class Recorded:
    name: str
    reason: Reason
    shown: str
    word: str
    text: str


def recorded(path):
    *head, text = path.read_text().split("\n", 3)
    said = dict(line.removeprefix("# ").split(": ", 1) for line in head)
    assert said["source"]
    shown, _, word = said["shown as"].partition(" ")
    return Recorded(path.stem, Reason(said["reason"]), shown, word, text.rstrip("\n"))


ALL = [recorded(path) for path in sorted(DATA.glob("*.txt")) if not path.stem.endswith("-log")]
OF_A_CONTAINER = [each for each in ALL if each.shown in ("ended", "waiting")]


def starting(**changes):
    """A pod whose engine has not passed its start-up probe."""
    return a_replica("chat-x1", ready=False, started=False, phase="Pending", **changes)


def fields(each):
    if each.shown == "waiting":
        return {"waiting_reason": each.word, "waiting_message": each.text}
    return {"terminated_reason": "Error", "terminated_message": each.text, "exit_code": 1, "restarts": 1}


def found_of(each):
    if each.shown == "not":
        failure = {"type": "ReplicaFailure", "status": "True", "message": each.text}
        return not_made({"conditions": [failure]})
    if each.shown == "failed":
        over = starting(pod_reason=each.word, pod_message=each.text, intent="i")
        return evicted([replace(over, phase="Failed")], intent="i")
    if each.shown == "disrupted":
        going = starting(disruption=each.word, disruption_message=each.text, intent="i", terminating=True)
        return evicted([going], intent="i")
    return trouble([starting(**fields(each))])


def ids(each):
    return each.name


@pytest.mark.parametrize("each", ALL, ids=ids)
def test_a_recorded_failure_has_its_reason_its_words_and_its_remedy(each):
    found = found_of(each)
    assert found.reason is each.reason
    assert len(found.message) <= MESSAGE_MAX_LENGTH - 60, "there must be room for what is said around it"
    assert found.message == scrub(found.message)
    said = found.message.rpartition("; ")[2]
    assert said
    assert "POD" not in said


@pytest.mark.parametrize("each", OF_A_CONTAINER, ids=ids)
def test_the_same_failure_of_a_container_before_the_engine_has_the_same_reason(each):
    before = Container("weights", **fields(each))
    found = trouble([starting(waiting_reason="PodInitializing", held_up_by=before)])
    assert found.reason is each.reason


@pytest.mark.parametrize("each", [each for each in ALL if each.shown == "ended"], ids=ids)
def test_of_an_engine_that_started_anew_the_last_words_are_of_the_past(each):
    assert trouble([a_replica(**fields(each))]) is None


def test_every_reason_of_a_pod_that_is_read_from_words_was_recorded():
    by_words = {each.reason for each in ALL}
    assert by_words >= {
        *(Reason.KV_CACHE_TOO_SMALL, Reason.OUT_OF_MEMORY, Reason.DRIVER_TOO_OLD),
        *(Reason.UNSUPPORTED_ACCELERATOR, Reason.WEIGHTS_GATED, Reason.WEIGHTS_MISSING),
        *(Reason.HUB_RATE_LIMITED, Reason.HUB_UNREACHABLE, Reason.CREDENTIAL_INVALID),
        *(Reason.CREDENTIAL_MALFORMED, Reason.IMAGE_PULL, Reason.IMAGE_NOT_FOUND, Reason.IMAGE_DENIED),
        *(Reason.DISK_FULL, Reason.SECRET_MISSING, Reason.CANNOT_START, Reason.EVICTED),
        *(Reason.QUOTA_EXCEEDED, Reason.ADMISSION_DENIED, Reason.DEVICE_UNHEALTHY),
    }


@pytest.mark.parametrize("name", ["kv-cache-too-small", "kv-cache-too-small-0.20"])
def test_both_figures_of_a_memory_refusal_are_in_the_message(name):
    found = found_of(recorded(DATA / f"{name}.txt"))
    assert len(re.findall(r"[\d.]+ GiB", found.message)) == 2


@pytest.mark.parametrize("each", [each for each in ALL if each.name.startswith("image-")], ids=ids)
def test_why_an_image_does_not_come_stands_last_and_is_not_cut_off(each):
    message = found_of(each).message
    cause = each.text.rpartition(": ")[2]
    assert cause[:40] in message
    assert "rpc error" not in message


def test_an_engine_that_ends_without_a_word_is_said_to_while_it_starts_once_more():
    back_off = starting(waiting_reason="CrashLoopBackOff", exit_code=139, restarts=2)
    runs_again = starting(exit_code=139, restarts=2)
    assert trouble([back_off]) == trouble([runs_again])
    assert "exit code 139 (SIGSEGV)" in trouble([runs_again]).message
    assert trouble([starting(exit_code=139, restarts=1)]) is None, "once is no loop"


class TestHostMemory:
    def test_it_is_what_kubernetes_calls_so_and_names_what_to_change(self):
        found = trouble([starting(terminated_reason="OOMKilled", exit_code=137, restarts=1)])
        assert (found.reason, found.final) == (Reason.HOST_OUT_OF_MEMORY, False)
        assert "pod.resources.memory" in found.message

    def test_the_third_time_is_for_the_user(self):
        assert trouble([starting(terminated_reason="OOMKilled", exit_code=137, restarts=2)]).final

    def test_137_alone_is_not(self):
        found = trouble(
            [starting(terminated_reason="Error", exit_code=137, waiting_reason="CrashLoopBackOff")]
        )
        assert found.reason is Reason.CRASH_LOOP
        assert "exit code 137 (SIGKILL)" in found.message


class TestStartupBudget:
    def slow(self, **changes):
        ended = {"terminated_reason": "Error", "exit_code": 137, "restarts": 1, "ran_seconds": 640}
        return trouble([starting(**{**ended, **changes})], budget_seconds=600)

    @pytest.mark.parametrize("exit_code", [0, 1, 137, 143])
    def test_one_that_ran_for_its_budget_and_was_never_ready(self, exit_code):
        found = self.slow(exit_code=exit_code)
        assert (found.reason, found.final) == (Reason.STARTUP_BUDGET_EXCEEDED, False)
        assert "600 seconds" in found.message
        assert "serving.startupTimeoutSeconds" in found.message

    def test_not_one_that_had_served(self):
        found = self.slow(had_been_ready=True, waiting_reason="CrashLoopBackOff")
        assert found.reason is Reason.CRASH_LOOP

    def test_not_one_that_ended_before(self):
        assert self.slow(ran_seconds=580, waiting_reason="CrashLoopBackOff").reason is Reason.CRASH_LOOP

    def test_not_one_that_said_why(self):
        words = "torch.OutOfMemoryError: CUDA out of memory."
        assert self.slow(terminated_message=words).reason is Reason.OUT_OF_MEMORY


class TestWeights:
    def said(self, message):
        before = Container("weights", terminated_message=message, exit_code=1, terminated_reason="Error")
        return trouble([starting(waiting_reason="PodInitializing", held_up_by=before)])

    def test_the_word_of_what_brings_them_is_taken(self):
        found = self.said('{"reason": "WeightsGated", "message": "the hub answers 403 for google/x"}')
        assert (found.reason, found.final) == (Reason.WEIGHTS_GATED, True)
        assert "the hub answers 403 for google/x" in found.message
        assert "accept the licence" in found.message

    @pytest.mark.parametrize("reason", ["Serving", "Planned", "Whatever"])
    def test_a_word_that_is_none_of_its_own_is_an_excerpt(self, reason):
        found = self.said(f'{{"reason": "{reason}", "message": "x"}}')
        assert found is None or found.reason is Reason.CRASH_LOOP

    def test_no_token_comes_with_it(self):
        found = self.said(
            '{"reason": "CredentialInvalid", "message": "the hub answers 401 to hf_FAKEfake123"}'
        )
        assert "hf_FAKE" not in found.message


class TestDevices:
    def test_a_gpu_that_the_kubelet_calls_unhealthy_comes_before_all_that_it_causes(self):
        words = "RuntimeError: CUDA error: unspecified launch failure"
        ill = starting(unhealthy_devices=("nvidia.com/gpu GPU-1",), terminated_message=words, restarts=3)
        found = trouble([ill])
        assert (found.reason, found.final) == (Reason.DEVICE_UNHEALTHY, True)
        assert "nvidia.com/gpu GPU-1 of pod chat-x1" in found.message
        assert "`kubectl describe node node-1`" in found.message

    @pytest.mark.parametrize(
        "words",
        [
            "RuntimeError: No CUDA GPUs are available",
            "torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered",
        ],
    )
    def test_an_engine_may_say_so_itself(self, words):
        found = trouble([starting(terminated_message=words, restarts=1)])
        assert found.reason is Reason.DEVICE_UNHEALTHY

    def test_healthy_ones_are_no_trouble(self):
        assert unhealthy([a_replica()]) is None


class TestEvictions:
    def gone(self, **changes):
        over = starting(pod_reason="Evicted", pod_message="low on memory", intent="i", **changes)
        return replace(over, phase="Failed", started_at="2026-11-25T08:00:00Z")

    def next_pod(self, **changes):
        return a_replica("chat-x2", intent="i", started_at="2026-11-25T08:10:00Z", **changes)

    def test_it_is_said_while_the_next_one_has_not_started(self):
        found = evicted([self.gone(), self.next_pod(started=False)], intent="i")
        assert (found.reason, found.final) == (Reason.EVICTED, False)

    @pytest.mark.parametrize("later", [{"started": True}, {"started": False, "restarts": 1}])
    def test_it_is_of_the_past_once_the_next_one_has(self, later):
        assert evicted([self.gone(), self.next_pod(**later)], intent="i") is None

    def test_it_is_of_the_past_for_another_generation(self):
        assert evicted([self.gone()], intent="j") is None

    def test_a_pod_that_somebody_drains_is_no_failure(self):
        drained = starting(disruption="EvictionByEvictionAPI", intent="i", terminating=True)
        assert evicted([drained], intent="i") is None

    def test_a_pod_that_its_node_refused_is_not_evicted(self):
        refused = replace(self.gone(), pod_reason="UnexpectedAdmissionError")
        assert evicted([refused], intent="i") is None


def test_a_webhook_that_does_not_answer_is_waited_for_and_one_that_denies_is_not():
    down, denies = (found_of(recorded(DATA / f"{name}.txt")) for name in ("webhook-down", "webhook"))
    assert (down.final, denies.final) == (False, True)


def test_a_sidecar_that_does_not_come_up_is_named():
    beside = Container("istio-proxy", waiting_reason="CrashLoopBackOff", exit_code=1, restarts=4)
    found = trouble([a_replica(ready=False, held_up_by=beside)])
    assert found.reason is Reason.CRASH_LOOP
    assert "container istio-proxy of pod chat-0" in found.message


def test_the_same_pods_in_another_order_say_the_same():
    pods = [
        replace(starting(waiting_reason="ErrImagePull", waiting_message="x"), name="b"),
        replace(starting(waiting_reason="ErrImagePull", waiting_message="y"), name="a"),
        replace(starting(terminated_message="CUDA out of memory", restarts=1), name="c"),
    ]
    assert trouble(pods) == trouble(pods[::-1])
    assert trouble(pods).reason is Reason.OUT_OF_MEMORY


def test_an_image_that_a_kubelet_does_not_explain_is_an_image_all_the_same():
    found = trouble([starting(waiting_reason="ImagePullBackOff", waiting_message="Back-off pulling image")])
    assert (found.reason, found.final) == (Reason.IMAGE_PULL, False)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("image-registry-refuses", "let the nodes reach the registry"),
        ("image-registry-no-host", "let the nodes reach the registry"),
        ("image-registry-no-token", "let the nodes reach the registry"),
        ("image-registry-down", "let the nodes reach the registry"),
        ("image-registry-certificate", "the registry's certificate"),
        ("image-registry-limit", "pod.imagePullSecrets"),
        ("image-not-found", "correct serving.engine.image"),
        ("image-denied", "name a Secret with the registry's credentials"),
    ],
)
def test_why_an_image_does_not_come_has_a_remedy_of_its_own(name, remedy):
    (each,) = [each for each in ALL if each.name == name]
    found = found_of(each)
    assert remedy in found.message
    assert found.final is (each.reason is not Reason.IMAGE_PULL)
