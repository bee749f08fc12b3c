"""Every figure of the packaged catalog, held against what it was derived from or against a second copy."""

import csv
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged

DATA = Path(__file__).parents[2] / "data"

#: Totals that the Hugging Face API gives for the repositories (safetensors.total).
TOTALS = {
    "E2B": 5_123_178_051,
    "E4B": 7_996_156_490,
    "12B": 11_959_730_224,
    "26B-A4B": 25_805_936_206,
    "31B": 31_273_088_876,
}
#: hidden size, sliding and full layers (all of them, not only those that own a KV cache), K equal to V on
#: full layers, and MLP width by layers: transformers 5.24.0, the repositories' config.json.
SHAPES = {
    "E2B": (1536, 28, 7, False, 6144 * 15 + 12288 * 20),
    "E4B": (2560, 35, 7, False, 10240 * 42),
    "12B": (3840, 40, 8, True, 15360 * 48),
    "26B-A4B": (2816, 25, 5, True, 2112 * 30),
    "31B": (5376, 50, 10, True, 21504 * 60),
}
VOCABULARY = 262_144


def table(name):
    with (DATA / name).open() as file:
        return list(csv.DictReader(file))


def or_none(text):
    return int(text) if text else None


@pytest.mark.parametrize("name", TOTALS)
def test_parameters_add_up_to_what_the_hub_says(name):
    assert sum(packaged().variants[name].parameters.values()) == TOTALS[name]


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_follow_from_the_shape(name):
    hidden, sliding, full, k_is_v, mlp_width = SHAPES[name]
    variant = packaged().variants[name]
    attention = sum(
        layers * hidden * heads.head_dim * (2 * variant.query_heads + kv * heads.kv_heads)
        for layers, heads, kv in ((sliding, variant.sliding, 2), (full, variant.full, 1 if k_is_v else 2))
    )
    assert variant.parameters["attention"] == attention
    assert variant.parameters["mlp"] == 3 * hidden * mlp_width
    assert variant.parameters["embedding"] == VOCABULARY * hidden
    copied = full * hidden * variant.full.kv_heads * variant.full.head_dim if k_is_v else 0
    assert variant.key_as_value_parameters == copied
    assert variant.rope_dims == variant.sliding.head_dim + variant.full.head_dim == 768


def test_edge_sizes_have_embeddings_a_layer_and_26b_has_experts():
    variants = packaged().variants
    assert variants["E2B"].parameters["perLayerEmbedding"] == VOCABULARY * 35 * 256
    assert variants["E4B"].parameters["perLayerEmbedding"] == VOCABULARY * 42 * 256
    assert variants["26B-A4B"].parameters["experts"] == 128 * 3 * 2816 * 704 * 30
    # 20 and 18 layers of them use the KV cache of a layer below.
    assert (variants["E2B"].sliding.layers + variants["E2B"].full.layers) == 35 - 20
    assert (variants["E4B"].sliding.layers + variants["E4B"].full.layers) == 42 - 18


def test_contexts_modalities_and_whole_items():
    variants = packaged().variants
    assert {name: v.max_context_tokens for name, v in variants.items()} == {
        "E2B": 131072,
        "E4B": 131072,
        "12B": 262144,
        "26B-A4B": 262144,
        "31B": 262144,
    }
    assert {name for name, v in variants.items() if "audio" in v.modalities} == {"E2B", "E4B", "12B"}
    assert all({"text", "image", "video"} <= v.modalities for v in variants.values())
    assert {name for name, v in variants.items() if v.takes_items_whole} == {"12B", "26B-A4B", "31B"}
    assert all(v.largest_item_tokens == {"image": 1120, "video": 32 * 78} for v in variants.values())


def test_windows():
    """A token more or less is lost in the rounding to blocks, so no planner row tells it."""
    windows = {name: (v.sliding.window, v.full.window) for name, v in packaged().variants.items()}
    assert windows == {
        "E2B": (512, None),
        "E4B": (512, None),
        "12B": (1024, None),
        "26B-A4B": (1024, None),
        "31B": (1024, None),
    }


def test_activations_of_1024_tokens():
    assert {n: dict(v.forward_gib_per_1024_tokens) for n, v in packaged().variants.items()} == {
        "E2B": {"default": 0.099},
        "E4B": {"default": 0.098},
        "12B": {"default": 0.117},
        "26B-A4B": {"default": 0.056, "nvfp4": 0.159},
        "31B": {"default": 0.164},
    }


