"""Words for what is shown: numbers in GiB, a remedy, and never more than a status may hold."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.catalog.records import Price
from gemma_operator.hardware.records import Sharing, Taint
from gemma_operator.planner import explain, words
from gemma_operator.planner.choice import KEYS, Ranked, choose, rank
from gemma_operator.planner.feasible import feasible, unknown_accelerators
from gemma_operator.planner.plan import from_choice
from gemma_operator.planner.room import Room
from gemma_operator.planner.values import Candidate, Code, Rejection
from unit.planner.shapes import a_pool, a_request

BF16 = {"precisions": ("bf16",)}


ONE = Room(1, 1)


def chosen(request, *pools, room=ONE, replicas=1):
    found = feasible(request, pools, packaged())
    ranking = rank(found, request=request, catalog=packaged())
    return choose(ranking, replicas=replicas, room=lambda _: room), found


def told(request, *pools):
    """The first rejection in words."""
    return words.rejection(feasible(request, pools, packaged()).rejections[0])


def test_weights_that_are_too_large():
    assert told(a_request("31B", **BF16), a_pool("nvidia-l4", gpus=1)) == (
        "31B bf16 needs 58.8 GiB of weights and 0.7 GiB beside them; an nvidia-l4 offers 20.3 GiB"
    )


def test_weights_that_are_too_large_on_several_gpus():
    found = feasible(a_request("31B", **BF16), [a_pool("nvidia-l4", gpus=2)], packaged())
    assert words.rejection(found.rejections[1]) == (
        "31B bf16 needs 30.1 GiB of weights and 1.1 GiB beside them on each of 2 GPUs; an nvidia-l4 offers 20.3 GiB"
    )


def test_a_cache_that_is_too_small():
    assert told(a_request("31B", **BF16, context_length=262144, concurrency=4), a_pool(gpus=1)) == (
        "31B bf16 leaves 13.3 GiB for the KV cache of 72.8 GiB; 262,144 tokens \u00d7 4 need 47.9 GiB "
        "(FP8, 2048 batched)"
    )


@pytest.mark.parametrize(
    ("asked", "pool", "said"),
    [
        ({"pools": ("a", "b")}, {}, "not in hardware.pools (a, b)"),
        (
            {"accelerators": ("nvidia-l4",)},
            {},
            "nvidia-h100-80gb is not in hardware.accelerators (nvidia-l4)",
        ),
        ({}, {"refused": "its MIG layout is invalid"}, "its MIG layout is invalid"),
        ({}, {"spot": True}, "its nodes are spot, and hardware.spot is Forbidden"),
        ({"spot": "Required"}, {}, "its nodes are not known to be spot, and hardware.spot is Required"),
        (
            {},
            {"sharing": Sharing.TIME_SLICING, "clients_per_device": 4},
            "4 clients share a GPU (time-slicing): hardware.sharedAccelerators is Forbidden",
        ),
        (
            {},
            {"taints": (Taint("team", "a", "NoSchedule"),)},
            "the taint team=a:NoSchedule is not tolerated: add a toleration to hardware.tolerations",
        ),
        (
            {},
            {"taints": (Taint("team", "", "NoExecute"),)},
            "the taint team:NoExecute is not tolerated: add a toleration to hardware.tolerations",
        ),
        (
            {},
            {"driver_major": 535},
            (
                "driver 535 is too old: the engine's image is built on CUDA 13, which needs driver 580: update the "
                "driver, or bring an image built on CUDA 12 (vllm#39878)"
            ),
        ),
        ({}, {"accelerators_per_node": 0}, "a node has 0 of nvidia.com/gpu"),
        (
            {"context_length": 200_000},
            {},
            "E4B takes at most 131,072 tokens, serving.contextLength is 200,000",
        ),
        ({"precisions": ("nvfp4",)}, {}, "no nvfp4 checkpoint of E4B (Instruct) is known"),
        ({"backends": ("Vertex",)}, {}, "Vertex is not there yet in this version"),
        (
            {},
            {"accelerator": "unknown", "memory_mib": None},
            "nothing tells the memory of unknown: declare it in an AcceleratorPool",
        ),
        (
            {"kv_cache_precision": "FP8"},
            {"compute_capability": (8, 0)},
            (
                "an FP8 KV cache needs compute capability 8.9: Triton has no fp8e4nv below it; "
                "set serving.kvCachePrecision: BF16 (vllm#49077)"
            ),
        ),
    ],
)
def test_why_a_candidate_cannot_serve(asked, pool, said):
    assert told(a_request("E4B", **{**BF16, **asked}), a_pool(**pool)) == said


def test_a_modality_that_is_missing():
    request = a_request("31B", **BF16, modalities=frozenset({"text", "audio"}))
    assert told(request, a_pool()) == "31B takes no audio"


def test_a_modality_that_only_the_checkpoint_lacks_is_said_of_the_checkpoint():
    """31B sees; a checkpoint of it that was published for text alone does not."""
    found = feasible(a_request("31B", precisions=("nvfp4",)), [a_pool()], packaged())
    lacking = [each for each in found.rejections if each.code is Code.MODALITY_MISSING]
    assert [words.rejection(each) for each in lacking] == [
        "LilaRest/gemma-4-31B-it-NVFP4-turbo takes no image"
    ]


#: What is said of one that fits: see `test_each_key_of_the_order_has_words_of_its_own`.
OF_FITS = {Code.NO_ROOM, Code.LATER_IN_ORDER}


@pytest.mark.parametrize("code", [code for code in Code if code not in OF_FITS])
def test_every_code_has_words(code):
    details = dict.fromkeys(
        (
            "weights_mib",
            "usable_mib",
            "overhead_mib",
            "needed_mib",
            "available_mib",
            "context_length",
            "max_context_length",
            "concurrency",
            "batched_tokens",
            "clients",
        ),
        7,
    ) | dict.fromkeys(("message", "pools", "tuning", "modalities", "accelerator", "accelerators"), "x" * 300)
    details |= dict.fromkeys(("spot", "sharing", "taint", "backend", "kv_cache_precision"), "x")
    candidate = Candidate(packaged().variants["E4B"], None, "bf16", a_pool(), 2)
    said = words.rejection(Rejection(candidate, code, details))
    assert 0 < len(said) <= 256


def test_a_long_text_is_cut_at_a_word():
    assert words.shortened("one two three", 13) == "one two three"
    assert words.shortened("one two three", 12) == "one two\u2026"
    assert len(words.shortened("x" * 600, 256)) == 256


def test_the_reason_says_what_was_given_up():
    request = a_request("31B", **BF16, concurrency=2)
    choice, _ = chosen(request, a_pool(gpus=1))
    assert explain.reason(choice.fit, request) == (
        "31B bf16 on 1 \u00d7 nvidia-h100-80gb of gke-nodepool/h100-80gb: the first of the order that has room; "
        "BF16 \u2192 FP8 KV cache, 8192 \u2192 4096 batched tokens "
        "to keep 32,768 tokens \u00d7 2"
    )


def test_the_reason_of_a_plan_that_gave_up_nothing_is_short():
    request = a_request("E4B", **BF16)
    choice, _ = chosen(request, a_pool("nvidia-l4", gpus=1))
    assert explain.reason(choice.fit, request) == (
        "E4B bf16 on 1 \u00d7 nvidia-l4 of gke-nodepool/l4: the first of the order that has room"
    )


def test_a_tight_plan_says_so():
    request = a_request("31B", **BF16, context_length=32768, concurrency=4)
    choice, _ = chosen(request, a_pool(gpus=1))
    assert choice.fit.tight
    assert "fits only inside the 1.0 GiB band of the estimate" in explain.reason(choice.fit, request)


def test_what_nobody_checked_stands_in_the_reason():
    request = a_request("E4B", **BF16)
    choice, _ = chosen(request, a_pool("unknown", gpus=1, memory_mib=24576, product="NVIDIA-X1"))
    said = explain.reason(choice.fit, request)
    assert "1 \u00d7 NVIDIA-X1" in said
    assert "unverified: an NVIDIA-X1 is planned from its memory alone" in said


@pytest.mark.parametrize(
    ("room", "known", "said"),
    [
        (
            Room(2, 2),
            {"limit": "ephemeral-storage"},
            ", for 2 of 4 replicas: its nodes are short of ephemeral storage",
        ),
        (Room(1, 3), {}, ", for 3 of 4 replicas once its pool has grown: its nodes are short of GPUs"),
        (
            Room(3, 3),
            {"barred": "ResourceQuota q allows 3"},
            ", for 3 of 4 replicas: ResourceQuota q allows 3",
        ),
        (Room(4, 4), {}, ""),
        (Room(0, 4), {}, " once its pool has grown"),
    ],
)
def test_a_plan_without_room_for_all_says_for_how_many_and_what_is_short(room, known, said):  # FR-16
    choice, _ = chosen(a_request("E4B", **BF16), a_pool("nvidia-l4", gpus=1), room=room, replicas=4)
    assert choice.placed
    plan = from_choice(
        replace(choice, **known), a_request(), catalog=packaged(), inputs_hash="", planned_at=""
    )
    assert plan.reason.endswith(f"the first of the order that has room{said}")


def test_waiting_names_what_is_waited_for_and_no_count():
    request = a_request("E4B", **BF16)
    choice, _ = chosen(request, a_pool("nvidia-l4", gpus=1), room=Room(0, 0))
    assert not choice.placed
    assert explain.waiting(choice, request).startswith(
        "E4B bf16 fits on 1 \u00d7 nvidia-l4 of gke-nodepool/l4, which has no room now; it is placed as soon as"
    )


@pytest.mark.parametrize(
    ("why", "said"),
    [
        (
            {"limit": "memory"},
            "GPUs free and are short of memory; it is placed as soon as memory is free or nodes are added",
        ),
        (
            {"limit": "pods", "held": "is cordoned or is not Ready"},
            "node of it is cordoned or is not Ready; it is placed as soon as one of them takes pods or nodes are added",
        ),
        ({}, "no room now; it is placed as soon as GPUs are free or nodes are added"),
    ],
)
def test_what_is_waited_for_is_what_is_short(why, said):
    request = a_request("E4B", **BF16)
    choice, _ = chosen(request, a_pool("nvidia-l4", gpus=1), room=Room(0, 0))
    assert explain.waiting(replace(choice, **why), request).endswith(said)


def test_nothing_fits_tells_the_nearest_miss_and_a_remedy():
    request = a_request("31B", **BF16, context_length=262144, concurrency=4)
    _, found = chosen(request, a_pool("nvidia-l4", gpus=1), a_pool(gpus=1), a_pool("nvidia-t4"))
    said = explain.nothing_fits(found, request)
    assert said.startswith(
        "no pool can hold an allowed candidate for 262,144 tokens \u00d7 4; nearest: 31B bf16 on 1"
    )
    assert "need 47.9 GiB" in said
    assert said.endswith("lower serving.contextLength or concurrency, or allow larger or more GPUs")
    assert len(said) <= 512


def test_what_is_missed_by_is_said_once():
    request = a_request("31B", **BF16)
    _, found = chosen(request, a_pool("nvidia-l4", gpus=1))
    said = explain.nothing_fits(found, request)
    assert (
        "for at least 8,192 tokens \u00d7 1; nearest: 31B bf16 on 1 \u00d7 nvidia-l4 of gke-nodepool/l4 needs"
        in said
    )
    assert said.count("31B bf16") == 1


def test_a_variant_that_takes_no_audio_is_named_once():
    request = a_request("31B", **BF16, modalities=frozenset({"text", "audio"}))
    _, found = chosen(request, a_pool())
    assert "nearest: 31B bf16 takes no audio" in explain.nothing_fits(found, request)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"resource": "nvidia.com/mig-3g.40gb", "sharing": Sharing.MIG, "memory_mib": 40320},
            "a mig-3g.40gb slice of an nvidia-a100-80gb offers 35.",
        ),
        (
            {
                "product": "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb",
                "sharing": Sharing.MIG,
                "memory_mib": 40320,
            },
            "a mig-3g.40gb slice of an nvidia-a100-80gb offers 35.",
        ),
        (
            {"sharing": Sharing.TIME_SLICING, "clients_per_device": 2, "memory_mib": 40960},
            "a share (1 of 2, time-slicing) of an nvidia-a100-80gb offers",
        ),
    ],
)
def test_a_part_of_a_card_is_named_as_such(changes, said):
    pool = a_pool("nvidia-a100-80gb", gpus=1, **changes)
    assert said in told(a_request("31B", **BF16, shared_accelerators=True), pool)


def test_a_plan_on_a_slice_names_the_slice():
    pool = a_pool(
        "nvidia-a100-80gb", gpus=1, sharing=Sharing.MIG, memory_mib=40320, resource="nvidia.com/mig-3g.40gb"
    )
    request = a_request("E4B", **BF16)
    choice, _ = chosen(request, pool)
    assert "E4B bf16 on 1 \u00d7 mig-3g.40gb slice of an nvidia-a100-80gb" in explain.reason(
        choice.fit, request
    )


def test_nothing_fits_where_a_taint_is_in_the_way():
    request = a_request("E4B", **BF16)
    _, found = chosen(request, a_pool(taints=(Taint("team", "a", "NoSchedule"),)), a_pool("nvidia-t4"))
    said = explain.nothing_fits(found, request)
    assert "team=a:NoSchedule" in said
    assert said.count("hardware.tolerations") == 1


def test_what_is_known_to_be_bad_is_told_before_a_checkpoint_that_does_not_exist():
    """That an NVFP4 checkpoint takes no image is no remedy for what no precision has."""
    request = a_request("31B", kv_cache_precision="FP8")
    _, found = chosen(request, a_pool("nvidia-a100-80gb"))
    assert {rejected.code for rejected in found.rejections} >= {Code.INCOMPATIBLE, Code.MODALITY_MISSING}
    said = explain.nothing_fits(found, request)
    assert "nearest: 31B bf16 on 1 \u00d7 nvidia-a100-80gb" in said
    assert "set serving.kvCachePrecision: BF16 (vllm#49077)" in said


def test_where_every_pool_is_refused_the_reason_of_one_is_told():
    request = a_request("E2B")
    _, found = chosen(request, a_pool("nvidia-t4"))
    assert {rejected.code for rejected in found.rejections} == {Code.POOL_REFUSED, Code.NO_CHECKPOINT}
    assert "65,536 (vllm#57712)" in explain.nothing_fits(found, request)


def test_an_empty_fleet():
    request = a_request("E4B", **BF16)
    _, found = chosen(request)
    assert explain.nothing_fits(found, request) == explain.no_pools()


def test_where_no_node_has_the_labels_that_are_asked_for_no_missing_checkpoint_is_named():
    request = a_request("12B", node_selector=(("nvidia.com/mig.config", "all-3g.40gb"),))
    _, found = chosen(request)
    assert {rejected.code for rejected in found.rejections} == {Code.NO_CHECKPOINT}
    assert explain.nothing_fits(found, request) == (
        "no pool has a node with the labels of hardware.nodeSelector (nvidia.com/mig.config=all-3g.40gb): correct it, "
        "or label the nodes"
    )


def test_an_accelerator_that_nobody_knows():
    unknown = unknown_accelerators(a_request(accelerators=("h100", "qqq")), packaged())
    assert explain.unknown_accelerators(unknown) == (
        "hardware.accelerators: not in the catalog: h100 (nearest: nvidia-h100-80gb, nvidia-h100-nvl); "
        "qqq (nothing is near)"
    )


def test_one_that_is_doubted_with_more_than_the_band_to_spare_is_not_called_inside_it():
    choice, found = chosen(a_request("E4B", precisions=("bf16",)), a_pool(gpus=2))
    _, said = words.not_taken(Ranked(found.fits[-1], None, "tight", 2048), choice)
    assert said.startswith("fits; what lies outside --gpu-memory-utilization may not fit")


@pytest.mark.parametrize("key", KEYS)
def test_why_one_that_fits_is_not_taken(key):
    request = a_request("31B", "E4B", precisions=("bf16", "fp8"))
    choice, found = chosen(request, a_pool(gpus=2))
    code, said = words.not_taken(Ranked(found.fits[-1], Room(0, 0), key, 0), choice)
    assert said.startswith("fits")
    assert len(said) <= 256
    assert code is (Code.NO_ROOM if key == "room" else Code.LATER_IN_ORDER)


def test_each_key_of_the_order_has_words_of_its_own():
    request = a_request("31B", "E4B", precisions=("bf16", "fp8"))
    choice, found = chosen(request, a_pool(gpus=2))
    other = next(
        fit for fit in found.fits if fit.candidate.precision == "fp8" and fit.candidate.variant.name == "E4B"
    )
    choice = replace(choice, replicas=3)
    said = {
        key: words.not_taken(Ranked(other, None, key, 1000 if key == "tight" else 2048), choice)[1]
        for key in KEYS
    }
    left = f"{choice.headroom_mib / 1024:.1f} GiB"
    assert said == {
        "backend": "fits; Kubernetes comes before Kubernetes in placement.backends",
        "variant": "fits; 31B comes before E4B in model.variants",
        "context": "fits; with 32,768 tokens of context, the plan has 32,768",
        "tight": f"fits; it leaves 1.0 GiB of each GPU, less than the 1.0 GiB band, the plan {left}",
        "precision": "fits; bf16 comes before fp8 in model.precisions",
        "room": "fits, but its pool has no room for 3 replicas of 1 \u00d7 nvidia-h100-80gb",
        "price": "fits; 1 \u00d7 nvidia-h100-80gb (79.6 GiB) is more GPU than 1 \u00d7 nvidia-h100-80gb (79.6 GiB)",
        "spot": "fits; its nodes are spot and those of the plan are not known to be",
        "headroom": f"fits; it leaves 2.0 GiB of each GPU, the plan {left}",
        "checkpoint": "fits; google/gemma-4-31B-it comes before RedHatAI/gemma-4-E4B-it-FP8-dynamic in the catalog",
        "tensorParallel": "fits; it takes 1 GPUs, the plan 1",
        "pool": "fits; gke-nodepool/h100-80gb@5ha9e0 comes before gke-nodepool/h100-80gb@5ha9e0 by name",
    }


def test_money_is_only_spoken_of_where_both_have_a_price():
    request = a_request("E4B", **BF16)
    price = Price(Decimal(10), "USD")
    for node_price, expected in ((price, "cost 10 USD an hour, the plan 5"), (None, "is more GPU than")):
        choice, found = chosen(request, a_pool(gpus=2, node_price=node_price))
        other = next(fit for fit in found.fits if fit is not choice.fit)
        assert expected in words.not_taken(Ranked(other, None, "price", 0), choice)[1]


FLEET = (
    a_pool("nvidia-l4", gpus=4),
    a_pool("nvidia-h100-80gb", gpus=8),
    a_pool("nvidia-a100-80gb", gpus=4, spot=True),
    a_pool("nvidia-t4", gpus=1),
)


#: What a verdict of each code must name: a number, or the very field and value that it lost by.
DECIDED_BY = {
    "WeightsTooLarge": r"[0-9.]+ GiB of weights.* offers [0-9.]+ GiB",
    "KvCacheTooSmall": r"leaves [0-9.]+ GiB for the KV cache.* need [0-9.]+ GiB",
    "Incompatible": r"[0-9]",
    "Shared": r"[0-9]+ clients share a GPU",
    "Spot": r"hardware.spot is (Forbidden|Required)",
    "Tainted": r"the taint \S+ is not tolerated",
    "NodeTooSmall": r"has 0 of \S+",
    "ContextTooLong": r"[0-9,]+ tokens, serving.contextLength is [0-9,]+",
    "ModalityMissing": r"takes no (audio|video|image)",
    "NoCheckpoint": r"no \S+ checkpoint of \S+ \((Instruct|Base)\)",
    "AcceleratorNotAllowed": r"is not in hardware.accelerators \(.+\)",
    "PoolNotAllowed": r"hardware.pools \(.+\)|poolAccess",
    "PoolRefused": r"[0-9,]+ bytes of shared memory",
    "UnknownMemory": r"nothing tells the memory of",
}


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        (
            {},
            {
                "WeightsTooLarge",
                "KvCacheTooSmall",
                "Incompatible",
                "Shared",
                "Spot",
                "Tainted",
                "NoCheckpoint",
            },
        ),
        ({"modalities": frozenset({"text", "audio"})}, {"ModalityMissing"}),
        ({"context_length": 200_000}, {"ContextTooLong", "KvCacheTooSmall"}),
        ({"accelerators": ("nvidia-l4",)}, {"AcceleratorNotAllowed"}),
        ({"pools": ("l4",)}, {"PoolNotAllowed"}),
        ({"spot": "Required"}, {"Spot"}),
        ({"engine_version": "0.19.1"}, {"Incompatible"}),
    ],
)
def test_every_verdict_names_what_it_lost_by(changes, codes):
    fleet = (
        *FLEET,
        a_pool("nvidia-rtx-4090", name="shared", sharing=Sharing.TIME_SLICING, clients_per_device=4),
        a_pool("nvidia-l40s", name="theirs", taints=(Taint("team", "a", "NoSchedule"),)),
        a_pool("nvidia-h200", name="old", driver_major=535),
        a_pool("nvidia-h200", name="empty", gpus=0),
    )
    found = feasible(a_request(**changes), fleet, packaged())
    seen = set()
    for rejection in found.rejections:
        code, said = rejection.code.value, words.rejection(rejection)
        assert re.search(DECIDED_BY[code], said), f"{code}: {said}"
        seen.add(code)
    assert codes <= seen


def test_ten_alternatives_are_told_and_each_once():
    request = a_request()
    choice, found = chosen(request, *FLEET)
    shown = explain.alternatives(choice, found)
    assert len(shown) == 10
    assert len(set(shown)) == 10
    assert all(alternative.message and len(alternative.message) <= 256 for alternative in shown)


def test_alternatives_begin_with_what_would_be_taken_next_and_tell_every_kind_of_pool():
    request = a_request()
    choice, found = chosen(request, *FLEET)
    shown = explain.alternatives(choice, found)
    assert shown[0].variant == choice.fit.candidate.variant.name
    assert shown[0].code == "LaterInOrder"
    taken = choice.fit.candidate
    assert (taken.shape.accelerator, taken.precision, taken.tensor_parallel) not in {
        (a.accelerator, a.precision, a.accelerators_per_replica)
        for a in shown
        if a.variant == taken.variant.name
    }
    assert {"gke-nodepool/l4", "gke-nodepool/a100-80gb", "gke-nodepool/t4"} <= {a.pool for a in shown}
    assert {"Spot", "PoolRefused", "WeightsTooLarge"} <= {a.code for a in shown}


def test_where_nothing_fits_the_alternatives_are_all_rejections():
    request = a_request("31B", **BF16, context_length=262144, concurrency=64)
    choice, found = chosen(request, *FLEET)
    shown = explain.alternatives(choice, found)
    assert choice.fit is None
    assert {a.pool for a in shown} == {
        "gke-nodepool/l4",
        "gke-nodepool/h100-80gb",
        "gke-nodepool/a100-80gb",
        "gke-nodepool/t4",
    }


def test_alternatives_do_not_depend_on_the_order_of_pools():
    request = a_request()
    choice, found = chosen(request, *FLEET)
    again, found_again = chosen(request, *reversed(FLEET))
    assert explain.alternatives(choice, found) == explain.alternatives(again, found_again)


def test_the_room_of_a_pool_changes_no_words():
    """Texts stand in the status, and the status is not written at rest."""
    request = a_request("E4B", **BF16)
    one, found = chosen(request, *FLEET, room=Room(0, 0))
    assert "0" not in explain.waiting(one, request).replace("80gb", "").replace("nvidia-l40s", "")
    assert explain.alternatives(one, found) == explain.alternatives(replace(one), found)


def test_a_plan_for_nodes_that_are_yet_to_come_says_so():
    request = a_request("E4B", **BF16)
    choice, _ = chosen(request, a_pool(gpus=1), room=Room(0, 1))
    said = explain.reason(choice.fit, request, room=explain.has_room(choice))
    assert "that has room once its pool has grown" in said
