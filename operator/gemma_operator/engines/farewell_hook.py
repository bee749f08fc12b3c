"""The pod's preStop hook: `python3 -c <this file> FILE PORT SECONDS`. The engine gets SIGTERM when it ends.

For SECONDS new requests still arrive, until every proxy and gateway has heard that the pod is going. FILE tells the
engine's `farewell_middleware` so. Run inside the engine's own container, so it may import nothing but the standard
library. Whatever fails here, the time passes: a hook that ends early would be a pod that goes early.
"""

import contextlib
import sys
import urllib.request
from pathlib import Path
from threading import Event

UNROUTING, UNROUTED = b"unrouting", b"unrouted"
#: Of SECONDS, for clients to hear that a connection was closed before the engine refuses what comes.
CLOSING_SECONDS = 2.0
_ASK_SECONDS = 1.0


def main(file: Path, port: int, seconds: float) -> None:
    """Tell, wait, tell again and make the engine look."""
    waiting = Event()
    with contextlib.suppress(OSError):
        file.write_bytes(UNROUTING)
    waiting.wait(seconds - CLOSING_SECONDS)
    with contextlib.suppress(OSError, ValueError):
        file.write_bytes(UNROUTED)
        # HTTP_PROXY is for the weights: without this the question to 127.0.0.1 would leave the pod
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(f"http://127.0.0.1:{port}/health", timeout=_ASK_SECONDS).close()
    waiting.wait(CLOSING_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
