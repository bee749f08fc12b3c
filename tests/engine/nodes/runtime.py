"""What a node's container runtime gives to every container: vLLM's packages, as NVIDIA's gives the driver's files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from engine.model.image import PACKAGES
from engine.nodes import packages


def base_spec(debian: Path, vllm_packages: Path | None) -> str:
    """containerd's `base_runtime_spec`: its own, and vLLM's packages read-only (docs/decisions/0063)."""
    done = subprocess.run(
        [str(debian / "usr/bin/ctr"), "oci", "spec"],
        env=packages.environment(debian),
        capture_output=True,
        text=True,
        check=True,
    )
    spec: dict[str, Any] = json.loads(done.stdout)
    if vllm_packages is not None:
        options = ["rbind", "ro", "nosuid", "nodev"]
        place = {"destination": PACKAGES, "type": "bind", "source": str(vllm_packages), "options": options}
        spec["mounts"].append(place)
    return json.dumps(spec)
