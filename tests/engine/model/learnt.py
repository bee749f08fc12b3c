"""Has vLLM look at the class of our models, which each start would do in a process of its own: a third of a start.

What it finds it keeps below its cache's root, with a hash of the class's source; in a copy of that it finds it as well.

Run in a process of its own, by the environment that has vLLM: `python learnt.py FOLDER`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

#: The architectures in the config.json of tiny_model.py.
_CLASSES = ("Gemma4ForCausalLM",)


def main(folder: str) -> None:
    """Leave what vLLM keeps of each class in `folder`/modelinfos."""
    os.environ["VLLM_CACHE_ROOT"] = folder
    from vllm.model_executor.models.registry import ModelRegistry  # noqa: PLC0415 - after its cache has a place

    for name in _CLASSES:
        ModelRegistry.models[name].inspect_model_cls()
    for path in Path(folder).rglob("*.json"):  # written for their owner alone, and a pod is another user
        path.chmod(0o644)


if __name__ == "__main__":
    main(sys.argv[1])
