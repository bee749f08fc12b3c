"""What a replica asks of its node."""

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.demand import demand
from gemma_operator.planner.feasible import feasible
from unit.planner.shapes import a_pool, a_request

GIB = 1024**3
#: EKS g6.xlarge as a node printed it (tests/data/nodes/eks-karpenter-g6-l4.yaml).
G6_XLARGE = {"cpu_millis": 3920, "memory_bytes": 14719096 * 1024, "ephemeral_bytes": 95491281146}


def demand_of(request, *, gpus=1, pool=None):
    found = feasible(request, [pool or a_pool(gpus=8)], packaged())
    fit = next(fit for fit in found.fits if fit.candidate.tensor_parallel == gpus)
    return demand(request, fit, packaged())


def test_the_host_is_asked_for_by_the_catalogs_rule():
    asked = demand_of(a_request("31B", precisions=("bf16",)), gpus=2)
    assert (asked.resource_name, asked.accelerators) == ("nvidia.com/gpu", 2)
    assert (asked.cpu_millis, asked.memory_bytes) == (4000, 16 * GIB)
    assert asked.ephemeral_bytes == 5 * GIB + 2 * 31_273_088_876


def test_the_smallest_machine_with_an_l4_holds_e4b():
    asked = demand_of(a_request("E4B", precisions=("bf16",)), pool=a_pool("nvidia-l4", gpus=1))
    assert asked.cpu_millis <= G6_XLARGE["cpu_millis"]
    assert asked.memory_bytes <= G6_XLARGE["memory_bytes"]
    assert asked.ephemeral_bytes <= G6_XLARGE["ephemeral_bytes"]


def test_what_the_user_says_is_taken():
    asked = demand_of(a_request("E2B", cpu_millis=500, memory_bytes=3 * GIB, ephemeral_bytes=GIB))
    assert (asked.cpu_millis, asked.memory_bytes, asked.ephemeral_bytes) == (500, 3 * GIB, GIB)


def test_a_slice_is_asked_for_by_its_own_name():
    pool = a_pool(resource="nvidia.com/mig-3g.40gb", memory_mib=40320)
    assert demand_of(a_request("E2B"), pool=pool).resource_name == "nvidia.com/mig-3g.40gb"
