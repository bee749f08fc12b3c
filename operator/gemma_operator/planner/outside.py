"""What must find room in the part of a card that `--gpu-memory-utilization` leaves alone.

The engine asks at its start for all that utilization names, so what its own CUDA context takes lies outside; and
what its profiling run does not see is given to the KV cache although it is taken. Both kill a start whose sum fits.

Source: vLLM v1/worker/utils.py, request_memory ("Free memory on device ... is less than desired GPU memory
utilization"); utils/mem_utils.py of 0.26.0 and 0.27.1 for sleep mode. Not for host memory shared with the GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gemma_operator.catalog.overheads import OverheadModel
from gemma_operator.planner.memory import Device
from gemma_operator.planner.values import Request
from gemma_operator.planner.vllm import versions
from gemma_operator.planner.words import gib

MIB: Final = 1024**2
GIB: Final = 1024**3
_WHOLE: Final = 10_000
SLEEP_MODE: Final = "enable-sleep-mode"


@dataclass(frozen=True, slots=True)
class Outside:
    """What one request has there."""

    model: OverheadModel
    #: Taken, and not seen by the profiling run.
    hidden_bytes: int

    def refusal(self, device: Device) -> str | None:
        """Why the engine would not start."""
        left = device.left_alone_bytes
        # the setting, not what is left: of a device with nothing to use, nothing is left either
        if device.utilization_basis_points >= _WHOLE:
            return (
                "a utilization of 1 asks for the whole card, and the engine's own CUDA context has a part of it:"
                " it would not start; take 0.98 at most"
            )
        if self.hidden_bytes > left:
            since = self.model.sleep_mode_seen_since
            return (
                f"sleep mode hides about {gib(self.hidden_bytes // MIB)} from the profiling run of engines before"
                f" {since}, and {gib(left // MIB)} of the card are left alone: take {since} or newer, or a lower"
                " --gpu-memory-utilization"
            )
        return None

    def doubts(self, device: Device) -> tuple[str, ...]:
        """Why a start may fail although the sum fits with the band to spare."""
        left, said = device.left_alone_bytes, []
        if left < self.model.base_gib * GIB:
            said.append(f"whether {left // MIB} MiB that are left alone hold the engine's own CUDA context")
        if self.hidden_bytes:
            said.append(
                f"what sleep mode hides from the profiling run: {gib(self.hidden_bytes // MIB)} in two logs"
            )
        return tuple(said)


def of(request: Request, model: OverheadModel) -> Outside:
    """Sleep mode is hidden up to a version."""
    flags: Mapping[str, str] = dict(request.engine_overrides)
    hides = versions.parse(request.engine_version) < versions.parse(model.sleep_mode_seen_since)
    asleep = hides and flags.get(SLEEP_MODE, "false") != "false"
    return Outside(model, int(model.hidden_by_sleep_mode_gib * GIB) if asleep else 0)
