"""Who is the leader, and whether it still may write.

The rules are client-go's (k8s.io/client-go/tools/leaderelection): a holder renews; another takes over when it
has itself seen the record unchanged for the whole lease duration, by its own clock, so skewed clocks do no
harm. Times in the record are for readers only. All of it that decides is measured on a clock that also runs
while the process or the machine is suspended.

The fence is what makes a paused leader harmless: it closes at the renew deadline counted from the *sending*
of the last good renewal, which is earlier than anybody else may take over.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.resources import LEASES
from gemma_operator.errors import ApiError, Conflict, InvalidSettings, NotFound

logger = logging.getLogger(__name__)

Clock = Callable[[], float]


def boot_clock() -> float:
    """Seconds that go on while the machine sleeps, where the platform has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Which Lease, as whom, and for how long. The defaults are client-go's: 15, 10, 2."""

    namespace: str
    name: str
    identity: str
    duration_seconds: float = 15.0
    #: A holder that could not renew for so long gives up by itself.
    renew_deadline_seconds: float = 10.0
    retry_seconds: float = 2.0

    def __post_init__(self) -> None:
        if not self.duration_seconds > self.renew_deadline_seconds > self.retry_seconds > 0:
            raise InvalidSettings(
                "leaseDurationSeconds > leaseRenewSeconds > leaseRetrySeconds > 0 must hold"
            )


class Elector:
    """Takes part in the election until cancelled; `on_started` and `on_stopped` must not block.

    `client` must have no fence: the Lease is what the fence depends on.
    """

    def __init__(
        self,
        client: Client,
        settings: LeaseSettings,
        *,
        on_started: Callable[[], None],
        on_stopped: Callable[[], None],
        clock: Clock = boot_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._settings = settings
        self._on_started = on_started
        self._on_stopped = on_stopped
        self._clock = clock
        self._sleep = sleep
        self._lease: dict[str, Any] | None = None
        self._seen: tuple[str, int, str] | None = None
        self._seen_at = float("-inf")
        self._renewed_at = float("-inf")
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether `on_started` was the last thing that was called."""
        return self._leading

    def fence(self) -> bool:
        """Whether a write may be sent now: nobody else can be the leader yet."""
        return self._leading and self._in_time()

    async def run(self) -> None:
        """Waits for the Lease, leads, and after a loss waits again; until cancelled. Releases nothing."""
        try:
            while True:
                try:
                    await self._step()
                except ApiError as error:
                    logger.warning("%s", error)
                self._give_up_in_time()
                # jittered, so that standbys do not all ask at the same moments
                await self._sleep(self._settings.retry_seconds * random.uniform(0.8, 1.2))  # noqa: S311
                self._give_up_in_time()
        finally:
            self._lead(False)

    async def release(self) -> None:
        """Gives the Lease back, so that a standby need not wait. Call it when all writes are done."""
        held = self._lease
        self._lead(False)
        if held is None or _spec(held).get("holderIdentity") != self._settings.identity:
            return
        spec = _spec(held) | {"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._client.update(LEASES, {**held, "spec": spec})
            logger.info("released the Lease %s/%s", self._settings.namespace, self._settings.name)
        except ApiError as error:
            logger.warning("the Lease was not released, a standby has to wait for its end: %s", error)

    async def _step(self) -> None:
        asked_at = self._clock()
        try:
            # a call that hangs must not outlive what it renews
            async with asyncio.timeout(self._settings.renew_deadline_seconds - self._settings.retry_seconds):
                mine = await self._try_to_hold()
        except TimeoutError:
            logger.warning("no answer about the Lease in time")
            return
        if mine:
            self._renewed_at = asked_at
            # a process that was paused between asking and this line may hold it no more
            self._lead(self._in_time())
        elif self._leading:
            logger.error(
                "the Lease %s/%s was lost to %s",
                self._settings.namespace,
                self._settings.name,
                self._holder() or "nobody",
            )
            self._lead(False)

    async def _try_to_hold(self) -> bool:
        if self._leading and self._lease is not None:
            try:
                return await self._write(self._lease)  # renewing: what we wrote last needs no reading
            except Conflict:
                pass  # somebody else wrote: read what
        try:
            lease = await self._client.get(
                LEASES, namespace=self._settings.namespace, name=self._settings.name
            )
        except NotFound:
            return await self._create()
        self._observe(lease)
        if not self._may_take(lease):
            return False
        try:
            return await self._write(lease)
        except Conflict:
            return False

    def _observe(self, lease: dict[str, Any]) -> None:
        self._lease = lease
        spec = _spec(lease)
        seen = (
            spec.get("holderIdentity") or "",
            int(spec.get("leaseTransitions") or 0),
            spec.get("renewTime") or "",
        )
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock()

    def _may_take(self, lease: dict[str, Any]) -> bool:
        holder = _spec(lease).get("holderIdentity") or ""
        if holder in {"", self._settings.identity}:
            return True
        # the holder's own figure: it counts on nobody taking over earlier
        duration = float(_spec(lease).get("leaseDurationSeconds") or self._settings.duration_seconds)
        return self._clock() >= self._seen_at + duration

    async def _create(self) -> bool:
        manifest = {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"namespace": self._settings.namespace, "name": self._settings.name},
            "spec": self._claim({}),
        }
        try:
            self._observe(await self._client.create(LEASES, manifest))
        except Conflict:
            return False
        except NotFound as error:
            namespace = self._settings.namespace
            raise InvalidSettings(
                f"there is no namespace {namespace} for the Lease: `kubectl create namespace {namespace}`, "
                "or name another one with --namespace"
            ) from error
        return True

    async def _write(self, lease: dict[str, Any]) -> bool:
        answer = await self._client.update(LEASES, {**lease, "spec": self._claim(_spec(lease))})
        self._observe(answer)
        return True

    def _claim(self, spec: dict[str, Any]) -> dict[str, Any]:
        now = _now()
        claim = spec | {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": max(1, round(self._settings.duration_seconds)),
            "renewTime": now,
        }
        if spec.get("holderIdentity") != self._settings.identity:
            claim["acquireTime"] = now
            claim["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if spec else 0)
        return claim

    def _holder(self) -> str:
        return "" if self._lease is None else str(_spec(self._lease).get("holderIdentity") or "")

    def _in_time(self) -> bool:
        return self._clock() < self._renewed_at + self._settings.renew_deadline_seconds

    def _give_up_in_time(self) -> None:
        if self._leading and not self.fence():
            logger.error("the Lease could not be renewed in time")
            self._lead(False)

    def _lead(self, leading: bool) -> None:
        if leading == self._leading:
            return
        self._leading = leading
        logger.info("%s: %s", self._settings.identity, "leading" if leading else "not leading")
        (self._on_started if leading else self._on_stopped)()


class AlwaysLeader:
    """In place of an Elector where one process is known to be alone (tests, a laptop)."""

    def __init__(self, *, on_started: Callable[[], None], on_stopped: Callable[[], None]) -> None:
        self._on_started = on_started
        self._on_stopped = on_stopped
        self.leading = False

    def fence(self) -> bool:
        """Always open."""
        return True

    async def run(self) -> None:
        """Leads until cancelled."""
        self.leading = True
        self._on_started()
        try:
            await asyncio.Event().wait()
        finally:
            self.leading = False
            self._on_stopped()

    async def release(self) -> None:
        """There is nothing to give back."""


def _spec(lease: dict[str, Any]) -> dict[str, Any]:
    return dict(lease.get("spec") or {})


def _now() -> str:
    """MicroTime, as k8s.io/apimachinery writes it: UTC with six digits."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
