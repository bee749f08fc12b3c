"""Real engines that end in their start: what each leaves to the kubelet, and as what the operator reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.model import environment, models
from engine.model.process import Starting, changed, planned
from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes import setbacks
from gemma_operator.backends.kubernetes.containers import Container, container
from gemma_operator.backends.kubernetes.failures import trouble
from snapshots import a_replica

_MANIFEST = Path(__file__).parent / "manifests/tiny-from-claim.yaml"
_ENDS_WITHIN_SECONDS = 180
_SPACE = "VLLM_CPU_KVCACHE_SPACE"

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())


def _changed(*arguments: str, model: str = models.TINY, **variables: str) -> dict[str, Any]:
    return changed(planned(_MANIFEST)[1], *arguments, model=model, **variables)


def _ended(engine: Starting) -> Container:
    """As the kubelet writes it into the pod's status."""
    code = engine.ended(within_seconds=_ENDS_WITHIN_SECONDS)
    ended = {"exitCode": code, "reason": "Error", "message": engine.last_words}
    return container({"name": "engine", "restartCount": 1, "lastState": {"terminated": ended}})


def _said(ended: Container) -> tuple[Reason, str]:
    replica = a_replica(
        ready=False,
        started=False,
        restarts=1,
        exit_code=ended.exit_code,
        terminated_reason=ended.terminated_reason,
        terminated_message=ended.terminated_message,
    )
    found = trouble([replica])
    assert found is not None
    return found.reason, found.message


def test_an_engine_with_half_of_its_weights_answers_nobody_and_says_why_it_ends(tmp_path: Path) -> None:
    with Starting(_changed(model=models.TORN), folder=tmp_path) as engine:
        done = engine.probe()
        assert done.returncode == 1
        assert done.stderr.startswith("no answer: ")
        ended = _ended(engine)
    assert ended.exit_code == 1
    assert (
        "SafetensorError: Error while deserializing header: incomplete metadata" in ended.terminated_message
    )
    assert "incomplete metadata, file not fully covered" in _said(ended)[1]


def test_an_engine_without_any_room_for_its_cache_is_read_as_that(tmp_path: Path) -> None:
    with Starting(_changed(**{_SPACE: "0"}), folder=tmp_path) as engine:
        ended = _ended(engine)
    assert _said(ended)[0] is Reason.KV_CACHE_TOO_SMALL
    refused = setbacks.read(ended.terminated_message)
    assert refused is not None
    assert (refused.reason, refused.kv_cache_mib) == (Reason.KV_CACHE_TOO_SMALL, 0)


def test_an_engine_with_too_small_a_cache_says_how_small_it_is(tmp_path: Path) -> None:
    """The text of vLLM's that a GPU's engine prints too (v1/core/kv_cache_utils.py, for every platform)."""
    longer = _changed("--max-model-len", "2000000", VLLM_ALLOW_LONG_MAX_MODEL_LEN="1", **{_SPACE: "1"})
    with Starting(longer, folder=tmp_path) as engine:
        ended = _ended(engine)
    assert _said(ended)[0] is Reason.KV_CACHE_TOO_SMALL
    refused = setbacks.read(ended.terminated_message)
    assert refused is not None
    assert (refused.reason, refused.kv_cache_mib) == (Reason.KV_CACHE_TOO_SMALL, 1024)
    assert refused.short_mib > 0


def test_an_engine_that_refuses_a_setting_says_which(tmp_path: Path) -> None:
    """pydantic puts the reason below its name, indented as a traceback is."""
    with Starting(_changed("--max-model-len", "2000000"), folder=tmp_path) as engine:
        ended = _ended(engine)
    assert "validation error for ModelConfig" in ended.terminated_message
    assert "max_model_len (2000000) is greater than the derived max_model_len" in ended.terminated_message
