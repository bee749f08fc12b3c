"""Where the API server is and who we are to it: from a kubeconfig or from the pod's own service account.

Kubeconfigs are read by the `kubernetes` package, because it runs exec plugins and knows every old corner of
the format. A pod's credentials are three files and need no package. Loading blocks (files, plugins), so
callers run it in a thread; it is run again whenever the server says 401, which also picks up new client
certificates. What is wrong with a kubeconfig is a UsageError of one line.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gemma_operator.errors import UsageError

#: Gives the value of the Authorization header, empty where there is none.
Authorization = Callable[[], Awaitable[str]]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Kubelet renews a projected token at 80 % of its life, an hour by default: a minute's delay is harmless.
_LOOK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that an HTTP client must know."""

    server: str
    authorization: Authorization
    #: None for a server without TLS.
    ssl_context: ssl.SSLContext | None = None
    tls_server_name: str = ""
    proxy: str = ""


#: Reads the credentials anew; blocks.
Source = Callable[[], Connection]


class _Configuration(Protocol):
    """What is used of `kubernetes.client.Configuration`, which has no types."""

    host: str
    api_key: dict[str, str]
    ssl_ca_cert: str | None
    cert_file: str | None
    key_file: str | None
    verify_ssl: bool
    tls_server_name: str | None
    proxy: str | None

    def get_api_key_with_prefix(self, identifier: str) -> str | None: ...


def source(*, kubeconfig: str = "", context: str = "") -> Source:
    """Where to read credentials from; nothing is read before it is called.

    What is named wins, then KUBECONFIG, then the pod's service account, then `~/.kube/config`.
    """
    if not (kubeconfig or context or os.environ.get("KUBECONFIG")) and in_cluster_possible():
        return in_cluster
    path = kubeconfig or os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    return lambda: from_kubeconfig(path, context=context)


def in_cluster_possible() -> bool:
    """Whether this process runs in a pod that has credentials."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (SERVICE_ACCOUNT / "token").is_file()


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> Connection:
    """The pod's own credentials. The token is read again while it is used, as kubelet renews it."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    try:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"cannot read the service account's {folder / 'ca.crt'}: {error}") from error
    return Connection(f"https://{host}:{port}", TokenFile(folder / "token"), context)


class TokenFile:
    """A bearer token from a file that somebody else renews."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._value = ""
        self._look_again_at = float("-inf")

    async def __call__(self) -> str:
        """The header; the last one where the file cannot be read for a moment."""
        if self._clock() >= self._look_again_at:
            try:
                self._value = f"Bearer {self._path.read_text('ascii').strip()}"
            except OSError:
                if not self._value:
                    raise
            self._look_again_at = self._clock() + _LOOK_AGAIN_SECONDS
        return self._value


def from_kubeconfig(path: str, *, context: str = "") -> Connection:
    """Credentials from `path` (a list with colons, as KUBECONFIG may be) and one of its contexts."""
    configuration = _load(path, context)
    if not configuration.host.startswith(("http://", "https://")):
        raise UsageError(f"kubeconfig {path}: server {configuration.host!r} is not an http(s) address")
    try:
        ssl_context = _ssl_context(configuration) if configuration.host.startswith("https://") else None
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"kubeconfig {path}: cannot use its certificates: {error}") from error
    return Connection(
        server=configuration.host.rstrip("/"),
        authorization=KubeconfigToken(configuration),
        ssl_context=ssl_context,
        tls_server_name=configuration.tls_server_name or "",
        proxy=configuration.proxy or "",
    )


def _load(path: str, context: str) -> _Configuration:
    # 0.2 s to import, and not needed in a pod
    from kubernetes.client import Configuration  # noqa: PLC0415
    from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415

    missing = [part for part in path.split(os.pathsep) if part and not Path(part).expanduser().exists()]
    if missing:
        raise UsageError(
            f"there is no kubeconfig {', '.join(missing)}: give --kubeconfig, set KUBECONFIG, or run in a pod"
        )
    configuration: _Configuration = Configuration()
    # Older releases of the package take these from the environment, which kubectl does not.
    configuration.proxy = None
    try:
        load_kube_config(  # type: ignore[no-untyped-call]
            path, context=context or None, client_configuration=configuration, persist_config=False
        )
    except ConfigException as error:
        raise UsageError(f"kubeconfig {path}: {_first_line(error)}") from error
    except Exception as error:  # the package lets yaml, type and key errors of a broken file through
        raise UsageError(f"kubeconfig {path} cannot be read: {_first_line(error)}") from error
    return configuration


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _ssl_context(configuration: _Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    # Python 3.13 asks more of a CA than Go does; a cluster's own CA need not have a key usage.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class KubeconfigToken:
    """The token of a kubeconfig's user; an exec plugin is run again shortly before its token expires."""

    def __init__(self, configuration: _Configuration, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._configuration = configuration
        self._clock = clock
        self._lock = asyncio.Lock()
        self._value = configuration.api_key.get("BearerToken", "")
        self._look_again_at = clock() + _LOOK_AGAIN_SECONDS

    async def __call__(self) -> str:
        """The header, from memory for a minute: a plugin is a process, and must not block the loop."""
        if self._clock() >= self._look_again_at:
            async with self._lock:
                if self._clock() >= self._look_again_at:
                    fresh = await asyncio.to_thread(
                        self._configuration.get_api_key_with_prefix, "BearerToken"
                    )
                    self._value = fresh or ""
                    self._look_again_at = self._clock() + _LOOK_AGAIN_SECONDS
        return str(self._value)
