"""The simulator against what vLLM 0.32.0 itself answered: metric families and routes."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gemma_operator.sandbox.simulator import routes
from gemma_operator.sandbox.simulator.exposition import Exposition

RECORDED = Path(__file__).parents[2] / "data" / "vllm-0.32"


def _families(text: str) -> dict[str, tuple[str, str]]:
    return {
        family.name: (family.type, family.documentation) for family in text_string_to_metric_families(text)
    }


def _series(text: str) -> set[tuple[str, frozenset[str]]]:
    return {
        (sample.name, frozenset(sample.labels))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _points(text: str) -> set[tuple[str, str]]:
    """Every sample with those label values that are not a model's own."""
    free = {"model_name", "num_gpu_blocks", "block_size", "effective_attention_block_size"}
    free |= {"kv_cache_size_tokens", "kv_cache_max_concurrency", "kv_cache_memory_bytes"}
    return {
        (sample.name, repr(sorted((k, v) for k, v in sample.labels.items() if k not in free)))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def recorded() -> str:
    return (RECORDED / "metrics.txt").read_text()


@pytest.fixture
def exposition() -> Exposition:
    return Exposition(model="chat", kv_cache_tokens=1000, max_model_len=500)


def test_families_types_and_help_are_vllms(recorded, exposition):
    assert _families(exposition.render().decode()) == _families(recorded)


def test_every_sample_has_vllms_label_names(recorded, exposition):
    assert _series(exposition.render().decode()) == _series(recorded)


def test_buckets_reasons_and_sources_are_vllms(recorded, exposition):
    assert _points(exposition.render().decode()) == _points(recorded)


def test_a_fresh_server_has_counted_nothing(exposition):
    info = {"python_info", "vllm:cache_config_info", "vllm:engine_sleep_state"}
    for family in text_string_to_metric_families(exposition.render().decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created") and family.name not in info:
                assert sample.value == 0 or sample.name == "process_start_time_seconds", sample.name


def test_the_served_name_is_in_every_vllm_sample(exposition):
    for family in text_string_to_metric_families(exposition.render().decode()):
        if family.name.startswith("vllm:") and family.name != "vllm:cache_config_info":
            assert {sample.labels["model_name"] for sample in family.samples} == {"chat"}, family.name


def test_a_name_with_quotes_stays_one_label():
    odd = Exposition(model='a"b\\c', kv_cache_tokens=16, max_model_len=16)
    odd.add("vllm:generation_tokens_total", 3)
    names = {
        sample.labels["model_name"]
        for family in text_string_to_metric_families(odd.render().decode())
        for sample in family.samples
        if "model_name" in sample.labels
    }
    assert names == {'a"b\\c'}


def test_the_kv_cache_is_told_in_blocks(exposition):
    text = exposition.render().decode()
    (info,) = [f for f in text_string_to_metric_families(text) if f.name == "vllm:cache_config_info"]
    labels = info.samples[0].labels
    assert int(labels["num_gpu_blocks"]) * int(labels["block_size"]) == 1008


def test_a_histogram_counts_cumulatively(exposition):
    exposition.observe("vllm:request_generation_tokens", 7)
    exposition.observe("vllm:request_generation_tokens", 30)
    samples = {
        sample.labels.get("le", sample.name): sample.value
        for family in text_string_to_metric_families(exposition.render().decode())
        if family.name == "vllm:request_generation_tokens"
        for sample in family.samples
    }
    assert (samples["5.0"], samples["10.0"], samples["50.0"], samples["+Inf"]) == (0, 1, 2, 2)
    assert samples["vllm:request_generation_tokens_sum"] == 37
    assert samples["vllm:request_generation_tokens_count"] == 2


def test_a_sample_that_vllm_does_not_have_cannot_be_counted(exposition):
    with pytest.raises(KeyError):
        exposition.add("vllm:invented_total")
    with pytest.raises(KeyError):
        exposition.put("vllm:invented", 1)


def test_routes_are_vllms():
    lines = (RECORDED / "routes.txt").read_text().splitlines()
    listed = {}
    for line in lines:
        path, _, methods = line.partition(", Methods: ")
        listed.setdefault(path, set()).update(methods.split(", "))
    assert {path: set(methods) for path, methods in routes.table().items()} == listed


def test_what_is_simulated_exists_in_vllm():
    for method, path in routes.SIMULATED:
        assert method in (routes.methods(path) or ())


def test_a_templated_route_is_found():
    assert routes.methods("/v1/responses/abc") == {"GET"}
    assert routes.methods("/v1/responses/abc/cancel") == {"POST"}
    assert routes.methods("/v1/nothing") is None
