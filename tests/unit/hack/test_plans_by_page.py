"""Plans, reckoned from docs/planner.md alone: its tables, its sentences, and school arithmetic.

Nothing here asks the planner: who checks a plan by hand has the page and no more. `memory` must say the same.
"""

import json
import math
from pathlib import Path

import pytest

from gemma_operator.cli import main

PAGE = (Path(__file__).parents[3] / "docs" / "planner.md").read_text()
MIB, GIB = 2**20, 2**30
SHARED_OUT = " / GPUs"


def table(name):
    """The rows of a section, as lists of cells without their quotes."""
    lines = PAGE.split(f"<!-- {name} -->")[1].split("<!-- end")[0].strip().splitlines()
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def figure(cell):
    return 0.0 if cell == "-" else float(cell.rstrip(" *").replace(",", ""))


class Size:
    """A column of the table of sizes."""

    def __init__(self, variant):
        head, _, *rows = table("sizes")
        self.rows = [(row[0], row[head.index(variant)]) for row in rows]
        heads = [cell for words, cell in self.rows if words == "their KV heads x head size"]
        (self.sliding_heads, self.sliding_size), (self.full_heads, self.full_size) = (
            [int(part) for part in cell.split(" x ")] for cell in heads
        )
        self.sliding_layers = int(self["sliding layers with a KV cache"])
        self.full_layers = int(self["full layers with a KV cache"])
        self.window = int(self["their window"])

    def __getitem__(self, words):
        return figure(dict(self.rows)[words])

    def modules(self):
        """(class, parameters, whether it is shared out)."""
        return [
            (words.removesuffix(SHARED_OUT), figure(cell), words.endswith(SHARED_OUT))
            for words, cell in self.rows
            if words.removesuffix(SHARED_OUT) in MODULES
        ]


MODULES = (
    *("attention", "mlp", "experts", "embedding", "perLayerEmbedding", "perLayerLinears"),
    *("perLayerProjection", "visionTower", "audioTower", "patchEmbedder", "embedders", "other"),
)


def bytes_each(repo):
    """Bytes of a parameter by class."""
    for row in table("checkpoints"):
        if row[1] == repo:
            columns = ("attention", "mlp", "experts", "perLayerLinears", "perLayerProjection")
            return dict(zip(columns, (*map(figure, row[2:]), figure(row[-1])), strict=True))
    return {}


def weights(size, repo, gpus):
    """Of a server of text and images."""
    each = bytes_each(repo)
    total = 0.0
    for module, parameters, shared in size.modules():
        if module == "audioTower":
            continue
        counted = parameters - size["K and V that nothing reads"] if module == "attention" else parameters
        total += counted * each.get(module, 2) / (gpus if shared else 1)
    attention, width = each.get("attention", 2), size["width"]
    copied = size["keys copied as values"]
    total += copied * attention / min(gpus, size.full_heads)
    for layers, heads, head_size, parts in (
        (size.sliding_layers, size.sliding_heads, size.sliding_size, 2),
        (size.full_layers, size.full_heads, size.full_size, 1 if copied else 2),
    ):
        total += max(0, gpus - heads) * layers * width * head_size * parts * attention / gpus
    return total + size["longest context"] * 768 * 2


def overhead(size, *, gpus, batch, sequences, fp8, experts, per_layer_inputs):
    """`base + held + experts' workspace + max(forward pass, sampler) + CUDA graphs`, images served, vLLM 0.32."""
    counts, sampler, few, all_sizes = (figure(cell) for cell in table("runners")[-1][2:])
    forward = float(dict(size.rows)["forward pass, GiB for 1024 tokens"].split(",")[0]) * batch / 1024
    all_sizes += 0.17 if gpus > 1 else 0
    gib = 0.25 if gpus == 1 else 0.6
    gib += 0.25 if fp8 else 0
    gib += sequences * counts / 1024 + max(forward, sequences * sampler / 1024)
    gib += few + (all_sizes - few) * min(2 * sequences, 512) / 512
    workspace = 2 * batch * 8 * size["width"] * 2 if experts else 0
    return gib * GIB + workspace + batch * per_layer_inputs * 256 * 2


