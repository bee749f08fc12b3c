"""Writes an OCI image without a registry or a builder: one layer, its config, a manifest and an index, in a tar.

Layout: OCI image specification v1.1, image-layout.md. What comes out is what `ctr images import` takes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Start:
    """What a container of the image runs unless told otherwise."""

    entrypoint: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""


def write_image(
    tar_path: Path, *, name: str, layer_folder: Path, start: Start = Start(), also: str = ""
) -> None:
    """An image `name`, known as `also` too, whose root is what lies in `layer_folder`, owned by root."""
    layer, diff_id = _layer(layer_folder)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": list(start.entrypoint),
            "Env": [f"{key}={value}" for key, value in start.environment.items()],
            **({"User": start.user} if start.user else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    blobs: dict[str, bytes] = {}
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _keep(blobs, _CONFIG, json.dumps(config).encode()),
        "layers": [_keep(blobs, _LAYER, layer)],
    }
    entry = _keep(blobs, _MANIFEST, json.dumps(manifest).encode())
    named = [{**entry, "annotations": {"io.containerd.image.name": each}} for each in (name, also) if each]
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": named}
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/sha256/{digest}": blob for digest, blob in blobs.items()},
    }
    with tarfile.open(tar_path, "w") as archive:
        for path, content in files.items():
            entry_of_tar = tarfile.TarInfo(path)
            entry_of_tar.size = len(content)
            archive.addfile(entry_of_tar, io.BytesIO(content))


def _layer(folder: Path) -> tuple[bytes, str]:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        archive.add(folder, arcname=".", filter=_owned_by_root)
    content = plain.getvalue()
    return gzip.compress(content, compresslevel=1, mtime=0), f"sha256:{hashlib.sha256(content).hexdigest()}"


def _owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def _keep(blobs: dict[str, bytes], media_type: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}
