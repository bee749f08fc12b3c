"""Which 127.N.0.0/16 belongs to a sandbox.

All of 127/8 is this machine on Linux, so every sandbox takes a /16 for itself: its control plane listens on
127.N.0.1 with the usual ports, its pods live in 127.N.128.0/17, and two sandboxes never meet.

The claim is a socket bound to a name in Linux's abstract namespace and inherited by every process of the
sandbox. Against a file in a cache folder that has two virtues: its scope is exactly that of the addresses
(one network namespace, whatever the user or the cache folder), and it is gone in the moment in which the
last process of the sandbox is, however that died.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from gemma_operator.errors import SandboxError

FIRST, LAST = 10, 250


@dataclass(frozen=True, slots=True)
class Block:
    """127.`number`.0.0/16."""

    number: int

    @property
    def host(self) -> str:
        """Where the control plane listens."""
        return f"127.{self.number}.0.1"

    @property
    def pods(self) -> str:
        """Where pods live; the lower half is the control plane's."""
        return f"127.{self.number}.128.0/17"


class Claim:
    """A block that is ours until `release`, and after that our children's until they end."""

    def __init__(self, block: Block, held: socket.socket) -> None:
        self.block = block
        self._socket = held
        os.set_inheritable(held.fileno(), True)

    def release(self) -> None:
        """Let go of our own hold; processes started meanwhile keep theirs."""
        self._socket.close()


def claim(*, first: int = FIRST, last: int = LAST) -> Claim:
    """The first free block."""
    for number in range(first, last + 1):
        attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            attempt.bind(f"\0gemma-operator-sandbox-127.{number}")
        except OSError:
            attempt.close()
            continue
        return Claim(Block(number), attempt)
    raise SandboxError(
        f"each of 127.{first} … 127.{last} is taken by a running sandbox: "
        "`gemma-operator sandbox down --name NAME` frees one"
    )
