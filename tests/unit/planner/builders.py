"""Fleets and fits with good defaults, for tests of room, choice and placement."""

from decimal import Decimal

from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Price
from gemma_operator.hardware.records import (
    NewNode,
    NodeRecord,
    PodRecord,
    Pool,
    PoolId,
    PoolShape,
    PoolSource,
    Sharing,
)
from gemma_operator.planner.values import (
    Candidate,
    Feasible,
    Fit,
    KvPrecision,
    Memory,
    ReplicaDemand,
    Request,
    Settings,
)

GPU = "nvidia.com/gpu"
GIB = 2**30
HOST = {"cpu": 32000, "memory": 256 * GIB, "ephemeral-storage": 500 * GIB, "pods": 110}
CARDS = {"l4": ("nvidia-l4", 23034), "a100": ("nvidia-a100-80gb", 81920), "h100": ("nvidia-h100-80gb", 81559)}


def a_node(name, *, gpus=1, schedulable=True, held_back="", labels=None, taints=(), resource=GPU, **host):
    known = {**HOST, **{key.replace("_", "-"): amount for key, amount in host.items()}}
    return NodeRecord(
        name=name,
        labels=labels or {},
        taints=taints,
        allocatable={**known, resource: gpus} if resource else known,
        schedulable=schedulable and not held_back,
        held_back=held_back,
    )


def a_shape(card="l4", *, pool=None, gpus=1, spot=False, price=None, shape="s", resource=GPU, selector=()):
    accelerator, memory_mib = CARDS[card]
    return PoolShape(
        id=PoolId(PoolSource.GKE_NODEPOOL, pool or card, resource, shape),
        accelerator=accelerator,
        product="",
        memory_mib=memory_mib,
        compute_capability=(8, 9),
        accelerators_per_node=gpus,
        sharing=Sharing.NONE,
        clients_per_device=1,
        spot=spot,
        arch="amd64",
        driver_major=None,
        taints=(),
        tolerations=(),
        selector=selector,
        node_price=Price(Decimal(price), "USD") if isinstance(price, str) else price,
        verified=True,
        refused="",
    )


def a_pool(shape, *nodes, growth=0, **host):
    allocatable = {shape.id.resource_name: shape.accelerators_per_node, **host}
    return Pool(shape=shape, nodes=nodes, growth=NewNode(allocatable, growth) if growth else None)


def a_pod(node, *, gpus=1, owner=None, leaving=False, uid="u", resource=GPU, **requests):
    named = {key.replace("_", "-"): amount for key, amount in requests.items()}
    return PodRecord(uid, "team", node, {resource: gpus, "pods": 1, **named}, owner=owner, leaving=leaving)


def a_demand(gpus=1, *, cpu=0, memory=0, disk=0, resource=GPU):
    return ReplicaDemand(resource, gpus, cpu, memory, disk)


def a_request(**changes):
    fields = {
        "namespace": "team",
        "backends": ("Kubernetes",),
        "variants": ("31B", "26B-A4B", "12B", "E4B", "E2B"),
        "precisions": ("bf16", "fp8", "nvfp4", "w4a16"),
        "tuning": "Instruct",
        "context_length": 8192,
        "concurrency": 1,
        "modalities": frozenset({"text"}),
        "kv_cache_precision": "Auto",
        "speculative_decoding": "Auto",
        "engine": "VLLM",
        "engine_version": "0.32",
        "engine_overrides": (),
        "pools": None,
        "accelerators": None,
        "max_accelerators": 8,
        "spot": "Forbidden",
        "shared_accelerators": False,
        "node_selector": (),
        "tolerations": (),
        "cpu_millis": None,
        "memory_bytes": None,
        "ephemeral_bytes": None,
    }
    return Request(**fields | changes)


def a_fit(
    shape, *, variant="E4B", precision="bf16", tp=1, context=8192, tight=False, spare_mib=1000, place=0
):
    catalog = packaged()
    checkpoints = [c for c in catalog.checkpoints if (c.variant, c.precision) == (variant, precision)]
    candidate = Candidate(catalog.variants[variant], checkpoints[place], precision, shape, tp)
    settings = Settings(context, 256, 8192, KvPrecision.BF16, tp, 92, ())
    usable = (shape.memory_mib if shape else 0) * 2**20
    memory = Memory(
        weights_bytes=usable - (spare_mib + 2000) * 2**20,
        kv_cache_bytes=1000 * 2**20,
        overhead_bytes=1000 * 2**20,
        band_bytes=GIB,
        usable_bytes=usable,
    )
    return Fit(candidate, settings, memory, context, (), tight, ())


def feasible(*fits):
    return Feasible(fits=fits, rejections=())
