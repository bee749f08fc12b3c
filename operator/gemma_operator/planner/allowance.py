"""How many replicas a namespace still allows: its ResourceQuotas and LimitRanges, beside the room of nodes.

A replica that admission refuses is never made, and its Deployment only says so in a corner; so what a namespace does
not allow is no room, with a reason of its own. A quota counts pods when they are made, not when they are bound: what
exists is in its `used`, and only pods that are still to be made are taken off here.

The message names a quota's limit and never what is used of it: that moves by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gemma_operator.hardware.namespaces import NO_RULES, LimitRecord, NamespaceRules, QuotaRecord
from gemma_operator.planner.values import ReplicaDemand

#: What a deployment makes beside its pods, one of each at least.
_CHILDREN: Final = (
    "count/deployments.apps",
    "count/replicasets.apps",
    "services",
    "count/services",
    "count/serviceaccounts",
    "count/networkpolicies.networking.k8s.io",
)
_HOST: Final = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Replicas more that may be made, None for any number; `reason` says what stands in the way of more."""

    replicas: int | None
    reason: str = ""

    def of(self, replicas: int) -> int:
        """So many of `replicas` are allowed."""
        return replicas if self.replicas is None else min(replicas, self.replicas)


ANY: Final = Allowance(None)


class Allowances:
    """What is left of every namespace's quotas. Mutable, made for one placement, as the ledger is."""

    def __init__(self, rules: NamespaceRules = NO_RULES) -> None:
        self._quotas: defaultdict[str, list[QuotaRecord]] = defaultdict(list)
        self._limits: defaultdict[str, list[LimitRecord]] = defaultdict(list)
        self._left: dict[tuple[str, str], dict[str, int]] = {}
        for quota in sorted(rules.quotas, key=lambda quota: (quota.namespace, quota.name)):
            self._quotas[quota.namespace].append(quota)
            self._left[quota.namespace, quota.name] = {
                name: hard - quota.used.get(name, 0) for name, hard in quota.hard.items()
            }
        for limits in sorted(rules.limit_ranges, key=lambda limits: (limits.namespace, limits.name)):
            self._limits[limits.namespace].append(limits)

    def rules(self, namespace: str) -> bool:
        """Whether anything is limited there: most namespaces have no quota, and the question costs nothing then."""
        return namespace in self._quotas or namespace in self._limits

    def of(
        self, namespace: str, demand: ReplicaDemand, *, memory_limited: bool, first: bool = False
    ) -> Allowance:
        """For replicas of `demand`; `first`: nothing of the deployment was made yet."""
        if refusal := self._refusal(namespace, demand, memory_limited=memory_limited):
            return Allowance(0, refusal)
        found = [
            self._of_quota(quota, demand, memory_limited=memory_limited, first=first)
            for quota in self._quotas.get(namespace, ())
        ]
        limited = [each for each in found if each.replicas is not None]
        return min(limited, key=lambda each: (each.replicas, each.reason)) if limited else ANY

    def take(self, namespace: str, demand: ReplicaDemand, replicas: int) -> None:
        """Pods that a placed deployment still has to make."""
        for quota in self._quotas.get(namespace, ()):
            self._move(quota, _charges(demand, self._cpu_limit(namespace)), -replicas)

    def give_back(self, namespace: str, requests: Mapping[str, int]) -> None:
        """A pod that a plan made anew replaces."""
        for quota in self._quotas.get(namespace, ()):
            self._move(quota, _names_of(requests), 1)

    def take_back(self, namespace: str, requests: Mapping[str, int]) -> None:
        """Undo `give_back`."""
        for quota in self._quotas.get(namespace, ()):
            self._move(quota, _names_of(requests), -1)

    def _move(self, quota: QuotaRecord, charges: Mapping[str, int], times: int) -> None:
        left = self._left[quota.namespace, quota.name]
        for name in left:
            left[name] += charges.get(name, 0) * times

    def _of_quota(
        self, quota: QuotaRecord, demand: ReplicaDemand, *, memory_limited: bool, first: bool
    ) -> Allowance:
        left = self._left[quota.namespace, quota.name]
        limits = self._limits_of(quota.namespace)
        unlimited = {"cpu", "ephemeral-storage", *(() if memory_limited else ("memory",))} - limits.keys()
        for name in sorted(unlimited):
            if f"limits.{name}" in left:
                return Allowance(
                    0,
                    f"ResourceQuota {quota.name} counts limits.{name}, and an engine sets no limit of {name}: give "
                    "containers a default one by a LimitRange, or take it out of the quota",
                )
        if first and (used_up := next((name for name in _CHILDREN if left.get(name, 1) < 1), "")):
            return Allowance(0, _said(quota, used_up, 1))
        charges = _charges(demand, limits.get("cpu"))
        counts = {name: max(0, left[name]) // charges[name] for name in left if charges.get(name)}
        if not counts:
            return ANY
        scarcest = min(counts, key=lambda name: (counts[name], name))
        return Allowance(counts[scarcest], _said(quota, scarcest, charges[scarcest]))

    def _refusal(self, namespace: str, demand: ReplicaDemand, *, memory_limited: bool) -> str:
        """Why a LimitRange refuses the pod as it is made; empty where none does."""
        requests = _requests(demand)
        limits = self._limits_of(namespace) | {demand.resource_name: demand.accelerators}
        if memory_limited:
            limits["memory"] = demand.memory_bytes
        return next(
            (
                said
                for item in self._limits.get(namespace, ())
                if (said := _refused_by(item, requests, limits, memory_limited=memory_limited))
            ),
            "",
        )

    def _limits_of(self, namespace: str) -> dict[str, int]:
        """The limits that an engine gets because it has none."""
        return {
            name: amount for item in self._limits.get(namespace, ()) for name, amount in item.limits.items()
        }

    def _cpu_limit(self, namespace: str) -> int | None:
        return self._limits_of(namespace).get("cpu")


def _refused_by(
    item: LimitRecord, requests: Mapping[str, int], limits: Mapping[str, int], *, memory_limited: bool
) -> str:
    """What one LimitRange says against a pod with these requests and limits."""
    for name, least in sorted(item.least.items()):
        if requests.get(name, 0) < least:
            return _bounded(item, "asks for at least", name, least, requests)
    for name, most in sorted(item.most.items()):
        if name in requests and max(requests[name], limits.get(name, 0)) > most:
            return _bounded(item, "allows at most", name, most, requests)
    for name, given in sorted(item.limits.items()):
        own = name == "memory" and memory_limited
        if name in requests and not own and requests[name] > given:
            return _bounded(item, "limits containers to", name, given, requests)
    for name, ratio in sorted(item.ratio.items()):
        if name in requests and name not in limits:
            return (
                f"LimitRange {item.name} bounds the limit of {name} by its request, and an engine sets no limit of "
                f"{name}: give containers a default one by a LimitRange, or take maxLimitRequestRatio out of it"
            )
        if name in requests and limits[name] > ratio * requests[name]:
            return (
                f"LimitRange {item.name} allows a limit of at most {float(ratio):g} times the request: the limit of "
                f"{name} is {_amount(name, limits[name])}, a replica takes {_amount(name, requests[name])}"
            )
    return ""


def _bounded(item: LimitRecord, how: str, name: str, bound: int, requests: Mapping[str, int]) -> str:
    taken = _amount(name, requests.get(name, 0))
    return f"LimitRange {item.name} {how} {_amount(name, bound)} of {name}, a replica takes {taken}"


def _requests(demand: ReplicaDemand) -> dict[str, int]:
    return {
        demand.resource_name: demand.accelerators,
        "cpu": demand.cpu_millis,
        "memory": demand.memory_bytes,
        "ephemeral-storage": demand.ephemeral_bytes,
    }


def _charges(demand: ReplicaDemand, cpu_limit: int | None) -> dict[str, int]:
    """What one pod counts against a quota, by the quota's names."""
    found = _names_of({**_requests(demand), "pods": 1})
    return found | {"limits.cpu": cpu_limit or 0, "limits.memory": demand.memory_bytes}


def _names_of(requests: Mapping[str, int]) -> dict[str, int]:
    """A quota may count the same thing under two names; extended resources only as requests."""
    found = {"pods": 1, "count/pods": 1}
    for name, amount in requests.items():
        if name in _HOST:
            found |= {name: amount, f"requests.{name}": amount}
        elif name != "pods":
            found[f"requests.{name}"] = amount
    return found


def _said(quota: QuotaRecord, name: str, each: int) -> str:
    return (
        f"ResourceQuota {quota.name} allows {_amount(name, quota.hard[name])} of {name} in namespace "
        f"{quota.namespace}; one more replica takes {_amount(name, each)}"
    )


def _amount(name: str, amount: int) -> str:
    """For people: CPU in cores, memory and disk in GiB."""
    if name.endswith("cpu"):
        return f"{amount / 1000:g}"
    return f"{amount / 1024**3:.1f} GiB" if name.endswith(("memory", "storage")) else str(amount)
