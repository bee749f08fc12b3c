"""Replicas whose guard has no key of users: well by every other sign, and 401 to all but the operator. Pure.

The operator may not look into the users' Secret, and its own key always opens; so this is what guards say of themselves
in their answers to it. A Secret reaches each replica by its own kubelet, within a minute or two: while some have lost
their keys and others not, a part of the requests is refused, and that is said of the deployment. Nothing is deleted,
restarted or taken out of the Service: a new pod would be given the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemma_operator.api.conditions import Reason
from gemma_operator.backends.kubernetes.failures import Trouble
from gemma_operator.backends.kubernetes.failures.trouble import told
from gemma_operator.backends.kubernetes.health import Health
from gemma_operator.backends.kubernetes.snapshot import Replica, Snapshot
from gemma_operator.probing.facts import ReplicaFacts, Verdict, verdict

_MOST_NAMED: Final = 3
_BROUGHT: Final = "the kubelet brings it to each pod within a minute or two"
_OF_OLDER_PODS: Final = f"write a key that is not empty into the Secret of their volume `access`; {_BROUGHT}"


def trouble(snapshot: Snapshot, counted: Health) -> Trouble | None:
    """Of this generation, whose Secret the spec names: those that serve, else those that start."""
    if serving := [each for each in counted.keyless if each in counted.proved]:
        return _serving(serving, counted, remedy=_remedy(snapshot))
    starting = [
        each
        for each in counted.current
        if not each.started and verdict(snapshot.facts.get(each.uid)) is Verdict.KEYLESS
    ]
    return _starting(starting, snapshot) if starting else None


def concluded(snapshot: Snapshot, unproved: Sequence[Replica]) -> Trouble | None:
    """Once a start-up budget is over: an engine that gave the operator a token and its own pod none.

    For guards of an older operator, which say nothing, and while the container is started again. Before, it is what
    every start looks like between two probes of the kubelet.
    """
    access = snapshot.deployment.spec.access if snapshot.deployment is not None else None
    if access is None or access.api_key is None:
        return None
    starting = [
        each for each in unproved if not each.started and _may_lack_a_key(snapshot.facts.get(each.uid))
    ]
    return _starting(starting, snapshot) if starting else None


def _may_lack_a_key(facts: ReplicaFacts | None) -> bool:
    """It gave the operator a token, and its guard never said that it has a key for others."""
    if facts is None or facts.proved_at_seconds is None:
        return False
    return facts.heard is None or not facts.heard.user_keys


def shut(snapshot: Snapshot, counted: Health) -> Trouble | None:
    """Of any generation: replicas answer, and none of them lets a user in."""
    if counted.serves_users or not counted.keyless:
        return None
    return trouble(snapshot, counted) or _serving(counted.keyless, counted, remedy=_OF_OLDER_PODS)


def meanwhile(counted: Health) -> str:
    """What the users have while a new generation comes."""
    if counted.serves_users:
        return "the older generation serves on"
    return "all users get 401 meanwhile" if counted.answering else "nothing answers"


def _serving(keyless: Sequence[Replica], counted: Health, *, remedy: str) -> Trouble:
    pods = ", ".join(each.name for each in keyless[:_MOST_NAMED])
    if len(counted.answering) == 1:
        what = f"the guard in pod {pods} has none of the users' keys and answers all of them 401"
    else:
        what = (
            f"the guards in {len(keyless)} of {len(counted.answering)} replicas ({pods}) have none of the users' keys "
            "and answer all of them 401"
        )
    return told(Reason.SECRET_MISSING, what, remedy=remedy)


def _starting(starting: Sequence[Replica], snapshot: Snapshot) -> Trouble:
    first = min(each.name for each in starting)
    what = f"pod {first} generates a token for the operator's key and for none of the users' keys"
    return told(Reason.SECRET_MISSING, what, remedy=_remedy(snapshot))


def _remedy(snapshot: Snapshot) -> str:
    access = snapshot.deployment.spec.access if snapshot.deployment is not None else None
    if access is None or access.api_key is None:
        return _OF_OLDER_PODS
    secret = access.api_key.secret_key_ref
    return f"write a key that is not empty into key {secret.key} of Secret {secret.name}; {_BROUGHT}"
