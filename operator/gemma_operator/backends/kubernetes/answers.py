"""What the server answered last, where that is not what was sent: such an object is at rest too."""

from __future__ import annotations

from collections.abc import Mapping


class Answers:
    """uid → (hash of what was sent last, hash of what stood after it), only where the two differ."""

    def __init__(self) -> None:
        self._different: dict[str, tuple[str, str]] = {}

    def note(self, uid: str, *, sent: str, stood: str) -> None:
        """The server's answer to a write."""
        if sent == stood:
            self._different.pop(uid, None)
        else:
            self._different[uid] = (sent, stood)

    def forget(self, uid: str) -> None:
        """The object went."""
        self._different.pop(uid, None)

    def stands(self, uid: str, *, sent: str, live: str) -> bool:
        """Whether sending it again would change nothing."""
        return sent == live or self._different.get(uid) == (sent, live)

    def view(self) -> Mapping[str, tuple[str, str]]:
        """A copy, for a snapshot."""
        return dict(self._different)
