"""Which keys a change in a table concerns. Says nothing of what happened: a key says where to look.

Children and pods know their deployment by the children's name, which several deployments may want (`a.b` and
`a-b`); all of them are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from gemma_operator.api import names
from gemma_operator.apiserver.records import Change
from gemma_operator.backends.kubernetes.claims import ClaimRecord, claim_names
from gemma_operator.backends.kubernetes.snapshot import Child, Key
from gemma_operator.controller.caches import PodSeen, Slice
from gemma_operator.hardware.admissions import Admission
from gemma_operator.hardware.nodeclaims import NodeClaimRecord
from gemma_operator.hardware.records import NodeRecord, PodRecord


class Wake:
    """Hooks for the `on_change` of every table.

    What a user wrote is looked at now. Children, pods and slices change many times while a replica starts:
    those are looked at soon, so that one look, and one status, covers what came together.
    """

    def __init__(
        self,
        *,
        look_at: Callable[[Key], None],
        look_soon: Callable[[Key], None],
        hardware_changed: Callable[[], None],
        room_changed: Callable[[], None],
        pool_touched: Callable[[str], None],
        admitted: Callable[[Admission | None], None] = lambda _admission: None,
        node_went: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._look_at = look_at
        self._look_soon = look_soon
        self._hardware_changed = hardware_changed
        self._room_changed = room_changed
        self._pool_touched = pool_touched
        self._admitted = admitted
        self._node_went = node_went
        self._by_child: dict[Key, set[Key]] = {}
        self._by_job: dict[Key, set[Key]] = defaultdict(set)
        self._by_claim: dict[Key, set[Key]] = defaultdict(set)

    def deployment(self, change: Change[Mapping[str, Any]]) -> None:
        """A GemmaDeployment came, changed or went; whoever wants the same children may have them now."""
        key = Key(*change.place)
        child = _child_key(key)
        if change.new is None:
            rivals = self._by_child.get(child, set())
            rivals.discard(key)
            if not rivals:
                self._by_child.pop(child, None)
        else:
            self._by_child.setdefault(child, set()).add(key)
        _move(self._by_job, key, old=_jobs(key, change.old), new=_jobs(key, change.new))
        _move(self._by_claim, key, old=_claims(key, change.old), new=_claims(key, change.new))
        self._look_at(key)
        if change.new is None:
            for rival in self._by_child.get(child, ()):
                self._look_at(rival)

    def pool(self, change: Change[Mapping[str, Any]]) -> None:
        """An AcceleratorPool came, changed or went. A new status of it (ours) is no other hardware."""
        if _declares_the_same(change.old, change.new):
            self._pool_touched(change.place[1])
            return
        self._hardware_changed()
        self._room_changed()

    def node(self, change: Change[NodeRecord]) -> None:
        """A node came, went, or changed in what is kept of it."""
        if change.new is None:
            self._node_went(change.place[1])
        self._hardware_changed()
        self._room_changed()

    def hardware(self, _change: Change[Any]) -> None:
        """What offers devices or may bring nodes came, went or changed: a slice, a NodePool, a ComputeClass."""
        self._hardware_changed()
        self._room_changed()

    def rules(self, _change: Change[Any]) -> None:
        """A namespace allows something else, or used some of it."""
        self._room_changed()

    def nodeclaim(self, change: Change[NodeClaimRecord]) -> None:
        """Karpenter fails to bring a node, or does not any more: whoever may wait for it says so."""
        old, new = change.old, change.new
        if (old.trouble if old else "") != (new.trouble if new else ""):
            self.everybody()

    def quarantine(self) -> None:
        """A node began to refuse pods, or its time is over."""
        self._room_changed()
        self.everybody()

    def everybody(self) -> None:
        """Something that any deployment may speak of is another one."""
        for keys in self._by_child.values():
            for key in keys:
                self._look_soon(key)

    def pod(self, change: Change[PodSeen]) -> None:
        """A pod takes another part of a node, or a replica changed."""
        old, new = change.old, change.new
        self._admitted(new.admission if new is not None else None)
        if _holds(old) != _holds(new):
            self._room_changed()
        for seen in (old, new):
            if seen is not None and seen.owner is not None:
                self._children_of(seen.owner)

    def child(self, change: Change[Child]) -> None:
        """One of our children came, changed or went. All children of one deployment have one name."""
        self._children_of(Key(*change.place))

    def job(self, change: Change[Child]) -> None:
        """The Job that brings somebody's weights came, got on, ended or went; its name is not the other children's."""
        for key in self._by_job.get(Key(*change.place), ()):
            self._look_soon(key)

    def claim(self, change: Change[ClaimRecord]) -> None:
        """A PersistentVolumeClaim came, was bound or went: whoever names it may go on, or may not."""
        for key in self._by_claim.get(Key(*change.place), ()):
            self._look_soon(key)

    def slice(self, change: Change[Slice]) -> None:
        """What stands behind a Service changed."""
        for seen in (change.old, change.new):
            if seen is not None:
                self._children_of(seen.service)

    def _children_of(self, child: Key) -> None:
        for key in self._by_child.get(child, ()):
            self._look_soon(key)


def _holds(pod: PodSeen | None) -> tuple[PodRecord | None, bool]:
    """What a pod takes of its node, and whether a gate holds it: then its deployment claims nothing for it."""
    if pod is None:
        return None, False
    return pod.record, pod.replica is not None and pod.replica.gated


def _declares_the_same(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    if old is None or new is None:
        return False
    return all(old["metadata"].get(of) == new["metadata"].get(of) for of in ("uid", "generation"))


def _child_key(key: Key) -> Key:
    return Key(key.namespace, names.child_name(key.name))


def _move(index: dict[Key, set[Key]], key: Key, *, old: set[Key], new: set[Key]) -> None:
    for place in old - new:
        index[place].discard(key)
        if not index[place]:
            del index[place]
    for place in new - old:
        index[place].add(key)


def _jobs(key: Key, obj: Mapping[str, Any] | None) -> set[Key]:
    return set() if obj is None else {Key(key.namespace, names.weights_name(key.name))}


def _claims(key: Key, obj: Mapping[str, Any] | None) -> set[Key]:
    return {Key(key.namespace, name) for name in claim_names((obj or {}).get("spec") or {})}
