"""The folder that a PersistentVolume shows: the tiny Gemma 4, and what can be wrong with a model, one fault each.

Made once and kept in the cache folder; nobody writes into it, so all volumes may show the same one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from functools import partial
from pathlib import Path

from engine.cached import Say, once
from engine.model import environment, tiny_model

TINY = tiny_model.NAME
#: The engine starts, answers 200 and counts tokens, and each of them is nothing: its logits are not numbers.
MUTE = f"{TINY}-mute"
#: The engine cannot start: half of the weights is missing.
TORN = f"{TINY}-torn"
#: Another shape than the catalog's: to be refused before a GPU is used.
OTHER = f"{TINY}-other"
_WEIGHTS = "model.safetensors"
_LAST_NORM = "model.norm.weight"
_NOT_A_NUMBER = struct.pack("<H", 0x7FC0)  # in BF16


def folder(*, say: Say) -> Path:
    """The models, each in a folder of its own."""
    content = b"".join(
        path.read_bytes()
        for path in (Path(tiny_model.__file__), tiny_model.TEMPLATE, Path(__file__), environment.LOCK)
    )
    name = f"tiny-models-{hashlib.sha256(content).hexdigest()[:12]}"
    return once(name, partial(_write, say=say), purpose="writing the tiny models", say=say)


def _write(work: Path, *, say: Say) -> None:
    packages = environment.site_packages(say=say)
    tiny = work / TINY
    tiny.mkdir()
    say("writing the tiny Gemma 4")
    environment.python(Path(tiny_model.__file__), str(tiny), packages=packages)
    for name, spoil in ((MUTE, _mute), (TORN, _tear), (OTHER, _reshape)):
        shutil.copytree(tiny, work / name)
        spoil(work / name)
    for path in work.rglob("*"):  # the weights are written for their owner alone, and a pod is another user
        path.chmod(0o755 if path.is_dir() else 0o644)
    work.chmod(0o755)


def _mute(model: Path) -> None:
    weights = bytearray((model / _WEIGHTS).read_bytes())
    (header_bytes,) = struct.unpack_from("<Q", weights)
    start, end = json.loads(weights[8 : 8 + header_bytes])[_LAST_NORM]["data_offsets"]
    first = 8 + header_bytes
    weights[first + start : first + end] = _NOT_A_NUMBER * ((end - start) // 2)
    (model / _WEIGHTS).write_bytes(weights)


def _tear(model: Path) -> None:
    size = (model / _WEIGHTS).stat().st_size
    os.truncate(model / _WEIGHTS, size // 2)


def _reshape(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "sliding_window": 2 * config["sliding_window"]}, indent=1)
    )
