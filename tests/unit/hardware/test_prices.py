"""Which price a pool has: the narrowest that is known, and none that is guessed."""

from dataclasses import replace
from decimal import Decimal

from gemma_operator.catalog import prices
from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.prices import Price
from gemma_operator.hardware.declared import DeclaredPool
from gemma_operator.hardware.nodes import node_record
from gemma_operator.hardware.pools import pools

GKE = "cloud.google.com/gke-"


def a_node(name="n", *, gpus=2, spot=False, machine="g2-standard-24", card="nvidia-l4", pool="l4", **labels):
    said = {f"{GKE}nodepool": pool, f"{GKE}accelerator": card, "node.kubernetes.io/instance-type": machine}
    if spot:
        said[f"{GKE}spot"] = "true"
    return node_record(
        {
            "metadata": {"name": name, "labels": said | labels},
            "status": {"allocatable": {"nvidia.com/gpu": str(gpus)}},
        }
    )


def price_of(*nodes, declared=(), **file):
    known = prices.parse("prices", {"date": "2026-11-20", "source": "a test", "currency": "USD", **file})
    (pool,) = pools(nodes, declared, replace(packaged(), prices=known))
    return pool.shape.node_price


def usd(amount):
    return Price(Decimal(amount), "USD")


def test_cards_are_counted():
    assert price_of(a_node(), accelerators={"nvidia-l4": "0.70"}) == usd("1.40")


def test_the_narrower_price_wins():
    file = {"accelerators": {"nvidia-l4": "0.70"}, "machineTypes": {"g2-standard-24": "2"}}
    assert price_of(a_node(), **file) == usd("2")
    assert price_of(a_node(), **file, pools={"l4": "3"}) == usd("3")
    assert price_of(a_node(), **file, pools={"l4": "3", "gke-nodepool/l4": "4"}) == usd("4")


def test_an_accelerator_pools_own_price_comes_first():
    declared = DeclaredPool("mine", "nvidia-l4", 2, (("a", "b"),), node_price=usd("9"))
    assert price_of(declared=[declared], pools={"mine": "1"}) == usd("9")


def test_a_pool_without_nodes_has_the_machine_that_it_selects():
    selects = (("node.kubernetes.io/instance-type", "g2-standard-24"),)
    declared = DeclaredPool("mine", "nvidia-l4", 2, selects, max_nodes=1)
    assert price_of(declared=[declared], machineTypes={"g2-standard-24": "2"}) == usd("2")


def test_spot_is_not_given_the_price_of_what_stays():
    assert price_of(a_node(spot=True), accelerators={"nvidia-l4": "0.70"}) is None
    rate = {"nvidia-l4": {"amount": "0.70", "spot": "0.25"}}
    assert price_of(a_node(spot=True), accelerators=rate) == usd("0.50")
    assert price_of(a_node(), accelerators={"nvidia-l4": {"spot": "0.25"}}) is None


def test_a_pool_of_two_machine_types_has_no_machines_price():
    nodes = a_node("a"), a_node("b", machine="other")
    assert price_of(*nodes, machineTypes={"g2-standard-24": "2"}) is None


def test_a_slice_or_a_shared_card_is_no_part_of_a_list():
    shared = {f"{GKE}gpu-sharing-strategy": "time-sharing", f"{GKE}max-shared-clients-per-gpu": "2"}
    assert price_of(a_node(**shared), accelerators={"nvidia-l4": "0.70"}) is None


def test_a_part_of_a_card_is_not_the_card():
    part = DeclaredPool("mine", "nvidia-l4", 1, (("a", "b"),), memory_mib=5700)
    assert price_of(declared=[part], accelerators={"nvidia-l4": "0.70"}) is None


def test_a_card_that_the_file_does_not_name_has_no_price():
    assert price_of(a_node(), accelerators={"nvidia-h100-80gb": "9"}) is None
