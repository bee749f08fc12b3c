"""Sends a decision: one apply per child and change, deletes by uid, the status only where it differs.

It knows nothing of GPUs and decides nothing. What the server answered is remembered where it is not what was
sent (a webhook added something to a field of ours), so that such an object is at rest too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from gemma_operator.api import names
from gemma_operator.backends.decision import Decision, Event, Manifest, ObjectRef
from gemma_operator.backends.kubernetes import differences, refusals, unmade_jobs
from gemma_operator.backends.kubernetes.answers import Answers
from gemma_operator.backends.kubernetes.contests import Contest, Contests, Try, place
from gemma_operator.backends.kubernetes.differences import Changed
from gemma_operator.backends.kubernetes.ownership import digest, owned_hash
from gemma_operator.backends.kubernetes.records import cut_child
from gemma_operator.backends.kubernetes.render_weights import first_task
from gemma_operator.backends.kubernetes.snapshot import Child, Snapshot
from gemma_operator.backends.kubernetes.status_json import status_json
from gemma_operator.errors import ApiError, Conflict, Forbidden, NotFound, Rejected
from gemma_operator.scrub import scrub

logger = logging.getLogger(__name__)

#: Every placed deployment has these; the budget only from two replicas on.
_ALWAYS = ("ServiceAccount", "Service", "NetworkPolicy", "Deployment")
_FROM_TWO = "PodDisruptionBudget"
_NOTE_MAX_BYTES = 1024  # noteLengthLimit of events.k8s.io/v1
#: The apply that was refused, the patch that replaces lists, and the apply after it.
_REQUESTS_OF_PUTTING_BACK = 3


class Writer(Protocol):
    """What is asked of `apiserver.apply.Writer`."""

    async def apply(self, manifest: Mapping[str, Any], *, uid: str = "") -> dict[str, Any]:
        """With `uid` that very object, by force; without, an object that nobody else holds."""
        ...

    async def put_back(self, manifest: Mapping[str, Any], *, uid: str) -> dict[str, Any]:
        """That very object, where an apply is refused for what somebody put beside our fields."""
        ...

    async def merge(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Some fields of that very object, the rest left as it is."""
        ...

    async def apply_status(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """The whole status, under its own manager."""
        ...

    async def delete(self, kind: str, *, namespace: str, name: str, uid: str) -> None:
        """That very object."""
        ...

    async def read(self, kind: str, *, namespace: str, name: str) -> dict[str, Any]:
        """Past the caches."""
        ...

    async def events_about(self, uid: str, *, namespace: str, reason: str) -> list[dict[str, Any]]:
        """Events of others about one object."""
        ...

    async def post_event(self, event: Mapping[str, Any]) -> None:
        """One Event."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was written: for logs, metrics and tests."""

    applied: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    status_written: bool = False
    events: int = 0

    @property
    def writes(self) -> int:
        """Requests that changed something, or tried to."""
        return len(self.applied) + len(self.deleted) + int(self.status_written) + self.events


class Act:
    """Carries decisions out against one API server."""

    def __init__(
        self, writer: Writer, *, instance: str, window_seconds: float, answers: Answers | None = None
    ) -> None:
        self._writer = writer
        self._instance = instance
        self._answers = answers or Answers()
        self._contests = Contests(window_seconds=window_seconds)

    def answers(self) -> Mapping[str, tuple[str, str]]:
        """What `Snapshot.answers` holds."""
        return self._answers.view()

    def contests(self, owner_uid: str, now: datetime) -> Mapping[str, Contest]:
        """What `Snapshot.contests` holds."""
        return self._contests.of(owner_uid, now=now)

    def forget(self, owner_uid: str) -> None:
        """The deployment went, and its children with it."""
        for uid in (owner_uid, *self._contests.forget(owner_uid)):
            self._answers.forget(uid)

    def unknown_children(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Kinds that may be made now and are in no cache: a stranger's object carries no label of ours."""
        deployment = snapshot.deployment
        if deployment is None or snapshot.current_plan is None or snapshot.terminating:
            return ()
        if deployment.spec.suspend:
            return ()
        wanted = (*_ALWAYS, _FROM_TWO) if deployment.spec.replicas > 1 else _ALWAYS
        if first_task(deployment.spec) is not None:
            wanted = (*wanted, names.JOB_KIND)
        known = {child.kind for child in snapshot.children}
        return tuple(kind for kind in wanted if kind not in known)

    async def look_for(self, kinds: Sequence[str], snapshot: Snapshot) -> tuple[Child, ...]:
        """Who stands where our children would: read at once, before anything is applied there."""
        found = await asyncio.gather(*(self._read(kind, snapshot) for kind in kinds))
        return tuple(child for child in found if child is not None)

    async def why_unmade(self, job: Child, snapshot: Snapshot) -> str:
        """Why the Job gets no pod, in the words of who refused it. Where Events may not be read nobody says it."""
        try:
            events = await self._writer.events_about(
                job.uid, namespace=snapshot.key.namespace, reason=unmade_jobs.REASON
            )
        except Forbidden as error:
            logger.warning("why %s %s has no pod is not known: %s", job.kind, job.name, error)
            return ""
        return unmade_jobs.last_note(events)

    async def act(self, decision: Decision, snapshot: Snapshot, *, now: datetime) -> Outcome:
        """Children first, so that the status never says more than what stands."""
        if _makes_anew(decision, snapshot) and not await self._is_still_wanted(snapshot):
            return Outcome()
        try:
            applied = [await self._apply(manifest, snapshot, now=now) for manifest in decision.apply]
            applied += [await self._merge(manifest) for manifest in decision.merge]
        except ApiError as error:
            if not refusals.is_one(error):
                raise
            if refusals.namespace_is_going(error):
                return Outcome()
            refused = refusals.explained(decision, error, snapshot)
            await self._write_status(refused, snapshot, now=now)
            raise
        deleted = [await self._delete(ref, snapshot) for ref in decision.delete]
        written = await self._write_status(decision, snapshot, now=now)
        # what is deleted is told of even where the status says the same as before
        events = decision.events if written or deleted else ()
        for number, event in enumerate(events):  # an Event is named by its time
            await self._post(event, snapshot, now=now + timedelta(microseconds=number))
        return Outcome(tuple(applied), tuple(deleted), written, len(events))

    async def _is_still_wanted(self, snapshot: Snapshot) -> bool:
        """Asked past the cache, which may not know yet that the object was deleted."""
        key = snapshot.key
        try:
            found = await self._writer.read(names.DEPLOYMENT_KIND, namespace=key.namespace, name=key.name)
        except NotFound:
            return False
        metadata = found["metadata"]
        return metadata["uid"] == snapshot.uid and "deletionTimestamp" not in metadata

    async def _read(self, kind: str, snapshot: Snapshot) -> Child | None:
        name = names.name_of_child(kind, snapshot.key.name)
        try:
            return cut_child(await self._writer.read(kind, namespace=snapshot.key.namespace, name=name))
        except NotFound:
            return None

    async def _apply(self, manifest: Manifest, snapshot: Snapshot, *, now: datetime) -> str:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        where = place(kind, name)
        known = next((child for child in snapshot.children if (child.kind, child.name) == (kind, name)), None)
        sent = manifest["metadata"]["annotations"][names.APPLIED_HASH]
        again = self._contests.is_again(snapshot.uid, where, sent=sent)
        changed = await self._since_then(manifest, snapshot, known) if known and again else Changed()
        answer, requests = await self._send(manifest, uid=known.uid if known else "")
        uid, stood = answer["metadata"]["uid"], owned_hash(answer)
        self._answers.note(uid, sent=sent, stood=stood)
        admitted = stood != sent
        if admitted:
            changed = differences.within_our_request(manifest, answer)
        tried = Try(sent, changed, admitted, gone=again and known is None, requests=requests)
        self._contests.note(snapshot.uid, where, tried, uid=uid, now=now)
        return where

    async def _merge(self, manifest: Manifest) -> str:
        answer = await self._writer.merge(manifest)
        return place(answer["kind"], answer["metadata"]["name"])

    async def _since_then(self, manifest: Manifest, snapshot: Snapshot, known: Child) -> Changed:
        """What somebody made of a child that is applied a second time; asked before our own write covers it."""
        try:
            live = await self._writer.read(known.kind, namespace=snapshot.key.namespace, name=known.name)
        except NotFound:
            return Changed()
        return differences.by_others(manifest, live)

    async def _send(self, manifest: Manifest, *, uid: str) -> tuple[Mapping[str, Any], int]:
        """The answer, and how many requests it took."""
        try:
            return await self._writer.apply(manifest, uid=uid), 1
        except Rejected as error:
            # how the server says that a namesake took its place: 422, not 409
            if "metadata.uid" in str(error):
                raise Conflict(str(error), status=error.status, reason=error.reason) from error
            if not uid:
                raise
            logger.info("%s; putting it back as a whole", error)
        return await self._writer.put_back(manifest, uid=uid), _REQUESTS_OF_PUTTING_BACK

    async def _delete(self, ref: ObjectRef, snapshot: Snapshot) -> str:
        try:
            await self._writer.delete(ref.kind, namespace=snapshot.key.namespace, name=ref.name, uid=ref.uid)
        except (NotFound, Conflict):
            logger.debug("%s %s went before it was deleted", ref.kind, ref.name)
        self._answers.forget(ref.uid)
        self._contests.removed(snapshot.uid, place(ref.kind, ref.name))
        return place(ref.kind, ref.name)

    async def _write_status(self, decision: Decision, snapshot: Snapshot, *, now: datetime) -> bool:
        """The whole status in one write; none where the server has it already."""
        if decision.status is None:
            return False
        status = status_json(decision, snapshot, now=now)
        sent, live = digest(status), digest(snapshot.status)
        if self._answers.stands(snapshot.uid, sent=sent, live=live):
            return False
        metadata = {"name": snapshot.key.name, "namespace": snapshot.key.namespace}
        body = {"apiVersion": names.API_VERSION, "kind": names.DEPLOYMENT_KIND, "metadata": metadata}
        try:
            answer = await self._writer.apply_status({**body, "status": status})
        except NotFound:
            self._answers.forget(snapshot.uid)
            return False
        self._answers.note(snapshot.uid, sent=sent, stood=digest(answer.get("status", {})))
        return True

    async def _post(self, event: Event, snapshot: Snapshot, *, now: datetime) -> None:
        """An Event is a courtesy: a cluster that takes none still gets its endpoint."""
        try:
            await self._writer.post_event(_event(event, snapshot, now=now, instance=self._instance))
        except ApiError as error:
            if refusals.namespace_is_going(error):
                return
            logger.warning("no Event for %s: %s", snapshot.key, error)


def _makes_anew(decision: Decision, snapshot: Snapshot) -> bool:
    """A child that stood lost its owner or went: by hand, or because its owner is being deleted.

    With `--cascade=orphan` the collector takes our reference off first; whoever puts it back makes the
    collector delete what was to stay.
    """
    known = {(child.kind, child.name): child for child in snapshot.children}
    sent = (*decision.apply, *decision.merge)
    applied = [known.get((each["kind"], each["metadata"]["name"])) for each in sent]
    went = None in applied and bool(snapshot.status.get("plan"))
    return went or any(child is not None and not child.controller_uid for child in applied)


def _event(event: Event, snapshot: Snapshot, *, now: datetime, instance: str) -> dict[str, Any]:
    key = snapshot.key
    name = names.event_name(key.name, micros=int(now.timestamp() * 10**6))
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": key.namespace, "name": name},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"{names.PREFIX}operator",
        "reportingInstance": instance,
        "action": "Reconcile",
        "reason": event.reason,
        "type": event.type,
        "note": scrub(event.message).encode()[:_NOTE_MAX_BYTES].decode(errors="ignore"),
        "regarding": {
            "apiVersion": names.API_VERSION,
            "kind": names.DEPLOYMENT_KIND,
            "namespace": key.namespace,
            "name": key.name,
            "uid": snapshot.uid,
        },
    }
