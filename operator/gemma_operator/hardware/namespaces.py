"""What a namespace allows: ResourceQuotas and LimitRanges, cut down to figures.

Amounts are normalised as a node's: CPU in thousandths, all else as counts and bytes; a limit is rounded down and what
is used up. Sources: k8s.io/api/core/v1 types.go; kubernetes plugin/pkg/admission/limitranger (what is checked, and that
a maximum is the default of a limit that nobody wrote).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from gemma_operator.hardware import quantities
from gemma_operator.hardware.quantities import InvalidQuantityError

_CPU: Final = frozenset({"cpu", "requests.cpu", "limits.cpu"})
#: Scopes of pods that an engine's never are: without requests, or with a deadline.
_NEVER_OURS: Final = frozenset({"BestEffort", "Terminating"})


@dataclass(frozen=True, slots=True)
class QuotaRecord:
    """A ResourceQuota: what it allows in all, and what is used of it."""

    namespace: str
    name: str
    hard: Mapping[str, int]
    used: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LimitRecord:
    """The items of a LimitRange that are about pods and containers."""

    namespace: str
    name: str
    least: Mapping[str, int] = field(default_factory=dict)
    most: Mapping[str, int] = field(default_factory=dict)
    #: Limits that a container gets which has none.
    limits: Mapping[str, int] = field(default_factory=dict)
    #: So many times a request its limit may be; without a limit a pod is refused.
    ratio: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NamespaceRules:
    """All quotas and limits of a cluster."""

    quotas: tuple[QuotaRecord, ...] = ()
    limit_ranges: tuple[LimitRecord, ...] = ()


NO_RULES: Final = NamespaceRules()


def quota_record(obj: Mapping[str, Any]) -> QuotaRecord | None:
    """The record of a quota; None for one whose scope no engine pod has.

    Any other scope (a priority class, say) is taken as ours: a promise that is too small is better than one too big.
    """
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if _NEVER_OURS & _scopes(spec):
        return None
    metadata = obj.get("metadata") or {}
    return QuotaRecord(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name", ""),
        hard=_amounts(spec.get("hard") or status.get("hard") or {}, up=False),
        used=_amounts(status.get("used") or {}, up=True),
    )


def limit_record(obj: Mapping[str, Any]) -> LimitRecord | None:
    """The record of a LimitRange; the strictest of its items, since a pod has one container."""
    metadata = obj.get("metadata") or {}
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    limits: dict[str, int] = {}
    ratio: dict[str, Fraction] = {}
    for item in (obj.get("spec") or {}).get("limits") or ():
        if item.get("type") not in {"Container", "Pod"}:
            continue
        for name, amount in _amounts(item.get("min") or {}, up=True).items():
            least[name] = max(amount, least.get(name, 0))
        for name, amount in _amounts(item.get("max") or {}, up=False).items():
            most[name] = min(amount, most.get(name, amount))
        for name, times in _ratios(item.get("maxLimitRequestRatio") or {}):
            ratio[name] = min(times, ratio.get(name, times))
        if item["type"] == "Container":
            limits |= _amounts({**(item.get("max") or {}), **(item.get("default") or {})}, up=False)
    if not least and not most and not limits and not ratio:
        return None
    namespace = metadata.get("namespace") or "default"
    return LimitRecord(namespace, metadata.get("name", ""), least, most, limits, ratio)


def _ratios(values: Mapping[str, Any]) -> Iterator[tuple[str, Fraction]]:
    for name, quantity in values.items():
        with suppress(InvalidQuantityError):
            yield name, quantities.parse(quantity)


def _scopes(spec: Mapping[str, Any]) -> set[str]:
    selected = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    named = {each.get("scopeName", "") for each in selected if each.get("operator") != "DoesNotExist"}
    return named | set(spec.get("scopes") or ())


def _amounts(values: Mapping[str, Any], *, up: bool) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, quantity in values.items():
        if name in _CPU:
            read = quantities.millis_up if up else quantities.millis_down
        else:
            read = quantities.whole_up if up else quantities.whole_down
        try:
            found[name] = read(quantity)
        except InvalidQuantityError:
            continue
    return found
