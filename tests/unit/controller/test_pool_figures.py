"""What accelerators do: counted as placement counts them, once a change and not once a scrape."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import astuple

import pytest

from gemma_operator.controller.pool_figures import PoolFigures, views
from gemma_operator.planner.placement import PlacedClaim
from unit.controller.builders import World
from unit.planner.builders import a_demand, a_node, a_pod, a_pool, a_shape

H100 = a_shape("h100", gpus=8)
L4 = a_shape("l4")


def counts(*pools, pods=(), claims=()):
    """By pool: (total, free, claimed)."""
    found = views(pools, pods=pods, claims=claims)
    return {view.pool: (view.total, view.free, view.claimed) for view in found}


def a_claim(shape, gpus=1, *, replicas=1, name="chat"):
    return PlacedClaim(("team", name), shape.id, a_demand(gpus), replicas)


def test_a_view_carries_the_names_of_its_pool():
    (view,) = views([a_pool(L4, a_node("n1"))], pods=(), claims=())
    assert astuple(view) == ("gke-nodepool", "l4", "nvidia-l4", 1, 1, 0, 0)


def test_what_pods_have_is_neither_free_nor_claimed():
    pool = a_pool(H100, a_node("n1", gpus=8), a_node("n2", gpus=8))
    assert counts(pool, pods=[a_pod("n1", gpus=3)]) == {"h100": (16, 13, 0)}


def test_what_a_placed_deployment_still_has_to_get_is_claimed_and_not_free():
    pool = a_pool(H100, a_node("n1", gpus=8))
    bound = [a_pod("n1", gpus=2, owner=("team", "chat"))]
    assert counts(pool, pods=bound, claims=[a_claim(H100, 2, replicas=3)]) == {"h100": (8, 2, 4)}


def test_a_claim_that_fits_nowhere_takes_nothing_from_others():
    pool = a_pool(H100, a_node("n1", gpus=8))
    assert counts(pool, claims=[a_claim(H100, 8, replicas=2)]) == {"h100": (8, 0, 8)}


def test_a_node_that_takes_no_pods_is_counted_and_has_nothing_free():
    pool = a_pool(L4, a_node("n1"), a_node("n2", schedulable=False))
    assert counts(pool) == {"l4": (2, 1, 0)}


def test_what_a_refusing_node_offers_is_in_quarantine_and_not_free():
    pool = a_pool(L4, a_node("n1", gpus=4), a_node("n2"))
    (view,) = views([pool], pods=(), claims=(), quarantined={("n1", "nvidia.com/gpu"), ("n2", "amd.com/gpu")})
    assert (view.total, view.free, view.quarantined) == (5, 1, 4)


def test_a_claim_on_a_node_that_is_yet_to_come_is_claimed():
    pool = a_pool(H100, growth=2)
    assert counts(pool, claims=[a_claim(H100, 8)]) == {"h100": (0, 0, 8)}


def test_each_pool_has_its_own_claims():
    pools = [a_pool(H100, a_node("n1", gpus=8)), a_pool(L4, a_node("n2"))]
    assert counts(*pools, claims=[a_claim(L4)]) == {"h100": (8, 8, 0), "l4": (1, 0, 1)}


class Told:
    """Figures with everything around them at hand."""

    def __init__(self, *nodes, leads=True, seconds_a_count=0.0):
        ticks = itertools.count()
        self.world = World(*nodes)
        self.heard = []
        self.leads = leads
        self.figures = PoolFigures(
            fleet=self.world.fleet,
            claims=self.world.desk.claims,
            tell=lambda views: self.heard.append(list(views)),
            leading=lambda: self.leads,
            debounce_seconds=0.001,
            clock=lambda: next(ticks) * seconds_a_count,
        )

    async def runs_until(self, condition):
        running = asyncio.create_task(self.figures.run())
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_changes_that_come_together_are_counted_once():
    told = Told()
    for _ in range(100):
        told.figures.changed()
    await told.runs_until(lambda: told.heard)
    assert told.heard == [[]]


async def test_a_standby_counts_nothing_until_it_leads():
    told = Told(leads=False)
    told.figures.changed()
    await told.runs_until(lambda: not told.figures._changed.is_set())
    assert told.heard == []
    told.leads = True
    told.figures.changed()
    await told.runs_until(lambda: told.heard)


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.001), (0.09, 4.5)])
async def test_counting_takes_at_most_a_fiftieth_of_a_core(took, pause):
    told = Told(seconds_a_count=took)
    told.figures.changed()
    await told.runs_until(lambda: told.heard)
    assert told.figures.pause_seconds == pytest.approx(pause)