def blocks(size, *, gpus, context, batch, kv_bytes):
    """(blocks of one request, bytes of a block)."""
    sliding = max(1, size.sliding_heads // gpus) * size.sliding_size * 2 * kv_bytes
    full = max(1, size.full_heads // gpus) * size.full_size * 2 * kv_bytes
    page = 16 * max(sliding, full)
    group = min(size.sliding_layers, size.full_layers)
    held = min(size.window - 1 + 2 * batch, context)
    request = size.full_layers // group * math.ceil(context / (page // full))
    request += size.sliding_layers // group * (math.ceil(held / (page // sliding)) + 1)
    return request, group * page


def plan(size, card, repo, *, gpus, context, concurrency, **more):
    """The first settings, in the page's order, that fit outside the band of 1 GiB."""
    row = next(row for row in table("cards") if row[0] == card)
    usable = math.floor(figure(row[3]) * MIB * float(row[5]))
    first_batch, first_sequences = (int(part) for part in row[4].split(" / "))
    loaded = weights(size, repo, gpus)
    for kv_bytes in (2, 1):
        for batch in dict.fromkeys(min(first_batch, step) for step in (first_batch, 8192, 4096, 2048)):
            request, block = blocks(size, gpus=gpus, context=context, batch=batch, kv_bytes=kv_bytes)
            needed = (concurrency * request + 1) * block
            for sequences in (first_sequences, 256, 128, 64, 32, 16):
                beside = overhead(size, gpus=gpus, batch=batch, sequences=sequences, **more)
                if loaded + beside + needed + GIB <= usable:
                    return {
                        "maxBatchedTokens": batch,
                        "maxSequences": sequences,
                        "kvCachePrecision": {2: "BF16", 1: "FP8"}[kv_bytes],
                        "weights": loaded,
                        "overhead": beside,
                        "needed": needed,
                        "left": usable - loaded - beside,
                        "numBlocks": int((usable - loaded - beside) // block),
                        "maxConcurrency": round((usable - loaded - beside) // block / request, 2),
                        "to spare": usable - loaded - beside - needed,
                    }
    return None


@pytest.mark.parametrize(
    ("variant", "precision", "card", "repo", "asked", "more"),
    [
        ("31B", "w4a16", "nvidia-l40s", "google/gemma-4-31B-it-qat-w4a16-ct", {}, {}),
        (
            *("26B-A4B", "fp8", "nvidia-h100-80gb", "RedHatAI/gemma-4-26B-A4B-it-FP8-dynamic", {}),
            {"fp8": True, "experts": True},
        ),
        # per-layer inputs of 20 + 4 layers, and of the 18 that read their caches
        ("E4B", "bf16", "nvidia-l4", "google/gemma-4-E4B-it", {}, {"per_layer_inputs": 42}),
        ("12B", "bf16", "nvidia-l4", "google/gemma-4-12B-it", {"gpus": 2, "concurrency": 4}, {}),
        ("31B", "bf16", "nvidia-h100-80gb", "google/gemma-4-31B-it", {"context": 65536}, {}),
        ("31B", "bf16", "nvidia-l4", "google/gemma-4-31B-it", {"gpus": 4}, {}),
        ("31B", "fp8", "nvidia-a100-80gb", "RedHatAI/gemma-4-31B-it-FP8-block", {}, {}),
    ],
)
def test_a_plan_is_what_the_page_makes_it(capsys, variant, precision, card, repo, asked, more):
    size, gpus = Size(variant), asked.get("gpus", 1)
    context, concurrency = asked.get("context", 32768), asked.get("concurrency", 1)
    beside = {"fp8": False, "experts": False, "per_layer_inputs": 0, **more}
    by_hand = plan(size, card, repo, gpus=gpus, context=context, concurrency=concurrency, **beside)

    words = ["memory", "--variant", variant, "--precision", precision, "--gpu", card, "--gpus", str(gpus)]
    words += ["--context", str(context), "--concurrency", str(concurrency), "--checkpoint", repo]
    main([*words, "--modalities", "text,image", "--explain", "-o", "json"])
    said = json.loads(capsys.readouterr().out)
    steps = {f"{step['section']}: {step['label']}": step["bytes"] for step in said["steps"]}

    assert (said["fits"], said["checkpoint"]) == ("yes", repo)
    for key in ("maxBatchedTokens", "maxSequences", "kvCachePrecision", "numBlocks", "maxConcurrency"):
        assert said[key] == by_hand[key], key
    for key, label in (
        ("weights", "weights: weights"),
        ("overhead", "overhead: overhead"),
        ("needed", "KV cache: needed"),
        ("left", "KV cache: left"),
        ("to spare", "verdict: to spare"),
    ):
        assert steps[label] == pytest.approx(by_hand[key], abs=4), key
