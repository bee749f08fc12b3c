"""What adapters take of a GPU."""

import csv
from pathlib import Path

import pytest

from gemma_operator.api.parse import parse_deployment
from gemma_operator.catalog.loader import packaged
from gemma_operator.planner import sums
from gemma_operator.planner.fit import Fitting
from gemma_operator.planner.request import from_spec, inputs_hash
from gemma_operator.planner.values import Adapters, Candidate, Code, Rejection
from gemma_operator.planner.vllm.adapters import buffer_bytes
from unit.planner.shapes import a_pool, a_request

with (Path(__file__).parents[2] / "data" / "vllm-0.32" / "lora-buffers.csv").open() as file:
    ROWS = list(csv.DictReader(file))


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['model']}-{row['tensor_parallel']}-{row['max_lora_rank']}"
)
def test_the_buffers_are_those_that_the_engines_own_classes_allocate(row):
    variant = packaged().variants[row["model"]]
    adapters = Adapters(count=int(row["max_loras"]), rank=int(row["max_lora_rank"]))
    assert buffer_bytes(variant, adapters, tensor_parallel=int(row["tensor_parallel"])) == int(row["bytes"])


@pytest.mark.parametrize("name", packaged().variants)
def test_the_widths_are_those_of_the_parameters(name):
    """Widths and parameter counts come from the same configurations, so each gives the other."""
    variant = packaged().variants[name]
    linears = variant.linears
    dense = sum(3 * linears.hidden * layers * width for layers, width in linears.feed_forward)
    assert variant.parameters["mlp"] == dense
    experts = linears.experts
    held = 3 * linears.hidden * experts.layers * experts.count * experts.width if experts else 0
    assert variant.parameters.get("experts", 0) == held
    assert variant.parameters["embedding"] == 262144 * linears.hidden
    layers = sum(count for count, _ in linears.feed_forward)
    assert variant.parameters.get("perLayerEmbedding", 0) == 262144 * layers * linears.per_layer_input
    only = linears.queries_only_sliding + linears.queries_only_full
    assert variant.sliding.layers + variant.full.layers + only == layers


def fitted(variant, *, gpus=1, pool="nvidia-h100-80gb", **asked):
    catalog = packaged()
    request = a_request(variant, precisions=("bf16",), context_length=8192, **asked)
    checkpoint = next(c for c in catalog.checkpoints if (c.variant, c.precision) == (variant, "bf16"))
    candidate = Candidate(catalog.variants[variant], checkpoint, "bf16", a_pool(pool), gpus)
    return request, Fitting(request, catalog).fit(candidate)


def test_two_adapters_take_their_buffers_from_the_kv_cache_and_are_said_on_the_command_line():
    _, plain = fitted("12B")
    _, fit = fitted("12B", adapters=2)
    assert fit.settings.adapters == Adapters(count=2, rank=64)
    taken = fit.memory.weights_bytes - plain.memory.weights_bytes
    assert taken == 2 * 1587019776 // 3  # the engine's own figure for three of that rank
    assert plain.memory.kv_cache_bytes - fit.memory.kv_cache_bytes == taken
    assert fit.unverified == ("what CUDA graphs take with adapters",)
    assert plain.settings.adapters is None


def test_three_adapters_on_experts_do_not_fit_beside_the_model_on_one_card():
    """16 GB of buffers beside 48.5 GiB of weights leave nothing of an A100 with 80 GB for 64K tokens x 8."""
    asked = {"pool": "nvidia-a100-80gb", "concurrency": 8}
    assert not isinstance(fitted("26B-A4B", **asked)[1], Rejection)
    _, refused = fitted("26B-A4B", adapters=6, **asked)
    assert refused.code is Code.WEIGHTS_TOO_LARGE


def test_the_whole_sum_shows_the_buffers():
    request, fit = fitted("12B", adapters=3)
    found = sums.sum_of(fit.candidate, fit, request=request, catalog=packaged())
    assert [line.size_bytes for line in found.lines if line.label == "adapters"] == [1587019776]
    assert found.weights_bytes == fit.memory.weights_bytes


def asked_by(adapters):
    source = {"huggingFace": {"repo": "team/support", "revision": "0" * 40}}
    model = {"variants": ["12B"], "adapters": [{"name": name, "source": source} for name in adapters]}
    deployment = parse_deployment(
        {
            "apiVersion": "gemma-operator.io/v1alpha1",
            "kind": "GemmaDeployment",
            "metadata": {"name": "chat", "namespace": "team"},
            "spec": {"model": model},
        }
    )
    return from_spec("team", deployment.spec)


def test_the_number_of_adapters_is_an_input_of_the_plan():
    one, two = asked_by(["support"]), asked_by(["support", "sales"])
    assert (one.adapters, two.adapters) == (1, 2)
    assert inputs_hash(one) != inputs_hash(two)
