"""The engine's image: Debian's Python 3.11, the libraries that vLLM's packages are linked to, and the command `vllm`.

The packages are not in it. Three gigabytes in a tar, in each node's content store and in each node's snapshot would be
nine for each node, and two nodes would keep them in memory twice. They lie once on the machine, and a node's container
runtime mounts them into every container, as NVIDIA's does with the driver's files (docs/decisions/0063).
"""

from __future__ import annotations

import hashlib
import shutil
from functools import partial
from pathlib import Path

from engine.cached import Say, once
from engine.model import environment
from engine.nodes import debian, oci
from engine.nodes.images import PYTHON_PACKAGES
from engine.nodes.oci import Start, write_image

NAME = "localhost/vllm-cpu:0.32.0"
#: The same image under another name, for a rollout that changes nothing else.
ALSO = "localhost/vllm-cpu:0.32.0-rebuilt"
#: Where a container finds vLLM's packages.
PACKAGES = "/opt/vllm/site-packages"
_DEBIAN = (
    *PYTHON_PACKAGES,
    *("libtirpc3", "libnsl2", "libncursesw6", "libtinfo6", "libreadline8"),
    "libnuma1",  # vLLM's CPU kernels
    *("dash", "util-linux", "libsmartcols1"),  # vLLM asks `lscpu`, through a shell, which cores there are
)
_UNNEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/bash-completion",
    "usr/lib/python3.11/test",
)
_TAR = "vllm.tar"
#: Read by Debian's site.py; unlike PYTHONPATH it stays when a pod sets a PYTHONPATH of its own.
_PATH_FILE = "usr/local/lib/python3.11/dist-packages/vllm.pth"


def built(*, say: Say) -> Path:
    """The image as a tar that `ctr images import` takes."""
    sources = (Path(__file__), Path(oci.__file__))
    content = b"".join(source.read_bytes() for source in sources) + environment.COMMAND.encode()
    key = hashlib.sha256(content).hexdigest()[:12]
    write = partial(_write, say=say)
    return once(f"vllm-image-{key}", write, purpose="writing vLLM's image", say=say) / _TAR


def _write(work: Path, *, say: Say) -> None:
    say("writing the image of vLLM")
    root = work / "root"
    debian.unpack(_DEBIAN, root)
    for unneeded in _UNNEEDED:
        shutil.rmtree(root / unneeded, ignore_errors=True)
    _furnish(root)
    write_image(
        work / _TAR,
        name=NAME,
        also=ALSO,
        layer_folder=root,
        start=Start(["/usr/bin/vllm", "serve"], {"PATH": "/usr/bin:/bin"}),
    )
    shutil.rmtree(root)


def _furnish(root: Path) -> None:
    """What the packages' install steps would do, and what is ours."""
    for link, target in (("usr/bin/python3", "python3.11"), ("bin/sh", "dash")):
        (root / link).unlink(missing_ok=True)
        (root / link).symlink_to(target)
    (root / "usr/bin/vllm").write_text(environment.COMMAND.format(python="/usr/bin/python3"))
    (root / "usr/bin/vllm").chmod(0o755)
    (root / _PATH_FILE).parent.mkdir(parents=True, exist_ok=True)
    (root / _PATH_FILE).write_text(f"{PACKAGES}\n")
    (root / PACKAGES.lstrip("/")).mkdir(parents=True)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/usr/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "tmp").mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
