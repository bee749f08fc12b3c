"""Who is asked for a token, and how. Pure: the reconciler says it, the prober does it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gemma_operator.engines.base import Engine, TokenRequest


@dataclass(frozen=True, slots=True)
class Target:
    """One replica, and how it is asked."""

    pod_uid: str
    address: str
    port: int
    engine: Engine
    model_name: str
    token_request: TokenRequest
    #: By Kubernetes. Until then a refused connection is a server that is still starting.
    pod_ready: bool
    #: By the kubelet: a device of it does not work, so what it generated before says little.
    device_unhealthy: bool = False
    #: Sent along with the request for a token (an API key); never shown.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def url(self) -> str:
        """Where it listens; an IPv6 address stands in brackets."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"

    def is_same_server(self, other: Target) -> bool:
        """What was learnt of one holds for the other."""
        return (self.url, self.model_name, self.engine.name) == (
            other.url,
            other.model_name,
            other.engine.name,
        )
