"""A real vLLM that is told to go while it starts: nobody waits for it, and nothing of it stays."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.model import environment
from engine.model.process import Starting, planned

_MANIFEST = Path(__file__).parent / "manifests/tiny-from-claim.yaml"
_REACHED_WITHIN_SECONDS = 120

pytestmark = pytest.mark.skipif(bool(environment.why_not()), reason=environment.why_not())


def _runs_python(engine: Starting) -> bool:
    return bool(engine.processes)


def _builds_its_engine(engine: Starting) -> bool:
    """Its own signal handlers are there, on both sides, and a SIGTERM alone would be swallowed."""
    return "VLLM::EngineCor" in engine.processes  # the kernel keeps 15 letters of a name


@pytest.mark.parametrize("stage", [_runs_python, _builds_its_engine])
def test_an_engine_that_is_told_to_go_in_its_start_is_gone_soon_with_all_its_processes(
    stage: Callable[[Starting], bool], tmp_path: Path, figure: Callable[[str], None]
) -> None:
    with Starting(planned(_MANIFEST)[1], folder=tmp_path) as engine:
        _wait_for(stage, engine)
        engine.terminate()
        told = time.monotonic()
        assert engine.ended(within_seconds=15) == 128 + signal.SIGTERM
        figure(f"a vLLM that {stage.__name__[1:]} is gone {time.monotonic() - told:.1f} s after SIGTERM")
        assert engine.processes == []
        assert engine.last_words == "Told to end (SIGTERM) before it listened on port 8000."


def _wait_for(stage: Callable[[Starting], bool], engine: Starting) -> None:
    deadline = time.monotonic() + _REACHED_WITHIN_SECONDS
    while not stage(engine):
        assert time.monotonic() < deadline, f"{stage.__name__}: {engine.log[-2000:]}"
        time.sleep(0.05)
