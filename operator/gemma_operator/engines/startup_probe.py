"""Asks the model server beside it for one token; exit 0 only for a token of the model that was asked for.

Run inside the engine's own container as `python3 -c <this file> PATH BODY`, so it may import nothing but the
standard library. Kubernetes itself then never counts, routes to or rolls past a replica that has not
generated. The operator reads answers by the same `generated_tokens`.
"""

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADDRESS = "127.0.0.1:8000"
TIMEOUT_SECONDS = 25
#: There where the server is guarded; the first key in it is sent along.
KEY_FILE = "/etc/gemma-operator/access/user.key"


def generated_tokens(answer: Mapping[str, Any]) -> int:
    """Tokens that an answer really holds: what its usage counts, where some text stands beside it.

    An engine whose logits went bad answers 200 and counts padding tokens; they decode to nothing.
    """
    usage = answer.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    choices = answer.get("choices")
    if not isinstance(count, int) or not isinstance(choices, list):
        return 0
    return count if any(isinstance(choice, dict) and _text(choice) for choice in choices) else 0


def _text(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    places = message if isinstance(message, dict) else choice
    for place in ("text", "content", "reasoning", "reasoning_content"):
        if isinstance(places.get(place), str) and places[place]:
            return str(places[place])
    return ""


def _credentials() -> dict[str, str]:
    """As bytes, whatever they are: a key that could not be decoded would be shown by the error."""
    try:
        lines = Path(KEY_FILE).read_bytes().splitlines()
    except OSError:
        return {}
    key = next((line.strip() for line in lines if line.strip()), b"")
    return {"Authorization": f"Bearer {key.decode('latin-1')}"} if key else {}


def complaint(path: str, body: str) -> str:
    """Why the server has not proved itself; empty where it has."""
    headers = {"Content-Type": "application/json", **_credentials()}
    request = urllib.request.Request(f"http://{ADDRESS}{path}", data=body.encode(), headers=headers)
    # HTTP_PROXY is for the weights: without this the question to 127.0.0.1 would leave the pod.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            status, answer = response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return f"answered {error.code}" + (f": is there a key in {KEY_FILE}?" if error.code == 401 else "")
    except (OSError, ValueError) as error:
        return f"no answer: {error}"
    if status != 200 or not isinstance(answer, dict):
        return f"answered {status} with something that is not a completion"
    if answer.get("model") != json.loads(body)["model"]:
        return f"serves {answer.get('model')!r}"
    return "" if generated_tokens(answer) > 0 else "answered 200 without a token"


if __name__ == "__main__":
    sys.exit(complaint(sys.argv[1], sys.argv[2]) or 0)
