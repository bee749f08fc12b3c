"""The command of a container whose engine is a Python program of the test's own."""

import sys
from pathlib import Path

from gemma_operator.engines import last_words

SCRIPT = Path(last_words.__file__).read_text()


def wrapped(folder, program, *, port=0):
    """Its last words go to `folder`/log. Port 0 refuses everybody: an engine that never listens."""
    engine = [sys.executable, "-u", "-c", program]
    return [sys.executable, "-c", SCRIPT, str(folder / "log"), str(port), *engine]
