"""The one file that knows all the parts: builds them, ties them together, and runs them.

Read it from top to bottom to see who is given what. Nothing here decides anything.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gemma_operator import __version__
from gemma_operator.api import crd
from gemma_operator.apiserver.apply import Writer
from gemma_operator.apiserver.client import Client
from gemma_operator.apiserver.credentials import Source
from gemma_operator.apiserver.lease import AlwaysLeader, Elector, LeaseSettings
from gemma_operator.apiserver.resources import ACCELERATOR_POOLS, GEMMA_DEPLOYMENTS
from gemma_operator.apiserver.session import SessionHolder
from gemma_operator.backends.kubernetes.act import Act
from gemma_operator.backends.kubernetes.snapshot import Key
from gemma_operator.catalog.loader import load
from gemma_operator.controller import pool_status, schema, startup
from gemma_operator.controller.fleet import Fleet
from gemma_operator.controller.inputs import InputsOf
from gemma_operator.controller.keyring import Keyring
from gemma_operator.controller.observe import Sources
from gemma_operator.controller.placed import placed
from gemma_operator.controller.placement import Placed, PlacementDesk
from gemma_operator.controller.pool_figures import PoolFigures
from gemma_operator.controller.pool_statuses import PoolStatuses
from gemma_operator.controller.quarantine import Quarantine
from gemma_operator.controller.queue import Queue
from gemma_operator.controller.reconciler import Parts, Reconciler
from gemma_operator.controller.runtime import Runtime
from gemma_operator.controller.tables import beside, tables
from gemma_operator.controller.wake import Wake
from gemma_operator.controller.watch import Watch
from gemma_operator.engines.registry import engine_named
from gemma_operator.errors import GemmaOperatorError
from gemma_operator.metrics.registry import Metrics
from gemma_operator.metrics.server import LoopLag, MetricsServer
from gemma_operator.planner.values import Plan
from gemma_operator.probing.prober import Prober
from gemma_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)


async def run(settings: OperatorSettings, *, source: Source, leader_election: bool = True) -> None:
    """Runs the operator until SIGTERM or Ctrl-C; raises a GemmaOperatorError where it cannot."""
    await Operator(settings, source=source, leader_election=leader_election).run()


class Operator:
    """Every part, tied together. One for each process and event loop."""

    def __init__(self, settings: OperatorSettings, *, source: Source, leader_election: bool = True) -> None:
        self._settings = settings
        self._lease = (settings.namespace, settings.lease_name) if leader_election else None
        self._identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self._catalog = load(
            *([Path(settings.catalog_dir)] if settings.catalog_dir else []),
            prices=Path(settings.price_file) if settings.price_file else None,
        )
        self._schema_gaps: tuple[str, ...] = ()

        # talking
        self.metrics = Metrics()
        self._holder = SessionHolder(source)
        # two clients: the Lease is written past the fence that depends on it, and the seed before there is one
        self._unfenced = Client(self._holder, on_request=self.metrics.request)
        self._keyring = Keyring(self._unfenced, namespace=settings.namespace)
        self._election = self._elector()
        self._client = Client(self._holder, on_request=self.metrics.request, fence=self._election.fence)

        # knowing
        self.queue: Queue[Key] = Queue(observer=self.metrics.controller)
        self._quarantine = Quarantine(seconds=settings.quarantine_seconds, now=lambda: datetime.now(UTC))
        wake = Wake(
            look_at=self._look_at,
            look_soon=self._look_soon,
            hardware_changed=self._hardware_changed,
            room_changed=self._room_changed,
            pool_touched=lambda name: self._pool_statuses.touched(name),  # noqa: PLW0108 - it is made below
            admitted=self._quarantine.saw,
            node_went=self._quarantine.forget,
        )
        self._quarantine.changed = wake.quarantine
        self.watch = Watch(self._client, self._holder, on_deployment=wake.deployment, on_pool=wake.pool)
        self.caches = tables(self._client, wake, look_again_seconds=settings.rediscover_seconds)
        self._prober: Prober[Key] = Prober(
            settings=settings,
            on_verdict=self.queue.add,
            on_sample=self.metrics.sample,
            on_probe=self.metrics.probe,
        )

        # deciding
        self._inputs = InputsOf(settings, carried=self.caches.carried)
        self._fleet = Fleet(
            catalog=self._catalog,
            nodes=self.caches.nodes.values,
            declared=lambda: pool_status.declared(self.watch.pools.values()),
            pods=self.caches.pod_records,
            beside=beside(self.caches, quarantined=lambda: self._quarantine.pairs),
            access=settings.pool_access,
        )
        self._desk = PlacementDesk(
            catalog=self._catalog,
            settings=settings,
            fleet=self._fleet,
            placed=self._placed,
            wake=self._look_at,
            now_iso=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        writer = self._writer()
        self._act = Act(writer, instance=self._identity, window_seconds=settings.contest_window_seconds)
        self._reconciler = Reconciler(
            Parts(
                store=self.watch.deployments,
                sources=self._sources(),
                placement=self._desk,
                act=self._act,
                prober=self._prober,
                metrics=self.metrics,
                default_engine=engine_named(settings.default_engine),
                now=lambda: datetime.now(UTC),
                leading=lambda: self._election.leading,
            )
        )

        # saying what is known of pools
        self._pool_statuses = PoolStatuses(
            store=self.watch.pools,
            fleet=self._fleet,
            catalog=self._catalog,
            apply_status=writer.apply_status,
            now=lambda: datetime.now(UTC),
            debounce_seconds=settings.fleet_debounce_seconds,
        )
        self._pool_figures = PoolFigures(
            fleet=self._fleet,
            claims=self._desk.claims,
            tell=self.metrics.pools,
            leading=lambda: self._election.leading,
            debounce_seconds=settings.fleet_debounce_seconds,
        )

        # running
        self._lag = LoopLag()
        self.server = MetricsServer(
            settings=settings,
            exposition=self.metrics.exposition,
            loop_lag_seconds=lambda: self._lag.seconds,
            oldest_worker_seconds=lambda: self.queue.oldest_worker_seconds,
            ready=self._ready,
        )
        self.metrics.controller.depth = lambda: len(self.queue)
        self.metrics.controller.active_workers = lambda: self.queue.working
        self.runtime = Runtime(
            watch=self.watch,
            caches=self.caches.all(),
            queue=self.queue,
            election=self._election,
            reconcile=self._reconciler.reconcile,
            workers=settings.workers,
            on_result=self.metrics.reconciled,
            jobs=(
                ("placement", self._desk.run),
                ("prober", self._prober.run),
                ("quarantine", self._quarantine.run),
                ("pool statuses", self._pool_statuses.run),
                ("pool figures", self._pool_figures.run),
                ("loop lag", self._lag.run),
            ),
        )

    async def run(self) -> None:
        """Checks the cluster, then runs until stopped."""
        logger.info("gemma-operator %s as %s", __version__, self._identity)
        try:
            await startup.check(self._client, lease=self._lease)
            await self._keyring.load()
            served = await startup.served_crd(self._client)
            if served is not None:
                self._schema_gaps = schema.gaps(served, crd.gemma_deployment_crd())
            # what is loaded by now stays: leaving it out makes each later collection 40 % shorter
            gc.collect()
            gc.freeze()
            gc.set_threshold(50_000, 20, 20)
            async with self.server:
                logger.info("metrics on port %d", self.server.port)
                await self.runtime.run()
        except OSError as error:
            raise GemmaOperatorError(f"cannot serve metrics: {error.strerror or error}") from error
        finally:
            await self._holder.close()

    def _elector(self) -> Elector | AlwaysLeader:
        settings = self._settings
        if self._lease is None:
            return AlwaysLeader(on_started=self._on_started, on_stopped=self._on_stopped)
        return Elector(
            self._unfenced,
            LeaseSettings(
                namespace=settings.namespace,
                name=settings.lease_name,
                identity=self._identity,
                duration_seconds=settings.lease_duration_seconds,
                renew_deadline_seconds=settings.lease_renew_seconds,
                retry_seconds=settings.lease_retry_seconds,
            ),
            on_started=self._on_started,
            on_stopped=self._on_stopped,
        )

    def _on_started(self) -> None:
        self.metrics.leader(True)
        for namespace, name in self.watch.deployments.places():
            self.queue.add(Key(namespace, name))
        self.queue.open()
        self._pool_statuses.changed()
        self._pool_statuses.queue.open()
        self._pool_figures.changed()

    def _on_stopped(self) -> None:
        self.queue.close()
        self._pool_statuses.queue.close()
        self.metrics.leader(False)
        self._reconciler.stand_down()

    def _look_at(self, key: Key) -> None:
        if self._election.leading:  # who begins to lead looks at everything there is
            self.queue.add(key)
            self._pool_figures.changed()  # a plan, a scale or a pod of it may be another one

    def _look_soon(self, key: Key) -> None:
        if self._election.leading:
            self.queue.add_after(key, self._settings.settle_seconds)
            self._pool_figures.changed()

    def _hardware_changed(self) -> None:
        self._fleet.hardware_changed()
        self._pool_statuses.changed()

    def _room_changed(self) -> None:
        self._desk.room_changed()
        self._pool_figures.changed()

    def _ready(self) -> tuple[bool, str]:
        if self.runtime.synced:
            return True, "leading" if self._election.leading else "standing by"
        failures = [str(cache.failure) for cache in self.caches.all() if cache.failure is not None]
        return False, "; ".join(failures) or "still listing"

    def _writer(self) -> Writer:
        answers = {kind: cache.put_answer for kind, cache in self.caches.children.items()}
        answers[GEMMA_DEPLOYMENTS.kind] = self.watch.deployments.put_answer
        answers[ACCELERATOR_POOLS.kind] = self.watch.pools.put_answer
        return Writer(self._client, answers=answers)

    def _sources(self) -> Sources:
        return Sources(
            caches=self.caches,
            inputs=self._inputs,
            facts=self._prober.facts,
            placement=self._desk.answer,
            plan_from_status=self._plan_from_status,
            pool_known=self._fleet.knows,
            answers=self._act.answers,
            contests=self._act.contests,
            living_uids=self._living_uids,
            probe_key=self._keyring.key_of,
            node_to_come=self._fleet.node_to_come,
            refusing_nodes=lambda plan: self._quarantine.nodes_of(plan.pool.resource_name),
            schema_gaps=lambda _obj: self._schema_gaps,
            settings=self._settings,
        )

    def _living_uids(self, namespace: str) -> frozenset[str]:
        return frozenset(obj["metadata"]["uid"] for obj in self.watch.deployments.in_namespace(namespace))

    def _placed(self) -> Iterator[Placed]:
        return placed(
            self.watch.deployments.values(),
            caches=self.caches,
            inputs=self._inputs,
            plan_from_status=self._plan_from_status,
        )

    def _plan_from_status(self, obj: Mapping[str, Any]) -> Plan | None:
        key = Key(obj["metadata"]["namespace"], obj["metadata"]["name"])
        return self._desk.rebuilt(key, obj.get("status") or {}, self._inputs(obj))