@pytest.mark.parametrize("row", table("accelerators.csv"), ids=lambda row: row["name"])
def test_an_accelerator_is_what_its_driver_says(row):
    card = packaged().accelerators[row["name"]]
    capability = tuple(map(int, row["compute_capability"].split("."))) if row["compute_capability"] else None
    assert (card.memory_mib, card.visible_mib, card.compute_capability, card.utilization_percent) == (
        or_none(row["memory_mib"]),
        or_none(row["visible_mib"]),
        capability,
        or_none(row["utilization_percent"]),
    )
    assert bool(card.refused) == (row["refused"] == "yes")


def test_no_accelerator_is_left_out_of_the_table():
    assert set(packaged().accelerators) == {row["name"] for row in table("accelerators.csv")}


def test_torch_never_sees_more_than_the_driver():
    cards = [c for c in packaged().accelerators.values() if c.visible_mib and c.memory_mib]
    assert len(cards) >= 10
    assert all(0 < card.memory_mib - card.visible_mib < 1024 for card in cards)


def test_a_name_that_a_cloud_or_a_driver_gives_means_one_card():
    names = [
        name
        for card in packaged().accelerators.values()
        for name in {n.lower() for n in (*card.products, *card.cloud_names)}
    ]
    doubles = {name for name in names if names.count(name) > 1}
    assert doubles == {"a100"}  # 40 or 80 GB: the memory printed beside it must tell


@pytest.mark.parametrize("row", table("machine-types.csv"), ids=lambda row: row["name"])
def test_a_machine_has_its_accelerators(row):
    machine = packaged().machine_types[row["name"]]
    assert (machine.accelerator, machine.accelerators, machine.memory_mib) == (
        row["accelerator"],
        int(row["accelerators"]),
        or_none(row["memory_mib"]),
    )


def test_no_machine_is_left_out_of_the_table():
    assert set(packaged().machine_types) == {row["name"] for row in table("machine-types.csv")}


def test_checkpoints_lie_where_they_lie():
    linears, per_layer = {"attention", "mlp"}, {"perLayerLinears", "perLayerProjection"}
    assert {
        c.name: (c.repo, c.tuning, c.tensor_parallel, dict(c.bytes_per_parameter))
        for c in packaged().checkpoints
    } == {
        **{
            f"gemma-4-{size.lower()}-{'it-' if tuning == 'Instruct' else ''}bf16": (
                f"google/gemma-4-{size}{'-it' if tuning == 'Instruct' else ''}",
                tuning,
                (1, 2, 4, 8),
                {},
            )
            for size in TOTALS
            for tuning in ("Instruct", "Base")
        },
        **{
            f"gemma-4-{size.lower()}-it-fp8-dynamic": (
                f"RedHatAI/gemma-4-{size}-it-FP8-dynamic",
                "Instruct",
                (1, 2) if size == "26B-A4B" else (1, 2, 4, 8),
                dict.fromkeys(linears, 1.0) | ({"experts": 1.0028} if size == "26B-A4B" else {}),
            )
            for size in ("31B", "26B-A4B", "E4B", "E2B")
        },
        **{
            f"gemma-4-{size.lower()}-it-qat-w4a16-ct": (
                f"google/gemma-4-{size}-it-qat-w4a16-ct",
                "Instruct",
                (1, 2, 4, 8),
                dict.fromkeys(linears | (per_layer if size in ("E4B", "E2B") else set()), 0.5625),
            )
            for size in ("31B", "12B", "E4B", "E2B")
        },
        "gemma-4-26b-a4b-it-awq-4bit": (
            "cyankiwi/gemma-4-26B-A4B-it-AWQ-4bit",
            "Instruct",
            (1, 2),
            {"attention": 0.5625, "experts": 0.5625},
        ),
        "gemma-4-31b-it-nvfp4": ("nvidia/Gemma-4-31B-IT-NVFP4", "Instruct", (1, 2, 4, 8), {"mlp": 0.5625}),
        "gemma-4-26b-a4b-it-nvfp4": ("nvidia/Gemma-4-26B-A4B-NVFP4", "Instruct", (1, 2), {"experts": 0.5625}),
        "gemma-4-31b-it-fp8-block": (
            "RedHatAI/gemma-4-31B-it-FP8-block",
            "Instruct",
            (1, 2, 4, 8),
            dict.fromkeys(linears, 1 + 2 / 128),
        ),
        "gemma-4-26b-a4b-it-nvfp4-redhat": (
            "RedHatAI/gemma-4-26B-A4B-it-NVFP4",
            "Instruct",
            (1, 2),
            dict.fromkeys({*linears, "experts"}, 0.5625),
        ),
        "gemma-4-12b-it-nvfp4-redhat": (
            "RedHatAI/gemma-4-12B-it-NVFP4",
            "Instruct",
            (1, 2, 4, 8),
            {"attention": 1.0, "mlp": 0.5625},
        ),
        **{
            name: (repo, "Instruct", (1, 2, 4, 8), dict.fromkeys(linears, 0.5625))
            for name, repo in (
                ("gemma-4-31b-it-awq-4bit", "cyankiwi/gemma-4-31B-it-AWQ-4bit"),
                ("gemma-4-31b-it-qat-awq-int4", "cyankiwi/gemma-4-31B-it-qat-AWQ-INT4"),
                ("gemma-4-31b-it-nvfp4-turbo", "LilaRest/gemma-4-31B-it-NVFP4-turbo"),
            )
        },
    }


