"""Pools are made anew when the hardware changed, and only then."""

from __future__ import annotations

from dataclasses import replace

from gemma_operator.catalog.loader import packaged
from gemma_operator.controller.fleet import Beside, Fleet
from gemma_operator.controller.pool_status import read
from gemma_operator.hardware.computeclasses import computeclass_record
from gemma_operator.hardware.nodeclaims import NodeClaimRecord
from gemma_operator.hardware.nodepools import nodepool_record
from gemma_operator.settings import PoolAccess
from plans import a_plan
from unit.controller.builders import World, a_gd, an_accelerator_pool, an_l4
from unit.planner.builders import a_pod


def names(world):
    return [pool.shape.id.name for pool in world.fleet.pools]


def test_pools_are_of_the_nodes_as_they_were_when_the_hardware_changed_last():
    world = World(an_l4())
    assert names(world) == ["l4"]
    world.nodes.append(an_l4("n2", pool="other"))
    assert names(world) == ["l4"], "nobody said so yet"
    world.fleet.hardware_changed()
    assert names(world) == ["l4", "other"]


def test_the_version_counts_how_often_pools_were_made():
    world = World(an_l4())
    assert world.fleet.version == 0
    for _ in range(3):
        assert world.fleet.pools
    assert world.fleet.version == 1
    world.fleet.hardware_changed()
    assert world.fleet.version == 1, "not before somebody looks"
    assert world.fleet.pools
    assert world.fleet.version == 2


def test_a_declared_pool_is_there_without_a_node():
    world = World()
    world.declared = [read(an_accelerator_pool())]
    assert names(world) == ["h200"]


def test_overlaps_are_those_of_the_hardware_as_it_changed_last():
    world = World(an_l4(labels={"team": "a"}))
    world.declared = [
        read(an_accelerator_pool(name, accelerator="nvidia-l4", nodeSelector={"team": "a"}))
        for name in ("first", "second")
    ]
    assert world.fleet.overlapping == {"second": ("first", "n1")}
    world.nodes.clear()
    assert world.fleet.overlapping == {"second": ("first", "n1")}
    world.fleet.hardware_changed()
    assert world.fleet.overlapping == {}


def test_pods_are_those_of_this_moment():
    world = World(an_l4())
    assert world.fleet.pods == ()
    world.pods.append(a_pod("n1"))
    assert world.fleet.pods == (world.pods[0],)


def test_a_plan_is_known_by_the_name_of_its_pool_whatever_became_of_its_shape():
    of_two = {"node.kubernetes.io/instance-type": "g2-standard-24"}
    world = World(an_l4(gpus=2, labels=of_two))
    world.ask(a_gd())
    world.desk.step()
    plan = world.answer(a_gd()).plan
    assert world.fleet.knows(plan)
    world.nodes[:] = [an_l4(gpus=1, labels=of_two)]
    world.fleet.hardware_changed()
    assert world.fleet.knows(plan), "it lost a GPU"
    for change in ({"name": "other"}, {"resource_name": "nvidia.com/mig-1g.10gb"}):
        assert not world.fleet.knows(replace(plan, pool=replace(plan.pool, **change))), change
    world.nodes.clear()
    world.fleet.hardware_changed()
    assert not world.fleet.knows(plan)


def a_fleet(*, access=(), **optional):
    found = {name: (lambda records=records: records) for name, records in optional.items()}
    return Fleet(
        catalog=packaged(), nodes=list, declared=list, pods=list, beside=Beside(**found), access=access
    )


def a_nodepool(name="gpu"):
    requirement = {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": ["g6.4xlarge"]}
    node = {"nodeClassRef": {"group": "karpenter.k8s.aws"}, "requirements": [requirement]}
    return nodepool_record({"metadata": {"name": name}, "spec": {"template": {"spec": node}}})


def a_computeclass(name="inference"):
    spec = {"nodePoolAutoCreation": {"enabled": True}, "priorities": [{"gpu": {"type": "nvidia-l4"}}]}
    return computeclass_record({"metadata": {"name": name}, "spec": spec})


def test_pools_that_have_no_node_yet_are_there():
    fleet = a_fleet(nodepools=[a_nodepool()], computeclasses=[a_computeclass()])
    assert [(pool.shape.id.source.value, pool.shape.id.name) for pool in fleet.pools] == [
        ("compute-class", "inference"),
        ("karpenter-nodepool", "gpu"),
    ]
    assert all(pool.growth for pool in fleet.pools)


def test_a_pool_is_kept_for_the_namespaces_of_the_operators_setting():
    fleet = a_fleet(nodepools=[a_nodepool()], access=[PoolAccess(("gpu",), ("team-a",))])
    assert [pool.shape.namespaces for pool in fleet.pools] == [("team-a",)]


def test_the_node_to_come_of_a_plan_is_that_of_the_nodepool_whose_nodes_it_selects():
    fleet = a_fleet(nodeclaims=[NodeClaimRecord("c", "gpu", "over quota")])
    for selector, trouble in (
        ((("karpenter.sh/nodepool", "gpu"),), "its node does not come: over quota"),
        ((), ""),
    ):
        assert fleet.node_to_come(a_plan(pool_selector=selector)) == trouble


def test_a_plan_on_a_nodepool_is_known_before_its_first_node():
    fleet = a_fleet(nodepools=[a_nodepool()])
    (pool,) = fleet.pools
    assert fleet.knows(a_plan(pool=pool.shape.id))
    assert not a_fleet().knows(a_plan(pool=pool.shape.id))
