"""Start-ups that people published: what served is not called impossible, and what failed is not called safe."""

import csv
from pathlib import Path

import pytest

from gemma_operator.catalog.loader import packaged
from gemma_operator.planner.fit import Fitting
from gemma_operator.planner.values import Candidate, Fit
from unit.planner.shapes import a_pool, a_request

GIB_MIB = 1024
CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in packaged().checkpoints}
with (Path(__file__).parents[2] / "data" / "engine-logs.csv").open() as file:
    LOGS = {row["id"]: row for row in csv.DictReader(file)}

#: id: (checkpoint, card). Left out: cards and checkpoints that the catalog has not, sleep mode, TPU, ROCm, logs that
#: name no length or no utilization.
SERVED = {
    "D1": ("gemma-4-31b-it-fp8-dynamic", "nvidia-h200"),
    "D5": ("gemma-4-26b-a4b-bf16", "nvidia-a100-80gb"),
    "D20": ("gemma-4-31b-it-nvfp4", "nvidia-l4"),
    "D26": ("gemma-4-e2b-it-bf16", "nvidia-t4"),
    "G4-002": ("gemma-4-26b-a4b-it-nvfp4-redhat", "nvidia-rtx-5090"),
    "G4-004": ("gemma-4-26b-a4b-it-nvfp4", "nvidia-rtx-5090"),
    "G4-005": ("gemma-4-31b-it-bf16", "nvidia-b300"),
    "G4-009": ("gemma-4-26b-a4b-it-bf16", "nvidia-gb10"),
    "G4-015": ("gemma-4-12b-it-qat-w4a16-ct", "nvidia-rtx-3090"),
    "G4-016": ("gemma-4-12b-it-qat-w4a16-ct", "nvidia-rtx-3090"),
    "G4-017": ("gemma-4-12b-it-qat-w4a16-ct", "nvidia-rtx-3090"),
    "G4-018": ("gemma-4-12b-it-qat-w4a16-ct", "nvidia-rtx-3090"),
    "G4-019": ("gemma-4-12b-it-qat-w4a16-ct", "nvidia-rtx-3090"),
    "G4-021": ("gemma-4-31b-it-fp8-block", "nvidia-rtx-3090"),
    "G4-022": ("gemma-4-31b-it-fp8-block", "nvidia-rtx-3090"),
    "G4-026": ("gemma-4-e2b-it-qat-w4a16-ct", "nvidia-t4"),
    "G4-027": ("gemma-4-e4b-it-bf16", "nvidia-rtx-3090"),
    "G4-030": ("gemma-4-26b-a4b-it-nvfp4-redhat", "nvidia-rtx-5090"),
    "G4-033": ("gemma-4-31b-it-qat-w4a16-ct", "nvidia-rtx-pro-6000"),
    **{f"L40-{each:02}": ("gemma-4-26b-a4b-it-fp8-dynamic", "nvidia-l40s") for each in range(1, 9)},
}
#: id: (checkpoint, card, length, utilization); where a log names none, what asks least and allows most.
FAILED = {
    "D15": ("gemma-4-31b-it-qat-w4a16-ct", "nvidia-rtx-3090", 8192, "0.95"),
    "D22": ("gemma-4-31b-it-bf16", "nvidia-l4", 256, "1.00"),
    "G4-023": ("gemma-4-12b-it-qat-w4a16-ct", "nvidia-rtx-3090", 8192, "0.40"),
    "G4-047": ("gemma-4-31b-it-nvfp4", "nvidia-rtx-5090", 256, "1.00"),
}
VERSIONS = ("0.19.1", "0.22.1", "0.25.1", "0.28.0", "0.29.0", "0.32")


def version_of(row):
    text = row["engine_version"]
    return "0.22.0" if text.startswith("gemma4") else text.split(" ")[0] or "0.25.1"


def fitted(checkpoint, card, *, gpus, version, length, kv="BF16", text_only=False, **flags):
    found = CHECKPOINTS[checkpoint]
    request = a_request(
        found.variant,
        precisions=(found.precision,),
        context_length=length,
        kv_cache_precision=kv,
        engine_version=version,
        engine_overrides=tuple((name.replace("_", "-"), value) for name, value in flags.items() if value),
        modalities=frozenset({"text"} if text_only else {"text", "image"}),
        every_tower=not text_only,
    )
    variant = packaged().variants[found.variant]
    return Fitting(request, packaged()).fit(Candidate(variant, found, found.precision, a_pool(card), gpus))


@pytest.mark.parametrize("name", SERVED)
def test_what_served_is_not_called_impossible_outside_the_band(name):
    row = LOGS[name]
    assert row["outcome"].startswith("serves")
    verdict = fitted(
        *SERVED[name],
        gpus=int(row["tensor_parallel"]),
        version=version_of(row),
        length=int(row["max_model_len"]),
        kv="FP8" if row["kv_dtype"] == "fp8" else "BF16",
        max_num_batched_tokens=row["batched_tokens_effective"] or "2048",
        max_num_seqs=row["sequences_effective"] or "256",
        gpu_memory_utilization=f"{float(row['gpu_memory_utilization']):.2f}",
        enforce_eager="true" if row["eager"] == "yes" else "",
        text_only=row["multimodal"].startswith(("text only preset", "text only (")),
    )
    if not isinstance(verdict, Fit):
        sizes = verdict.details
        short = sizes["needed_mib"] - sizes["available_mib"]
        assert short < GIB_MIB, f"{short} MiB short"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", FAILED)
def test_what_failed_is_not_called_safe(name, version):
    checkpoint, card, length, utilization = FAILED[name]
    assert "serves" not in LOGS[name]["outcome"]
    gpus = int(LOGS[name]["tensor_parallel"])
    verdict = fitted(
        checkpoint, card, gpus=gpus, version=version, length=length, gpu_memory_utilization=utilization
    )
    assert not isinstance(verdict, Fit) or verdict.tight


def test_every_failure_of_a_catalogued_card_is_looked_at():
    """The others: sleep mode (A10) and TPU, which are cases of their own."""
    failures = {
        i for i, row in LOGS.items() if row["family"] == "gemma4" and not row["outcome"].startswith("serves")
    }
    unsaid = {i for i in failures if not LOGS[i]["outcome"]}
    assert failures - unsaid - set(FAILED) == {"G4-013", "G4-042"}
