"""The operator's own settings, as values: one typed file that a ConfigMap holds.

Reading the file belongs to `app` and `cli`; here are only the shape, the defaults and the checks,
so that every room can be given its settings without I/O.
"""

from __future__ import annotations

import ipaddress
import math
import re
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from gemma_operator.errors import InvalidSettings

_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
#: It stands in pods, and Linux takes no longer string than 128 KiB in an environment (MAX_ARG_STRLEN, binfmts.h).
_LARGEST_CA_BUNDLE: Final = 64 * 1024
#: A release of an engine, as the API's pattern has it.
ENGINE_VERSION: Final = re.compile(r"\d{1,3}\.\d{1,3}(\.\d{1,3})?", re.ASCII)
LOG_FORMATS: Final = ("text", "json")
#: Waits that may be none.
_MAY_BE_ZERO: Final = frozenset(
    {"placementDebounceSeconds", "fleetDebounceSeconds", "settleSeconds", "wedgedPauseSeconds", "metricsPort"}
)
_MOST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class PoolAccess:
    """Which namespaces may use the pools of these names (`name` or `source/name`)."""

    pools: tuple[str, ...]
    namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Every setting of the operator, with its default. Durations are seconds."""

    namespace: str = "gemma-system"
    default_engine: str = "VLLM"
    default_engine_version: str = "0.32"
    image_mirror: str = ""
    hub_mirror: str = ""
    proxy: str = ""
    #: Certificates in PEM that are trusted beside those of the engine's image: the text itself, not a path.
    ca_bundle: str = ""
    price_file: str = ""
    catalog_dir: str = ""
    probe_period_seconds: float = 30.0
    probe_timeout_seconds: float = 20.0
    probes_at_once: int = 32
    workers: int = 8
    placement_debounce_seconds: float = 0.05
    fleet_debounce_seconds: float = 1.0
    settle_seconds: float = 0.2
    rediscover_seconds: float = 600.0
    quarantine_seconds: float = 600.0
    #: A wedged replica is deleted that long after the last one at the earliest.
    wedged_pause_seconds: float = 300.0
    #: A child that others change back is written at most five times within that, and ever more seldom.
    contest_window_seconds: float = 600.0
    #: A surge that finds no node for that long, though nothing is leaving, becomes a drain.
    surge_patience_seconds: float = 120.0
    metrics_host: str = "0.0.0.0"  # noqa: S104 - the pod's own address is not known before it runs
    metrics_port: int = 8080
    log_format: str = "text"
    lease_name: str = "gemma-operator"
    lease_duration_seconds: float = 15.0
    lease_renew_seconds: float = 10.0
    lease_retry_seconds: float = 2.0
    prometheus_namespaces: tuple[str, ...] = ()
    gateway_namespaces: tuple[str, ...] = ()
    operator_cidrs: tuple[str, ...] = ()
    pool_access: tuple[PoolAccess, ...] = field(default=())

    def with_changes(self, **changes: Any) -> OperatorSettings:  # noqa: ANN401 - the fields' own types
        """The same settings with some of them given otherwise, as flags do."""
        return replace(self, **changes)


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


_FIELDS = {_camel(f.name): f for f in fields(OperatorSettings)}


def from_mapping(raw: Mapping[str, Any]) -> OperatorSettings:
    """Settings from a parsed yaml mapping with camelCase keys; raises InvalidSettings naming the key."""
    values: dict[str, Any] = {}
    for key, value in raw.items():
        known = _FIELDS.get(key)
        if known is None:
            raise InvalidSettings(f"unknown setting {key!r}; known are {', '.join(sorted(_FIELDS))}")
        values[known.name] = _value(key, value, known.default)
    return OperatorSettings(**values)


def _value(key: str, value: Any, default: Any) -> Any:  # noqa: ANN401 - yaml's own types
    if key == "poolAccess":
        return tuple(_pool_access(entry) for entry in _sequence(key, value))
    if key == "caBundle":
        return _certificates(value)
    if isinstance(default, tuple):
        words = tuple(str(item) for item in _sequence(key, value))
        return tuple(map(_network, words)) if key == "operatorCidrs" else words
    if isinstance(default, bool | str) and not isinstance(value, type(default)):
        raise InvalidSettings(f"{key} must be a {type(default).__name__}, not {value!r}")
    if isinstance(default, float | int) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InvalidSettings(f"{key} must be a number, not {value!r}")
    if isinstance(value, int | float):
        _check_number(key, value, whole=isinstance(default, int))
    else:
        _check_word(key, value)
    return type(default)(value)


def _check_number(key: str, value: float, *, whole: bool) -> None:
    """No worker, or a probe every -1 seconds, would be found out by endpoints that are never looked at."""
    if not math.isfinite(value) or (whole and value != int(value)):
        raise InvalidSettings(f"{key} must be a {'whole ' if whole else ''}number, not {value!r}")
    if value < 0 or (value == 0 and key not in _MAY_BE_ZERO):
        raise InvalidSettings(
            f"{key} must be {'0 or ' if key in _MAY_BE_ZERO else ''}more than 0, not {value!r}"
        )
    if key == "metricsPort" and value > _MOST_PORT:
        raise InvalidSettings(f"metricsPort must be 0 to {_MOST_PORT}, not {value!r}")


def _check_word(key: str, value: str) -> None:
    if key == "logFormat" and value not in LOG_FORMATS:
        raise InvalidSettings(f"logFormat must be {' or '.join(LOG_FORMATS)}, not {value!r}")
    if key == "defaultEngineVersion" and not ENGINE_VERSION.fullmatch(value):
        raise InvalidSettings(f'defaultEngineVersion must be like "0.32" or "0.32.0", not {value!r}')
    if key in ("namespace", "leaseName") and not value:
        raise InvalidSettings(f"{key} must not be empty: leave it out for the default")
    _check_address(key, value)


def _network(text: str) -> str:
    """Of a NetworkPolicy: a wrong one would be refused in every namespace."""
    with suppress(ValueError):
        if "/" in text and ipaddress.ip_network(text, strict=False):
            return text
    raise InvalidSettings(f"operatorCidrs: {text!r} is not like 10.0.0.0/8, 192.0.2.7/32 or fd00::/8")


def _check_address(key: str, value: str) -> None:
    """An address that is no such address would be found out by pods; it is not shown, since it may hold a password."""
    if not value:
        return
    if key in ("hubMirror", "proxy") and not value.startswith(("http://", "https://")):
        raise InvalidSettings(f"{key} must be a URL that begins with http:// or https://")
    if key == "imageMirror" and "://" in value:
        raise InvalidSettings(
            "imageMirror must be a registry and a path, as images have them: take http(s):// away"
        )


def _certificates(value: object) -> str:
    """The certificates alone: what stands between them in a bundle is for people and would only be carried about."""
    if not isinstance(value, str):
        raise InvalidSettings(f"caBundle must be the text of certificates in PEM, not {type(value).__name__}")
    if not value.strip():
        return ""
    if "PRIVATE KEY-----" in value:
        raise InvalidSettings("caBundle holds a private key, and it would be shown in every pod: take it out")
    found = _CERTIFICATE.findall(value)
    if not found:
        raise InvalidSettings(
            "caBundle holds no -----BEGIN CERTIFICATE-----: write the PEM text itself, not a path"
        )
    text = "\n".join(found) + "\n"
    if len(text) > _LARGEST_CA_BUNDLE:
        raise InvalidSettings(
            f"caBundle has {len(text)} characters and may have {_LARGEST_CA_BUNDLE}: leave the public authorities "
            "out, the engine's image has them"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise InvalidSettings(f"caBundle: its {len(found)} certificates cannot be read: {error}") from error
    return text


def _sequence(key: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidSettings(f"{key} must be a list, not {value!r}")
    return value


def _pool_access(entry: object) -> PoolAccess:
    if not isinstance(entry, Mapping) or set(entry) != {"pools", "namespaces"}:
        raise InvalidSettings(f"an entry of poolAccess has `pools` and `namespaces`, not {entry!r}")
    return PoolAccess(
        pools=tuple(map(str, _sequence("poolAccess.pools", entry["pools"]))),
        namespaces=tuple(map(str, _sequence("poolAccess.namespaces", entry["namespaces"]))),
    )