def test_who_made_the_model_comes_first_and_third_parties_last():
    ranks = {"google": 0, "nvidia": 1, "RedHatAI": 2}
    order = [ranks.get(checkpoint.repo.partition("/")[0], 3) for checkpoint in packaged().checkpoints]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2, 3}


def test_a_checkpoint_serves_no_more_than_its_variant_and_one_has_lost_its_towers():
    assert {c.name: set(c.modalities) for c in packaged().checkpoints if "image" not in c.modalities} == {
        "gemma-4-31b-it-nvfp4-turbo": {"text"}
    }


def test_a_revision_is_a_whole_commit():
    pinned = {c.name: c.revision for c in packaged().checkpoints if c.revision}
    assert pinned == {"gemma-4-31b-it-bf16": "68abe48010cbe15293462fa11e901a60639a44e5"}


def test_checkpoints_are_free_and_say_which_engine_and_card_they_need():
    for checkpoint in packaged().checkpoints:
        assert (checkpoint.licence, checkpoint.gated) == ("apache-2.0", False)
        least = "0.23.0" if checkpoint.variant == "12B" else "0.19.1"
        assert checkpoint.minimum_engine_versions == {"VLLM": least}
        assert checkpoint.minimum_compute_capability == (8, 0)
        assert checkpoint.source.startswith("https://huggingface.co/" + checkpoint.repo)


def test_the_engine_of_0_32():
    engine = packaged().engines["VLLM"]
    assert engine.default_version == "0.32"
    assert dict(engine.images) == {v: f"vllm/vllm-openai:v{v}" for v in engine.known_versions}
    assert (engine.block_size, engine.items_per_prompt) == (16, 999)
    assert engine.small_accelerators == {
        "nvidia-a100-40gb": "0.19.1",
        "nvidia-a100-80gb": "0.19.1",
        "nvidia-gb10": "0.33.0",
    }
    host = engine.replica
    assert (host.cpu_millis, host.cpu_millis_per_accelerator) == (2000, 1000)
    assert (host.memory_mib, host.memory_mib_per_accelerator, host.ephemeral_mib) == (8192, 4096, 5120)
    assert engine.known_versions == {
        *("0.19.1", "0.20.0", "0.20.1", "0.20.2", "0.21.0", "0.22.0", "0.22.1", "0.23.0", "0.24.0"),
        *("0.25.1", "0.26.0", "0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0"),
    }


def test_overhead_is_the_provisional_rule():
    model = packaged().engines["VLLM"].overhead
    assert model.provisional
    assert (model.base_gib, model.base_parallel_gib) == (0.25, 0.6)
    assert [
        (r.since, r.name, r.dense_only, r.held_mib_per_sequence, r.sampler_mib_per_sequence)
        for r in model.runners
    ] == [
        ("0.19.1", "first", False, 0, 3.75),
        ("0.27.0", "second", True, 1.03, 1.5),
        ("0.29.0", "second", False, 1.03, 1.5),
    ]
    assert [(r.graphs_few_gib, r.graphs_gib) for r in model.runners] == [(0.26, 0.79), (0, 0), (0.1, 0.5)]
    assert (model.graphs_largest_batch, model.graphs_parallel_more_gib) == (512, 0.17)
    assert (model.band_gib, model.invisible_mib) == (1.0, 768)


@pytest.mark.parametrize(
    ("variant", "tokens", "gib"),
    [("E2B", 2, None), ("E4B", 4, None), ("12B", 4, 0.79), ("26B-A4B", 4, 0.77), ("31B", 4, 0.90)],
)
def test_each_size_has_its_own_drafter(variant, tokens, gib):
    drafter = packaged().variants[variant].drafter
    assert drafter.repo == f"google/gemma-4-{variant}-it-assistant"
    assert (drafter.tokens, drafter.disk_gib) == (tokens, gib)
    assert drafter.minimum_engine_version == ("0.23.0" if variant == "12B" else "0.21.0")
